"""A bundle is there whole or not at all, and only a bundle is ever replaced."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assay_deploy.bundle.folder import MANIFEST
from assay_export.bundle.publish import publish, working_folder
from assay_export.errors import ExportError


def make(bundles: Path, name: str, content: str) -> Path:
    """Publish a bundle of two files."""
    with working_folder(bundles, name) as unproven:
        (unproven / "model.onnx").write_text(content)
        (unproven / MANIFEST).write_text(content)
        return publish(unproven)


def fail_halfway(bundles: Path) -> None:
    with working_folder(bundles, "digits") as unproven:
        (unproven / "model.onnx").write_text("half")
        unproven.write_text("this is what goes wrong: it is a folder")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def read(bundle: Path) -> set[str]:
    """What the bundle's files hold: one thing, if they are of one export."""
    assert names(bundle) == {"model.onnx", MANIFEST}
    return {path.read_text() for path in bundle.iterdir()}


def test_a_bundle_is_published_under_its_name(tmp_path):
    assert read(make(tmp_path / "deep" / "bundles", "digits", "new")) == {"new"}
    assert names(tmp_path / "deep" / "bundles") == {"digits"}


def test_a_new_bundle_replaces_an_older_one(tmp_path):
    make(tmp_path, "digits", "old")
    assert read(make(tmp_path, "digits", "new")) == {"new"}
    assert names(tmp_path) == {"digits"}


def test_a_failed_export_leaves_the_older_bundle_and_its_own_folder(tmp_path):
    make(tmp_path, "digits", "old")
    with pytest.raises(IsADirectoryError):
        fail_halfway(tmp_path)
    assert read(tmp_path / "digits") == {"old"}
    assert names(tmp_path / "digits.unproven") == {"model.onnx"}


def test_what_an_earlier_failure_left_is_replaced(tmp_path):
    (tmp_path / "digits.unproven").mkdir()
    (tmp_path / "digits.unproven" / "stale").write_text("stale")
    assert read(make(tmp_path, "digits", "new")) == {"new"}
    assert names(tmp_path) == {"digits"}


def test_a_bundle_on_its_way_out_comes_back_if_the_swap_was_killed(tmp_path):
    make(tmp_path, "digits", "old").rename(tmp_path / "digits.replaced")  # the state between the two renames
    with working_folder(tmp_path, "digits"):
        pass  # the next export, which may fail
    assert read(tmp_path / "digits") == {"old"}


def test_a_half_deleted_old_bundle_never_comes_back(tmp_path):
    make(tmp_path, "digits", "old").rename(tmp_path / "digits.replaced")
    (tmp_path / "digits.replaced" / MANIFEST).unlink()  # the first thing a deletion does
    with working_folder(tmp_path, "digits"):
        pass
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "/etc", "-rf", ".hidden", "a b", "x.unproven", "x.replaced"]
)
def test_a_name_that_is_no_plain_file_name_is_refused(name, tmp_path):
    with pytest.raises(ExportError, match="cannot be a bundle's name"), working_folder(tmp_path / "bundles", name):
        pass
    assert names(tmp_path) == set()


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to(make(tmp_path, "digits", "old"))
    for name in ("docs", "file", "link"):
        with pytest.raises(ExportError, match="is not replaced"), working_folder(tmp_path, name):
            pass
    assert (tmp_path / "docs" / "thesis.tex").read_text() == "years of work"
    assert read(tmp_path / "digits") == {"old"}


def test_two_exports_of_one_name_exclude_each_other(tmp_path):
    with (
        working_folder(tmp_path, "digits"),
        pytest.raises(ExportError, match="another export"),
        working_folder(tmp_path, "digits"),
    ):
        pass


def test_an_export_killed_on_its_way_leaves_the_older_bundle_whole(bundle, plain_run, tmp_path):
    old = tmp_path / "digits"
    shutil.copytree(bundle.folder, old)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    arguments = [f"run={plain_run.folder}", f"bundles={tmp_path}"]
    command = [sys.executable, "-m", "assay_export.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        seen = b""
        while b"prove model.onnx" not in seen:
            chunk = os.read(process.stdout.fileno(), 4096)
            assert chunk, f"ended before it was killed: {seen!r}"
            seen += chunk
        process.send_signal(signal.SIGKILL)
        assert process.stderr.read() == b"", "the exporters' chatter reaches the user"
    assert process.returncode == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    assert names(tmp_path) == {"digits", "digits.unproven"}
    with working_folder(tmp_path, "digits"):  # the lock fell with its holder
        pass
