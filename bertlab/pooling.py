"""(hidden states, attention mask) -> one sentence vector.

Taught in notebooks/02_pooling.ipynb.
Source: Reimers & Gurevych 2019, arXiv 1908.10084, section 3 and table 6 (CLS, MEAN, MAX).

A plugin adds a pooler through the entry-point group `bertlab.poolers`: a function
(hidden (B, T, H), attention_mask (B, T)) -> (B, H).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import torch

from .inputs import one_of, short, vectors as check_vectors

Pooler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cls_pooling(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The vector of the first real token: [CLS]."""
    return hidden[torch.arange(len(hidden)), attention_mask.int().argmax(1)]


def mean_pooling(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The average of the real tokens: padding is multiplied by 0 and not counted."""
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * mask).sum(1) / mask.sum(1)


def max_pooling(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The largest value of each dimension; padding is set to -inf, for 0 would win over negative values."""
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, float("-inf")).max(1).values


def mean_sqrt_len_tokens_pooling(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The sum of the real tokens over the square root of their number."""
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1).sqrt()


def weightedmean_pooling(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """A mean in which the i-th real token counts i times: later tokens weigh more (SGPT, arXiv 2202.08904)."""
    weights = (attention_mask.cumsum(1) * attention_mask).unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def lasttoken_pooling(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The vector of the last real token; for BERT that is [SEP]."""
    last = attention_mask.shape[1] - 1 - attention_mask.flip(1).int().argmax(1)
    return hidden[torch.arange(len(hidden)), last]


_POOLERS: dict[str, Pooler] = {
    "cls": cls_pooling,
    "mean": mean_pooling,
    "max": max_pooling,
    "mean_sqrt_len_tokens": mean_sqrt_len_tokens_pooling,
    "weightedmean": weightedmean_pooling,
    "lasttoken": lasttoken_pooling,
}


def register_pooler(name: str, pooler: Pooler) -> None:
    """Make `pooler` a mode of `pool` in this process; ValueError if the name is taken by another."""
    if not isinstance(name, str) or not 0 < len(name) <= 60 or not name.isprintable():
        raise ValueError(f"A pooling mode's name must be a short text, not {short(name)}.")
    if not callable(pooler):
        raise ValueError(f"A pooler must be a function (hidden, attention_mask) -> (B, H), not {short(pooler)}.")
    if name in _poolers() and _poolers()[name] is not pooler:
        raise ValueError(f"There is a pooling mode {name!r} already: choose another name than {', '.join(pooling_modes())}.")
    _POOLERS[name] = pooler


def pooling_modes() -> list[str]:
    """The names that `pool` knows, plugins' included.

    >>> pooling_modes()[:3]
    ['cls', 'mean', 'max']
    """
    return list(_poolers())


def _poolers() -> dict[str, Pooler]:
    _load_plugins()
    return _POOLERS


@cache
def _load_plugins() -> None:
    import warnings
    from importlib.metadata import entry_points

    for point in entry_points(group="bertlab.poolers"):
        if point.name in _POOLERS:
            warnings.warn(f"The plugin pooler {point.name!r} ({point.value}) is left out: that name is taken.", stacklevel=2)
            continue
        try:
            _POOLERS[point.name] = point.load()
        except Exception as error:  # a broken plugin must not break the course
            warnings.warn(f"The plugin pooler {point.name!r} ({point.value}) cannot be loaded: {error}", stacklevel=2)


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, mode: str = "mean") -> torch.Tensor:
    """Turn token vectors into one vector a text.

    hidden          (B, T, H), one layer of hidden states
    attention_mask  (B, T), 1 for real tokens, 0 for padding
    mode            a name from `pooling_modes()`
    Returns (B, H). Padding never changes the result.
    Raises ValueError for an unknown mode, shapes that do not fit, a text without any real token, and a plugin's mode
    that returns anything but one vector a text.

    >>> import torch
    >>> hidden = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [0.0, 0.0]]])   # the third token is padding
    >>> mask = torch.tensor([[1, 1, 0]])
    >>> pool(hidden, mask, "mean").tolist(), pool(hidden, mask, "max").tolist(), pool(hidden, mask, "cls").tolist()
    ([[2.0, -3.0]], [[3.0, -2.0]], [[1.0, -4.0]])
    """
    return pool_all(hidden, attention_mask, [mode])[mode]


