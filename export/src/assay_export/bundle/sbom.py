"""Write an SBOM: the packages that make artifacts as an SPDX 2.3 document, with their unambiguous licences."""

import json
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from assay_deploy.engines.onnxruntime.runtime import installed_runtimes
from assay_export._version import __version__

ROOT = "assay-export"

MAKERS = ("numpy", "onnx", "onnxscript", "pillow", "torch", "torchvision")
"""Packages that make artifacts, used where assay-export is not installed and has no metadata with requirements."""

UNKNOWN = "NOASSERTION"

CLASSIFIERS = {
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Classifiers that name exactly one licence. Most others do not: PEP 639, appendix "Mapping License Classifiers to SPDX
Identifiers", forbids to infer anything from ``BSD License`` or ``Apache Software License``."""

PYTHON = "SPDXRef-Python"


def document(name: str, created: datetime) -> bytes:
    """Return an SPDX document of Python, assay-export, the gate's ONNX Runtime and all their installed requirements.

    The same packages, name and time give the same bytes: the document does not depend on the machine. SPDX:
    https://spdx.github.io/spdx-spec/v2.3/. Names of packages are purls: https://github.com/package-url/purl-spec.

    Args:
        name: name of the document.
        created: time of creation, with a time zone; rounded down to seconds.

    Returns:
        JSON, UTF-8.
    """
    assert created.tzinfo is not None
    found = _installed()
    contents: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "creationInfo": {
            "created": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: {ROOT}-{__version__}"],
        },
        "packages": [_python(), *(_package(package) for package, _ in found.values())],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", _identifier(ROOT)),
            _relation(_identifier(ROOT), "DEPENDS_ON", PYTHON),
            *(
                _relation(_identifier(one), "DEPENDS_ON", _identifier(other))
                for one, (_, required) in found.items()
                for other in sorted(required)
            ),
        ],
    }
    # clause 6.5: the URI need not resolve, but must be unique to this document
    unique = uuid5(NAMESPACE_URL, json.dumps(contents, sort_keys=True))
    contents["documentNamespace"] = f"https://spdx.org/spdxdocs/{quote(name, safe='')}-{unique}"
    return (json.dumps(contents, indent=2) + "\n").encode()


def _installed() -> dict[str, tuple[Distribution | None, set[str]]]:
    """Return every package and the names of its requirements, sorted by name.

    Requirements that are not installed are left out: a torch for the CPU lists CUDA's libraries without needing them.
    The package is None for assay-export if it runs from a checkout.
    """
    found: dict[str, tuple[Distribution | None, set[str]]] = {}
    waiting = [(ROOT, frozenset[str]()), *((name, frozenset[str]()) for name in installed_runtimes())]
    done = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        package = _find(name)
        _, required = found.setdefault(name, (package, set()))
        for requirement in _requirements(package, extras):
            other = canonicalize_name(requirement.name)
            if _find(other) is not None:
                required.add(other)
                waiting.append((other, frozenset(requirement.extras)))
    found[ROOT][1].update(installed_runtimes())
    return dict(sorted(found.items()))


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _requirements(package: Distribution | None, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield the requirements of a package with these extras that apply to this Python and machine."""
    for line in MAKERS if package is None else package.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _python() -> dict[str, Any]:
    implementation, number = sys.implementation.name, platform.python_version()
    return _entry(PYTHON, implementation, number, UNKNOWN) | _purl(f"pkg:generic/{implementation}@{quote(number)}")


def _package(package: Distribution | None) -> dict[str, Any]:
    if package is None:
        return _entry(_identifier(ROOT), ROOT, __version__, "Apache-2.0")
    name, number = package.metadata["Name"], package.version
    entry = _entry(_identifier(name), name, number, _licence(package))
    stated = package.metadata["License-Expression"]
    if entry["licenseDeclared"] == UNKNOWN and stated:
        entry["licenseComments"] = f"The package states {stated}."
    if package.read_text("direct_url.json") is not None:
        return entry  # installed from a folder, file or repository: it differs from PyPI's package of that name
    return entry | _purl(f"pkg:pypi/{canonicalize_name(name)}@{quote(number, safe='')}")


def _entry(identifier: str, name: str, number: str, licence: str) -> dict[str, Any]:
    return {
        "SPDXID": identifier,
        "name": name,
        "versionInfo": number,
        "supplier": UNKNOWN,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence,
        "copyrightText": UNKNOWN,
    }


def _purl(locator: str) -> dict[str, Any]:
    reference = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}
    return {"externalRefs": [reference]}


def _licence(package: Distribution) -> str:
    """Return the licence as an SPDX expression, or `UNKNOWN`.

    The field ``License-Expression`` is read first, then the old ``License``, if its text is a valid expression. A
    ``LicenseRef-`` gives `UNKNOWN`, since it would need the licence's text in the document.
    """
    for field in ("License-Expression", "License"):
        try:
            expression = str(canonicalize_license_expression(package.metadata[field] or ""))
        except InvalidLicenseExpression:
            continue
        return UNKNOWN if "LicenseRef-" in expression else expression
    stated = [line for line in package.metadata.get_all("Classifier") or () if line.startswith("License :: ")]
    return CLASSIFIERS.get(stated[0], UNKNOWN) if len(stated) == 1 else UNKNOWN


def _identifier(name: str) -> str:
    return f"SPDXRef-Package-{canonicalize_name(name)}"


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
