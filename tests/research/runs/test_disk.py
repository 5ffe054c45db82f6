"""A training knows what it will write, and does not start where that does not fit."""

import shutil
from pathlib import Path

import pytest
import torch

from assay_deploy.errors import AssayError
from assay_research.runs import checkpoint
from assay_research.runs.disk import DiskError, check, checkpoints_to_write, readable, write_atomically


@pytest.mark.parametrize("save_every", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("done", [0, 1, 4, 10])
def test_checkpoints_are_counted_as_a_training_writes_them(done, save_every):
    def kept(epochs: range) -> set[str]:
        numbered = {f"epoch-{epoch}" for epoch in epochs if save_every and epoch % save_every == 0}
        return numbered | ({"best", "last"} if epochs else set())

    there, wanted = kept(range(1, done + 1)), kept(range(1, 11))
    assert checkpoints_to_write(done, 10, save_every) == len(wanted - there) + 1


def test_too_little_space_is_refused_with_both_figures_and_a_way_out(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    check(tmp_path, free // 2)
    with pytest.raises(
        DiskError, match=r"will write about .* to '.*new', but only .* are free.*save_every=0"
    ) as caught:
        check(tmp_path / "not" / "yet" / "new", 2 * free)
    assert isinstance(caught.value, AssayError)
    assert readable(2 * free) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_relative_folder_that_is_not_there_is_measured_where_it_will_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(Path("runs"), 1)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (999_960, "1.0 MB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_are_readable(size, words):
    assert readable(size) == words


@pytest.mark.parametrize("write", [lambda path: checkpoint.save({"model": {"w": torch.ones(10**6)}}, path),
                                   lambda path: write_atomically(b"{}", path)])  # fmt: skip
def test_full_disk_is_one_error_and_leaves_the_old_file_and_no_part_of_the_new(tmp_path, write):
    path = tmp_path / "last.pt"
    path.write_bytes(b"old")
    path.with_name("last.pt.partial").symlink_to("/dev/full")  # every write to it fails as on a full disk
    with pytest.raises(DiskError, match=r"last\.pt' cannot be written \(No space left on device\)"):
        write(path)
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]
    assert path.read_bytes() == b"old"
