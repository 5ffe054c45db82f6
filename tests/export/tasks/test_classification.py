"""How many answers may change, and how sure a difference of accuracies is."""

import numpy as np
import pytest

from assay_export.tasks.classification import drop_allowed, flips_allowed, paired_interval


@pytest.mark.parametrize(("n", "allowed"), [(1, 1), (360, 1), (2_000, 1), (4_000, 2), (10_000, 5), (50_000, 25)])
def test_five_in_ten_thousand_may_change_class_but_one_always(n, allowed):
    assert flips_allowed(n, "fp32") == allowed


def test_one_image_may_always_be_lost():
    assert drop_allowed(100, "fp32") == drop_allowed(100, "int8") == 0.01
    assert drop_allowed(10_000, "int8") == 0.01
    assert drop_allowed(10_000, "fp32") == 5e-4


def test_interval_is_that_of_the_paper():
    # By hand from Agresti and Min (2005), equation for the adjusted Wald interval: b = 3.5, c = 0.5, n = 102.
    low, high = paired_interval(lost=3, won=0, n=100)
    half = 1.959963984540054 * (4.0 - 9 / 102) ** 0.5 / 102
    assert (low, high) == pytest.approx((-3 / 102 - half, -3 / 102 + half))
    low, high = paired_interval(lost=0, won=0, n=100)
    assert low == -high < 0


def test_interval_holds_the_true_difference_as_often_as_it_says():
    generator, n, inside = np.random.default_rng(0), 400, 0
    for _ in range(2000):
        lost, won, _ = generator.multinomial(n, (0.03, 0.01, 0.96))
        low, high = paired_interval(int(lost), int(won), n)
        inside += low <= -0.02 <= high
    assert 0.935 < inside / 2000 < 0.985
