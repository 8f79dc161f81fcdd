"""How far a score would move with other examples: the bootstrap that several modules share."""

from __future__ import annotations

import numpy as np

from .inputs import numbers, whole


def bootstrap(values, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a mean: the middle of the means of `draws` samples with repetition.

    values  (N,), one number an example; for a gap between two methods, the differences example by example
    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval). Taught in notebooks/02_pooling.ipynb.

    >>> bootstrap([0.5] * 20)
    (0.5, 0.5)
    """
    values = numbers(values, "values")
    if not len(values):
        raise ValueError("An interval needs at least one value.")
    whole(draws, "draws", 1)
    means = values[np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
