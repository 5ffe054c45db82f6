"""The bill of materials is valid SPDX, lists what an export requires here, and states no licence it is not sure of."""

import getpass
import json
import platform
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from importlib import metadata
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from assay_export.bundle import sbom

NOON = datetime(2026, 1, 2, 12, 30, 15, tzinfo=UTC)


def read(name: str = "digits", created: datetime = NOON) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(sbom.document(name, created))
    return document


def packages(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {package["name"]: package for package in document["packages"]}


def edges(document: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (relation["spdxElementId"], relation["relationshipType"], relation["relatedSpdxElement"])
        for relation in document["relationships"]
    }


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make packages that hide the installed ones of their name."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sbom, "installed_runtimes", dict)

    def add(name: str, *lines: str, number: str = "1.0", origin: str | None = None) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{number}.dist-info"
        folder.mkdir()
        header = ("Metadata-Version: 2.4", f"Name: {name}", f"Version: {number}")
        (folder / "METADATA").write_text("\n".join((*header, *lines)) + "\n", encoding="utf-8")
        if origin:
            (folder / "direct_url.json").write_text(json.dumps({"url": origin}), encoding="utf-8")

    return add


@pytest.mark.parametrize("name", ["digits", "a name/with signs & ü"])
def test_document_is_valid_spdx(name: str) -> None:
    """By the validator of the SPDX project: fields, identifiers, licence expressions, references."""
    document = read(name)
    messages = validate_full_spdx_document(JsonLikeDictParser().parse(document), "SPDX-2.3")
    assert [message.validation_message for message in messages] == []
    assert re.fullmatch(r"https://[A-Za-z0-9./%_~-]+", document["documentNamespace"])  # which it does not check


def test_validator_finds_faults() -> None:
    faulty = read()
    faulty["packages"][1]["licenseDeclared"] = "Some Licence"
    faulty["relationships"][1]["relatedSpdxElement"] = "SPDXRef-nowhere"
    faulty["documentNamespace"] = "no address"
    messages = validate_full_spdx_document(JsonLikeDictParser().parse(faulty), "SPDX-2.3")
    assert len(messages) >= 3


def test_toolchain_is_listed_with_its_versions() -> None:
    found = packages(read())
    for name in ("assay-export", "assay-research", "assay-deploy", "torch", "torchvision", "onnx", "numpy", "sympy"):
        assert found[name]["versionInfo"] == version(name)
    assert "onnxruntime" in found or "onnxruntime-gpu" in found
    assert found[platform.python_implementation().lower()]["versionInfo"] == platform.python_version()
    assert "pytest" not in found  # installed here, but nothing an export needs


def test_requirements_are_followed_where_they_apply(install: Install) -> None:
    install(
        *("assay-export", "Requires-Dist: direct", "Requires-Dist: With.Extra[wanted]>=1", "Requires-Dist: absent"),
        'Requires-Dist: elsewhere; sys_platform == "nowhere"',
        'Requires-Dist: optional; extra == "more"',
        "Provides-Extra: more",
    )
    install("direct", "Requires-Dist: Deep_Name", "Requires-Dist: assay-export")  # in a circle
    install("with-extra", 'Requires-Dist: by-extra; extra == "wanted"', "Provides-Extra: wanted")
    for name in ("deep-name", "by-extra", "elsewhere", "optional"):
        install(name)
    document = read()
    assert set(packages(document)) - {platform.python_implementation().lower()} == {
        *("assay-export", "direct", "with-extra", "deep-name", "by-extra"),
    }
    reference = "SPDXRef-Package-"
    assert edges(document) == {
        ("SPDXRef-DOCUMENT", "DESCRIBES", f"{reference}assay-export"),
        (f"{reference}assay-export", "DEPENDS_ON", "SPDXRef-Python"),
        (f"{reference}assay-export", "DEPENDS_ON", f"{reference}direct"),
        (f"{reference}assay-export", "DEPENDS_ON", f"{reference}with-extra"),
        (f"{reference}direct", "DEPENDS_ON", f"{reference}deep-name"),
        (f"{reference}direct", "DEPENDS_ON", f"{reference}assay-export"),
        (f"{reference}with-extra", "DEPENDS_ON", f"{reference}by-extra"),
    }


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: apache-2.0 OR mit"], "Apache-2.0 OR MIT"),
        (["License-Expression: LicenseRef-Vendor"], "NOASSERTION"),
        (["License: MIT"], "MIT"),
        (["License: BSD"], "NOASSERTION"),
        (["Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["License: see LICENSE", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["Classifier: License :: OSI Approved :: BSD License"], "NOASSERTION"),
        (["Classifier: License :: OSI Approved :: Apache Software License"], "NOASSERTION"),
        (
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: ISC License (ISCL)",
            ],
            "NOASSERTION",
        ),
        ([], "NOASSERTION"),
    ],
)
def test_licence_is_stated_only_where_it_is_certain(install: Install, lines: list[str], licence: str) -> None:
    install("assay-export", *lines)
    package = packages(read())["assay-export"]
    assert package["licenseDeclared"] == licence
    assert package["licenseConcluded"] == "NOASSERTION"
    assert ("LicenseRef-Vendor" in package.get("licenseComments", "")) == ("LicenseRef" in " ".join(lines))


def test_only_packages_of_the_index_have_its_address(install: Install) -> None:
    install("assay-export", "Requires-Dist: Some_Thing", origin="file:///home/somebody/assay")
    install("Some-Thing", number="2.1+cpu")
    document = read()
    found = packages(document)
    assert "externalRefs" not in found["assay-export"]
    (reference,) = found["Some-Thing"]["externalRefs"]
    assert reference["referenceLocator"] == "pkg:pypi/some-thing@2.1%2Bcpu"
    assert "somebody" not in json.dumps(document)


def test_same_packages_name_and_time_give_the_same_bytes() -> None:
    assert sbom.document("digits", NOON) == sbom.document("digits", NOON)
    elsewhere = NOON.astimezone(timezone(timedelta(hours=9)))
    assert sbom.document("digits", elsewhere) == sbom.document("digits", NOON)
    assert b'"created": "2026-01-02T12:30:15Z"' in sbom.document("digits", NOON)


def test_namespace_is_one_document_s_alone(install: Install) -> None:
    install("assay-export", "Requires-Dist: other")
    spaces = [read()["documentNamespace"], read("other")["documentNamespace"]]
    spaces.append(read(created=NOON + timedelta(seconds=1))["documentNamespace"])
    install("other")
    spaces.append(read()["documentNamespace"])
    assert len(set(spaces)) == len(spaces)


def test_document_says_nothing_of_the_machine() -> None:
    content = sbom.document("digits", NOON).decode()
    assert socket.gethostname() not in content
    assert str(Path.cwd()) not in content
    assert "file:" not in content
    assert f"/{getpass.getuser()}/" not in content


def test_a_checkout_is_described_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> metadata.Distribution:
        if name.startswith("assay-"):
            raise metadata.PackageNotFoundError(name)
        return metadata.distribution(name)

    monkeypatch.setattr(sbom, "distribution", installed)
    found = json.loads(sbom.document("digits", datetime(2026, 1, 31, tzinfo=UTC)))
    names = {package["name"] for package in found["packages"]}
    assert {"assay-export", "torch", "onnx", "numpy"} <= names
    assert "assay-deploy" not in names
