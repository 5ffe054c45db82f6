"""Schedules rise, fall and wait as they say, and go on from a checkpoint."""

import pytest

from assay_research.config.build import instantiate
from assay_research.errors import ConfigError
from assay_research.schedules import Constant, OneCycle, Plateau


def test_one_cycle_rises_to_the_base_rate_and_falls_to_zero():
    factors = [OneCycle(warmup=0.25).factor(step / 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.04)
    assert factors[25] == pytest.approx(1.0)
    assert factors[100] == pytest.approx(0.0)
    assert factors[:26] == sorted(factors[:26])
    assert factors[25:] == sorted(factors[25:], reverse=True)


def test_plateau_cuts_the_rate_only_after_its_patience():
    schedule = Plateau(multiplier=0.1, patience=2, min_delta=0.01)
    seen = []
    for loss in (1.0, 0.5, 0.495, 0.6, 0.3, 0.3, 0.3):
        schedule.observe(loss)
        seen.append(schedule.factor(0.5))
    assert seen == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_plateau_goes_on_from_its_state():
    first, second = Plateau(patience=2), Plateau(patience=2)
    for loss in (1.0, 1.0):
        first.observe(loss)
    second.restore(first.state())
    for schedule in (first, second):
        schedule.observe(1.0)
    assert second.state() == first.state()
    assert second.factor(0) == pytest.approx(0.1)


def test_constant_stays():
    assert {Constant().factor(p / 10) for p in range(11)} == {1.0}


def test_impossible_values_are_refused_with_what_was_expected():
    with pytest.raises(ConfigError, match=r"between 0 and 1, got 1\.5"):
        instantiate({"_target_": "assay_research.schedules.OneCycle", "warmup": 1.5}, "schedules")
