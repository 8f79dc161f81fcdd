"""Sentence vectors that mean something: scoring similarity (siamese training follows in a later notebook).

Taught in notebooks/02_pooling.ipynb. Source: Reimers & Gurevych 2019, arXiv 1908.10084, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .datasets import SimilarityPair
from .pooling import cosine, pool
from .tokens import encode


def sentence_vectors(texts: Sequence[str], mode: str = "mean", *, layer: int = -1, model: str | None = None, batch_size: int = 64) -> torch.Tensor:
    """Encode and pool many texts: (N, H), in the order of the texts."""
    vectors = []
    for start in range(0, len(texts), batch_size):
        encoded = encode(list(texts[start : start + batch_size]), model=model)
        vectors.append(pool(encoded.hidden_states[layer], encoded.attention_mask, mode))
    return torch.cat(vectors)


def evaluate_similarity(pairs: Sequence[SimilarityPair], mode: str = "mean", *, layer: int = -1, model: str | None = None) -> float:
    """Spearman's rank correlation (-1 to 1) between cosine similarity and the authors' grade.

    Source: the evaluation of STS, SBERT paper section 4.1. Taught in 02_pooling.

    >>> from bertlab import SBERT, similarity_pairs
    >>> 0 < evaluate_similarity(similarity_pairs("test")[:40], model=SBERT) < 1
    True
    """
    from scipy.stats import spearmanr

    if len(pairs) < 3:
        raise ValueError(f"A rank correlation of {len(pairs)} pairs says nothing: give at least 3.")
    a = sentence_vectors([p.sentence_a for p in pairs], mode, layer=layer, model=model)
    b = sentence_vectors([p.sentence_b for p in pairs], mode, layer=layer, model=model)
    return float(spearmanr(cosine(a, b).tolist(), [p.grade for p in pairs]).statistic)
