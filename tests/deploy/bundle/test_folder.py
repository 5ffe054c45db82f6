"""A manifest is read exactly as written, or refused; a file is used only if it is the one that was hashed."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from assay_deploy.bundle.folder import (
    CHECKSUM,
    MANIFEST,
    checksum,
    read_manifest,
    read_verified,
    sha256,
    write_manifest,
)
from assay_deploy.bundle.manifest import File, Manifest
from assay_deploy.bundle.strict_json import encode
from assay_deploy.errors import BundleError
from tests.deploy.mutations import Document, change_somewhere, edit, sign


def test_what_is_written_is_read(bundle: Path, manifest: Manifest) -> None:
    changed = replace(manifest, labels=("größer", "鳥", "a\xa0b", "\N{BIRD}", "e"))
    write_manifest(changed, bundle)
    assert read_manifest(bundle) == changed


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"1" * 10_000,
        b"{}" * 2,
        b" " * (1 << 21),
    ],
)
def test_what_is_no_manifest_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=MANIFEST):
        read_manifest(bundle)


def test_a_truncated_manifest_is_refused_wherever_it_ends(bundle: Path) -> None:
    path = bundle / MANIFEST
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(BundleError, match="not valid JSON"):
            read_manifest(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["labels"].reverse(),
        lambda d: d["artifacts"][0]["tolerances"].update(logits=1.0),
        lambda d: d["preprocess"].update(fit="letterbox"),
        lambda d: None,  # the same, without indentation
    ],
)
def test_a_manifest_that_was_altered_is_refused(bundle: Path, change: Callable[[Document], object]) -> None:
    edit(bundle, change, signed=False)
    with pytest.raises(BundleError, match=r"altered after it was written: .* Fetch or export the bundle again"):
        read_manifest(bundle)
    sign(bundle)
    read_manifest(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: b"",
        lambda line: line[:-1],
        lambda line: line[:-1] + b"\r\n",
        lambda line: line.upper(),
        lambda line: line.replace(b"  ", b" *"),
        lambda line: line.replace(b"manifest", b"manifesto"),
        lambda line: line * 2,
        lambda line: checksum(b"other"),
        lambda line: b"\xff" * len(line),
    ],
)
def test_a_checksum_that_is_not_the_manifests_is_refused(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    path = bundle / CHECKSUM
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match=r"altered after it was written"):
        read_manifest(bundle)


@pytest.mark.parametrize("put", [lambda path: None, Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_a_checksum_that_is_no_file_is_refused(bundle: Path, put: Callable[[Path], object]) -> None:
    (bundle / CHECKSUM).unlink()
    put(bundle / CHECKSUM)
    with pytest.raises(BundleError, match=r"there is no manifest\.sha256 in its folder"):
        read_manifest(bundle)


def test_sha256sum_checks_a_manifest(bundle: Path) -> None:
    def check() -> int:
        return subprocess.run(
            ["sha256sum", "--check", CHECKSUM], cwd=bundle, capture_output=True, check=False
        ).returncode

    assert check() == 0
    edit(bundle, lambda d: d["labels"].reverse(), signed=False)
    assert check() == 1


def test_another_version_is_told_before_an_altered_manifest(bundle: Path) -> None:
    edit(bundle, lambda d: d.update(version=99, guarded="otherwise"), signed=False)
    (bundle / CHECKSUM).unlink()
    with pytest.raises(BundleError, match="manifest version 99"):
        read_manifest(bundle)


def test_nesting_is_refused_however_deep(bundle: Path) -> None:
    whole = (bundle / MANIFEST).read_text()
    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit()):
        text = whole.replace('"tiny"', "[" * depth + "]" * depth, 1)
        (bundle / MANIFEST).write_text(text)
        sign(bundle)
        with pytest.raises(BundleError, match=MANIFEST):
            read_manifest(bundle)


def test_a_key_that_occurs_twice_is_refused(bundle: Path) -> None:
    path = bundle / MANIFEST
    path.write_text(path.read_text().replace('"name"', '"name": "other", "name"', 1))
    with pytest.raises(BundleError, match="occurs twice"):
        read_manifest(bundle)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(BundleError, match="no bundle at"):
        read_manifest(tmp_path / "nowhere")


def test_mutated_manifests_are_refused_or_read_to_the_letter(bundle: Path) -> None:
    path = bundle / MANIFEST
    whole = path.read_bytes()
    refused = 0
    for seed in range(400):
        generator = random.Random(seed)
        path.write_bytes(whole)
        for _ in range(generator.randint(1, 3)):
            if seed % 2:
                edit(bundle, partial(change_somewhere, generator))
            else:
                content = bytearray(path.read_bytes())
                content[generator.randrange(len(content))] = generator.randrange(256)
                path.write_bytes(content)
        sign(bundle)
        try:
            manifest = read_manifest(bundle)
        except BundleError as error:
            assert str(path) in str(error), seed  # noqa: PT017
            refused += 1
        else:  # nothing dropped, added or converted
            assert json.loads(json.dumps(encode(manifest))) == json.loads(path.read_bytes()), seed
    assert 200 < refused < 400


def test_one_flipped_byte_anywhere_in_a_file_is_noticed(bundle: Path, manifest: Manifest) -> None:
    artifact = manifest.artifact("onnx")
    path = bundle / artifact.path
    whole = path.read_bytes()
    assert read_verified(bundle, artifact) == whole
    for position in (0, len(whole) // 2, len(whole) - 1):
        content = bytearray(whole)
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(BundleError, match=r"model\.onnx: not the file that was proven"):
            read_verified(bundle, artifact)


def test_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (bundle / "link").symlink_to(tmp_path / "secret")
    (bundle / "folder").symlink_to(tmp_path)
    for path in ("link", "folder/secret"):
        with pytest.raises(BundleError, match="leads out of the bundle"):
            read_verified(bundle, File(path, sha256(b"secret")))


def test_a_link_inside_the_bundle_is_followed(bundle: Path, manifest: Manifest) -> None:
    (bundle / "alias").symlink_to("parity.json")
    assert read_verified(bundle, File("alias", manifest.parity.sha256)) == b"{}"


def test_a_bundle_reached_through_a_link_is_read(bundle: Path, tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "current").symlink_to(bundle)
    assert read_manifest(tmp_path / "current") == manifest
    assert read_verified(tmp_path / "current", manifest.parity) == b"{}"


def test_what_is_no_file_is_refused(bundle: Path) -> None:
    (bundle / "folder").mkdir()
    os.mkfifo(bundle / "pipe")
    (bundle / "circle").symlink_to("circle")
    for path, message in (
        ("folder", "not a regular file"),
        ("pipe", "not a regular file"),
        ("circle", "Too many levels"),
        ("gone", "No such"),
    ):
        with pytest.raises(BundleError, match=message):
            read_verified(bundle, File(path, sha256(b"")))
