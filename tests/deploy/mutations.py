"""What can befall a bundle: one fault from each generator of random numbers."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from assay_deploy.bundle.folder import CHECKSUM, MANIFEST, checksum, sha256

Document = dict[str, Any]


def sign(bundle: Path) -> None:
    """Have the checksum name the manifest as it is now."""
    (bundle / CHECKSUM).write_bytes(checksum((bundle / MANIFEST).read_bytes()))


def edit(bundle: Path, change: Callable[[Document], object], *, signed: bool = True) -> None:
    """Change the manifest's JSON."""
    path = bundle / MANIFEST
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    if signed:
        sign(bundle)


def hash_anew(bundle: Path) -> None:
    """Have the manifest name every file as it is now."""

    def change(document: Document) -> None:
        for entry in (*document["artifacts"], *(document[key] for key in ("probe", "parity", "report", "sbom"))):
            entry["sha256"] = sha256((bundle / entry["path"]).read_bytes())

    edit(bundle, change)


def snapshot(bundle: Path) -> dict[str, bytes | str]:
    """What each file holds, or what else it is."""

    def look(path: Path) -> bytes | str:
        if path.is_symlink():
            return f"link to {path.readlink()}"
        return path.read_bytes() if path.is_file() else "no file"

    return {path.name: look(path) for path in bundle.iterdir()}


def mutated(master: Path, folder: Path, fault: Callable[[random.Random, Path], None], n: int) -> Iterator[Path]:
    """So many copies of a bundle, each with a fault; one is there at a time."""
    for seed in range(n):
        bundle = Path(shutil.copytree(master, folder / f"{seed}" / master.name))
        fault(random.Random(seed), bundle)
        yield bundle
        shutil.rmtree(bundle.parent)


def any_fault(generator: random.Random, bundle: Path) -> None:
    """A file or the manifest is not what it was, and nobody hashed it anew."""
    if generator.random() < 0.7:
        file_fault(generator, _any_file(generator, bundle))
    else:
        edit(bundle, lambda document: manifest_fault(generator, document), signed=False)


def any_signed_fault(generator: random.Random, bundle: Path) -> None:
    """The same, and hashes that agree with it."""
    if generator.random() < 0.5:
        path = generator.choice([path for path in sorted(bundle.iterdir()) if path.name not in (MANIFEST, CHECKSUM)])
        path.write_bytes(spoilt(generator, path.read_bytes()))
        hash_anew(bundle)
    else:
        edit(bundle, lambda document: manifest_fault(generator, document))


def spoilt(generator: random.Random, content: bytes) -> bytes:
    """Some bytes are others, gone, there twice or too many."""
    start = generator.randrange(len(content))
    end = min(len(content), start + generator.randint(1, 64))
    return generator.choice(
        [
            content[:start] + bytes([content[start] ^ 1 << generator.randrange(8)]) + content[start + 1 :],
            content[:start],
            content[:start] + content[end:],
            content[:end] + content[start:],
            content[:start] + generator.randbytes(end - start) + content[end:],
            content[:start] + generator.randbytes(end - start) + content[start:],
            content[:start] + b"\xff\xfe" + content[start:],
            b"",
        ]
    )


def file_fault(generator: random.Random, path: Path) -> None:
    """A file is spoilt, another one's, gone, or no file of the bundle."""
    content, bundle = path.read_bytes(), path.parent
    if generator.random() < 0.5:
        path.write_bytes(spoilt(generator, content))
        return
    if generator.random() < 0.2:
        other = _any_file(generator, bundle)
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
        return
    outside = bundle.parent / "outside"
    path.unlink()
    outside.write_bytes(generator.choice([content, spoilt(generator, content)]))
    put: Callable[[Path], object] = generator.choice(
        [
            lambda path: path.symlink_to(outside),
            lambda path: path.symlink_to(Path("..", "outside")),
            lambda path: path.symlink_to(path.name),
            lambda path: None,
            Path.mkdir,
            os.mkfifo,
        ]
    )
    put(path)


def manifest_fault(generator: random.Random, document: Document) -> None:
    """A key or value of the manifest is another: mostly any, else one that is made to harm."""
    if generator.random() < 0.5:
        change_somewhere(generator, document)
        return
    file = generator.choice([*document["artifacts"], *(document[key] for key in ("probe", "parity", "report", "sbom"))])
    deep: Any = 0
    for _ in range(generator.choice([50, 500, 900])):
        deep = [deep] if generator.random() < 0.5 else {"deep": deep}
    paths = ["../outside", "/etc/passwd", "a/../../outside", "..", ".", "", "a\\b", "C:a", "x" * 5000, MANIFEST]
    changes: list[tuple[Any, Any, Any]] = [
        (file, "path", generator.choice(paths)),
        (file, "sha256", generator.choice([sha256(b""), "0" * 64, file["sha256"].upper(), "", None])),
        (document, generator.choice(list(document)), deep),
        (document["toolchain"], generator.choice(["\ud800", "\x1b[2J", "\0", "\u202e"]), "1"),
        (document["labels"], 0, generator.choice(["\udc80", "\n", "\u202e", "x" * 100_000])),
        (document["artifacts"][0], "tolerances", dict.fromkeys(document["artifacts"][0]["outputs"], 1e300)),
        (document["artifacts"][0], "views", generator.choice([0, -1, 10**18, 10**4000])),
        (document["preprocess"], "height", generator.choice([0, 1, 10**9, 10**4000, 1e308])),
        (document, "version", generator.choice([0, document["version"] + 1, 10**4000, "x" * 10**5, [], deep])),
        (document, "labels", document["labels"][::-1]),
    ]
    place, key, value = generator.choice(changes)
    place[key] = value


def change_somewhere(generator: random.Random, document: Any) -> None:
    """Delete, rename, retype or duplicate something, somewhere."""
    spot = document
    while True:
        keys: list[Any] = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        if not keys:
            spot.update(new=1) if isinstance(spot, dict) else spot.append(None)
            return
        key = generator.choice(keys)
        if isinstance(spot[key], dict | list) and generator.random() < 0.8:
            spot = spot[key]
            continue
        junk: list[Any] = [None, True, -1, 1e300, "", "../x", "\0", [], {}, [[]], {"a": 1}, 10**30, "x" * 100]
        action = generator.randrange(4)
        if action == 0:
            del spot[key]
        elif action == 1 and isinstance(spot, dict):
            spot[f"{key}_"] = spot.pop(key)
        elif action == 2 and isinstance(spot, list):
            spot.append(spot[key])
        else:
            spot[key] = generator.choice(junk)
        return


def _any_file(generator: random.Random, bundle: Path) -> Path:
    return generator.choice(sorted(bundle.iterdir()))
