"""A classifier's scores become probabilities."""

import numpy as np

from assay_deploy.tasks.classification import softmax


def test_softmax_survives_large_logits() -> None:
    logits = np.array([[1e4, 1e4 - 1, -1e4]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[0.7310586, 0.2689414, 0]], atol=1e-6)
