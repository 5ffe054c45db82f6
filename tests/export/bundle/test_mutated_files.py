"""An exported file that is not as it was written is refused, and content that was hashed anew crashes no loader."""

import contextlib
import random
from dataclasses import replace

import numpy as np
import pytest

from assay_deploy.bundle.folder import CHECKSUM, MANIFEST, read_manifest, sha256
from assay_deploy.doctor import examine
from assay_deploy.errors import AssayError, BundleError
from assay_export.errors import ExportError
from assay_export.formats import archive
from assay_export.formats import registry as formats
from assay_export.formats.registry import default_place
from tests.deploy.mutations import any_fault, mutated, snapshot, spoilt


def test_no_altered_file_of_an_export_runs(bundle, tmp_path):
    whole = snapshot(bundle.folder)
    refused = 0
    for folder in mutated(bundle.folder, tmp_path, any_fault, 300):
        altered = {name for name, content in whole.items() if snapshot(folder).get(name) != content}
        refused += bool(altered)
        try:
            manifest = read_manifest(folder)
        except BundleError:
            assert altered & {MANIFEST, CHECKSUM}, folder
            assert examine(folder, provider="cpu")["problems"]
            continue
        assert manifest == bundle.manifest, folder
        for artifact in manifest.artifacts:
            if artifact.path in altered:
                with pytest.raises(BundleError):
                    formats.start(folder, manifest, artifact, default_place(artifact, "cpu"))
        assert bool(altered) == bool(examine(folder, provider="cpu")["problems"]), folder
    assert refused > 280


def spoilt_record(generator: random.Random, content: bytes) -> bytes:
    """An archive that is whole, but for what is in one of its records."""
    records = archive.read(content)
    name = generator.choice([name for name, record in records.items() if record])
    return archive.write(records | {name: spoilt(generator, records[name])})


@pytest.mark.parametrize(
    ("path", "spoil", "n"),
    [
        ("model.onnx", spoilt, 50),
        ("model.torchscript", spoilt, 50),
        ("model.torchscript", spoilt_record, 50),
        ("exported.pt2", spoilt, 50),
        ("exported.pt2", spoilt_record, 15),
    ],
)
def test_content_that_was_hashed_anew_is_refused_or_runs(bundle, path, spoil, n, tmp_path):
    artifact = next(each for each in bundle.manifest.artifacts if each.path == path)
    whole = (bundle.folder / path).read_bytes()
    refused = 0
    for seed in range(n):
        content = spoil(random.Random(seed), whole)
        (tmp_path / path).write_bytes(content)
        try:
            run = formats.start(
                tmp_path, bundle.manifest, replace(artifact, sha256=sha256(content)), default_place(artifact, "cpu")
            )
        except AssayError:
            refused += 1
        else:
            with contextlib.suppress(RuntimeError):  # torch's own
                run(np.zeros((2, 32, 32, 3), np.uint8))
    assert refused > n / 4


def fewer_bytes(records):
    name = next(name for name in records if name.endswith(("/data/34", "/weight_0")))
    records[name] = records[name][4:]


def larger_tensor(records):
    image = b"K\x01K\x01K\x20K\x20"  # sizes, as a pickle has them
    assert image in records["archive/data.pkl"]
    records["archive/data.pkl"] = records["archive/data.pkl"].replace(image, image.replace(b"\x20", b"\xff"), 1)


@pytest.mark.parametrize(
    ("path", "change"),
    [("exported.pt2", fewer_bytes), ("model.torchscript", fewer_bytes), ("model.torchscript", larger_tensor)],
)
def test_tensors_that_reach_beyond_their_bytes_are_refused(bundle, path, change, tmp_path):
    """TorchScript's own loader takes them, and the process dies."""
    artifact = next(each for each in bundle.manifest.artifacts if each.path == path)
    records = archive.read((bundle.folder / path).read_bytes())
    change(records)
    content = archive.write(records)
    (tmp_path / path).write_bytes(content)
    with pytest.raises(
        ExportError, match=r"torch .* cannot load the file \(.*\)\. It is damaged, or was written by another torch"
    ):
        formats.start(
            tmp_path, bundle.manifest, replace(artifact, sha256=sha256(content)), default_place(artifact, "cpu")
        )


def test_an_altered_package_is_refused_before_it_can_run(bundle, tmp_path):
    artifact = replace(bundle.manifest.artifacts[0], format="aoti", path="aoti-cpu.pt2", sha256=sha256(b"proven"))
    (tmp_path / artifact.path).write_bytes(b"altered")
    with pytest.raises(BundleError, match="not the file that was proven"):
        formats.start(tmp_path, bundle.manifest, artifact, default_place(artifact, "cpu"))