def pool_all(hidden: torch.Tensor, attention_mask: torch.Tensor, modes: Iterable[str]) -> dict[str, torch.Tensor]:
    """What `pool` gives in each of these modes, with one check of the hidden states: mode -> (B, H).

    >>> import torch
    >>> pool_all(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[1, 1]]), ["cls", "mean"])
    {'cls': tensor([[1.]]), 'mean': tensor([[2.]])}
    """
    modes = [one_of(mode, _poolers(), "pooling mode") for mode in modes]
    _check(hidden, attention_mask)
    found = {mode: _poolers()[mode](hidden, attention_mask) for mode in modes}
    for mode, vectors in found.items():
        if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or len(vectors) != len(hidden):
            shape = tuple(vectors.shape) if isinstance(vectors, torch.Tensor) else type(vectors).__name__
            raise ValueError(f"The pooling mode {mode!r} returned {shape}, not one vector for each of the {len(hidden)} texts: correct its plugin.")
    return found


def _check(hidden: torch.Tensor, attention_mask: torch.Tensor) -> None:
    """ValueError unless both have the shapes and the numbers that `pool` needs."""
    if not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
        shape = tuple(hidden.shape) if isinstance(hidden, torch.Tensor) else type(hidden).__name__
        raise ValueError(f"hidden must be a tensor of shape (batch, tokens, width), not {shape}: take one layer, such as encoded.hidden_states[-1].")
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.shape != hidden.shape[:2]:
        shape = tuple(attention_mask.shape) if isinstance(attention_mask, torch.Tensor) else type(attention_mask).__name__
        raise ValueError(f"attention_mask must have shape {tuple(hidden.shape[:2])} to fit hidden {tuple(hidden.shape)}, not {shape}.")
    if not hidden.is_floating_point() or not (hidden.requires_grad or hidden.isfinite().all()):  # in training the loss says so
        raise ValueError("hidden must hold floating-point numbers, all of them finite: look where the others come from.")
    if not ((attention_mask == 0) | (attention_mask == 1)).all():
        raise ValueError("attention_mask must hold 1 for real tokens and 0 for padding, and nothing else.")
    empty = (attention_mask.sum(1) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"attention_mask is all zeros for text {empty[0]}: there is no token to pool.")


def padding_reaches(mode: str, hidden: torch.Tensor, *, masked: bool) -> bool:
    """Whether padding can change the vectors of `mode`: with the attention mask, or (masked=False) if the mask is ignored.

    hidden  (B, T, H), real tokens only; two tokens of padding with absurdly large values are put behind them

    >>> import torch
    >>> hidden = torch.tensor([[[1.0, -4.0], [3.0, -2.0]]])
    >>> [mode for mode in ("cls", "mean", "max") if padding_reaches(mode, hidden, masked=False)]
    ['mean', 'max']
    >>> padding_reaches("mean", hidden, masked=True)
    False
    """
    real = torch.ones(hidden.shape[:2], dtype=torch.long)
    padded = torch.cat([hidden, torch.full_like(hidden[:, :1], 1e4).expand(-1, 2, -1)], 1)  # (B, T + 2, H)
    mask = torch.nn.functional.pad(real, (0, 2), value=0 if masked else 1)
    return not torch.allclose(pool(padded, mask, mode), pool(hidden, real, mode), atol=1e-4)


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of vectors, row by row: (B, H), (B, H) -> (B,); also (H,), (H,) -> () and (B, T, H), (B, T, H) -> (B, T).

    >>> import torch
    >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])).item().__round__(3)
    0.707
    """
    a, b = (check_vectors(given, f"the {place} argument", (1, 2, 3)) for given, place in ((a, "first"), (b, "second")))
    if a.shape != b.shape:
        raise ValueError(f"cosine compares vectors of one shape, not {tuple(a.shape)} and {tuple(b.shape)}.")
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)
