"""Columns are as wide as their widest cell, and no line ends in spaces."""

from assay_research.terminal import aligned


def test_cells_stand_below_each_other_at_the_edge_asked_for():
    assert aligned([("run", "size", "state"), ("a", "10", ""), ("long/name", "9", "x")], right=[1]) == (
        "run        size  state\n"
        "a            10\n"
        "long/name     9  x\n"
    )  # fmt: skip
