"""What is timed as training is in the zoo, and each step of the GPU suite picks its own part."""

from assay_research.config.files import choices
from assay_research.training.loop import COMPILE_MODES
from benchmarks import test_training_throughput as throughput

HOW = ("eager", *COMPILE_MODES)


def test_every_family_is_in_the_zoo() -> None:
    assert set(throughput.FAMILIES) <= set(choices("model"))


def test_every_family_is_timed_at_batch_128_against_every_number_of_workers() -> None:
    for device in ("cpu", "cuda"):
        timed = {(case.family, case.workers) for case in throughput.cases(device) if case.batch == 128}
        assert timed == {(family, workers) for family in throughput.FAMILIES for workers in throughput.WORKERS}


def test_nothing_is_compiled_on_a_cpu_and_every_mode_on_cuda() -> None:
    modes = {device: {case.compiled for case in throughput.cases(device)} for device in ("cpu", "cuda")}
    assert modes == {"cpu": {None}, "cuda": {None, *COMPILE_MODES}}


def test_each_case_is_picked_by_one_word() -> None:
    names = [str(case) for case in throughput.cases("cuda")]
    assert len(set(names)) == len(names)
    assert all(sum(how in name for how in HOW) == 1 for name in names)


def test_quick_times_the_smallest_case_alone() -> None:
    assert str(throughput.cases("cpu")[0]) == "cpu-tinyvgg_a-128-0-eager"
