"""Every task, format and precision that an export can make has its tolerances, one for each output."""

from assay_deploy.bundle.manifest import CLASSIFICATION, DETECTION, FORMATS, PLAIN, PRECISIONS, TTA
from assay_export.gate.tolerances import ON_TEST_SPLIT, TOLERANCES, precisions_of
from assay_export.precisions.registry import LOWERED
from assay_export.tasks.registry import TASKS


def test_every_task_leaves_in_every_format() -> None:
    assert {key for key in TOLERANCES if key[2] == "fp32"} == {
        (task, form, "fp32") for task in TASKS for form in FORMATS
    }


def test_each_output_has_a_tolerance() -> None:
    for (task, _, _), row in TOLERANCES.items():
        assert set(row) == {*TASKS[task].outputs(PLAIN), *TASKS[task].outputs(TTA)}
        assert min(row.values()) > 0


def test_each_precision_has_an_allowance_on_the_test_split() -> None:
    assert set(ON_TEST_SPLIT) == {(task, precision) for task, _, precision in TOLERANCES}
    assert set(PRECISIONS) == {"fp32", *LOWERED}
    assert precisions_of(CLASSIFICATION) == ("fp32", "fp16", "int8")
    assert precisions_of(DETECTION) == ("fp32", "fp16")
