"""A script that reads and prints as airbench does is given all images, read, and ended after its runs."""

from pathlib import Path

import pytest
import torch

from assay_deploy.images.canvas import Canvas
from assay_research.data.classification import ClassificationData, Split
from assay_research.errors import ConfigError
from benchmarks.contenders import airbench
from benchmarks.contenders.airbench import RunResult

HEAD = "|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |"
CLASSES = tuple("abcdefghij")


def row(*cells: object) -> str:
    return "|" + "|".join(f"  {cell!s:>6}  " for cell in cells) + "|\n"


def split(first: int, count: int) -> Split:
    """Images that are all different, each of the class its last digit names."""
    numbers = torch.arange(first, first + count)
    images = numbers.to(torch.uint8)[:, None, None, None].expand(-1, 32, 32, 3).contiguous()
    return Split(images, numbers % 10, tuple(map(str, numbers.tolist())))


@pytest.fixture
def data() -> ClassificationData:
    return ClassificationData("tens", CLASSES, Canvas(32, 32), split(0, 90), split(90, 10), split(100, 20))


def test_a_table_is_read_run_by_run_without_the_one_that_warms_up() -> None:
    lines = ["----\n", HEAD + "\n", "a warning | of a library\n"]
    for run, seconds in (("warmup", 9.0), (0, 2.0), (1, 2.5)):
        lines += [row(run, 0, 0.5, 0.4, "", seconds / 2), row("", 1, 0.9, 0.8, "", seconds)]
        lines += [row("", "eval", 0.9, 0.8, 0.85, seconds + 0.1)]
    assert list(airbench.read_results(lines)) == [RunResult(0.85, 2.0, 2.1), RunResult(0.85, 2.5, 2.6)]


def test_every_image_is_written_once_with_its_label_in_a_mixed_order(data: ClassificationData, tmp_path: Path) -> None:
    airbench.write_cache(data, tmp_path / "cifar10")
    train, test = (torch.load(tmp_path / "cifar10" / f"{part}.pt") for part in ("train", "test"))
    for found, numbers in ((train, range(100)), (test, range(100, 120))):
        assert found["images"].shape == (len(numbers), 32, 32, 3)
        assert sorted(found["images"][:, 0, 0, 0].tolist()) == list(numbers)
        assert torch.equal(found["images"][:, 0, 0, 0] % 10, found["labels"])
        assert found["classes"] == list(CLASSES)
    assert train["images"][:, 0, 0, 0].tolist() != list(range(100))


def test_a_script_is_run_where_its_images_lie_and_ended_after_its_runs(
    data: ClassificationData, tmp_path: Path
) -> None:
    script = tmp_path / "endless.py"
    script.write_text(f"""
import itertools, pathlib, sys
assert pathlib.Path("cifar10/train.pt").stat().st_size > 100 * 3072
for run in itertools.chain(["warmup"], itertools.count()):
    print({row("%s", 0, 0.5, 0.4, "", 1.5)!r} % run)
    print({row("", "eval", 0.5, 0.4, 0.45, 2.0)!r})
""")
    said: list[RunResult] = []
    assert airbench.run(script, data, 3, said.append) == [RunResult(0.45, 1.5, 2.0)] * 3 == said


def test_a_script_that_fails_is_quoted(data: ClassificationData, tmp_path: Path) -> None:
    script = tmp_path / "failing.py"
    script.write_text(f"print({row(0, 'eval', 0.5, 0.4, 0.45, 2.0)!r})\nraise SystemExit('no more memory')")
    with pytest.raises(ConfigError, match=r"exit code 1 after 1 of 2 runs:\n[^$]*no more memory"):
        airbench.run(script, data, 2, lambda _: None)


def test_images_it_is_not_written_for_are_refused(data: ClassificationData, tmp_path: Path) -> None:
    few = ClassificationData("few", CLASSES[:3], data.canvas, data.train, data.val, data.test)
    with pytest.raises(ConfigError, match="10 classes of 32x32 images, but 'few' has 3 of 32x32"):
        airbench.run(tmp_path / "any.py", few, 1, lambda _: None)
