"""Checks of what a learner passes in: each returns the value, or raises a ValueError that says what was given and what is expected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # both are slow to load, and most of these checks need neither
    import numpy as np
    import torch


def short(value: object, most: int = 60) -> str:
    """A value as Python writes it, without lines and cut, so that a message stays readable.

    >>> short("a" * 100, 9)
    "'aaaaaaa…"
    """
    try:
        said = repr(value[: most + 1] if isinstance(value, (str, bytes)) else value)
    except Exception:  # an int of a million digits, an object that cannot be shown
        said = f"a value of type {type(value).__name__}"
    said = " ".join(said.split())
    return said if len(said) <= most else said[: most - 1] + "…"


def one_of(value: object, choices: Iterable, what: str) -> object:
    """`value`, if it is one of the choices.

    >>> one_of("mean", ["cls", "mean"], "pooling mode")
    'mean'
    """
    choices = list(choices)
    if type(value) not in map(type, choices) or value not in choices:
        raise ValueError(f"There is no {what} {short(value)}: choose from {', '.join(map(str, choices))}.")
    return value


def whole(value: object, name: str, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """A whole number from low to high; NumPy's count, True and False do not. Without limits: one that fits into 64 bits.

    >>> whole(3, "top_k", 1, 5)
    3
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        limits = "" if low == -(2**63) else f" from {low}" + ("" if high == 2**63 - 1 else f" to {high}")
        raise ValueError(f"{name} must be a whole number{limits}, not {short(value)}.")
    return int(value)


def number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A number from low to high, not NaN.

    >>> number(1, "b", 0, 1)
    1
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high:
        limits = "" if (low, high) == (-math.inf, math.inf) else f" from {low:g}" + ("" if high == math.inf else f" to {high:g}")
        raise ValueError(f"{name} must be a number{limits}, not {short(value)}.")
    return value


def numbers(values: object, name: str, axes: tuple[int, ...] = (1,), infinite: bool = False) -> np.ndarray:
    """An array of numbers with as many axes as `axes` allows, none of them NaN, or infinite unless that is allowed.

    >>> numbers([1, 2], "grades").tolist()
    [1.0, 2.0]
    """
    import numpy as np

    try:
        if np.asarray(values).dtype.kind in "US":  # float would read "3"
            raise TypeError
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"{name} must be numbers in rows of one length, not {short(values)}.") from None
    if array.ndim not in axes:
        raise ValueError(f"{name} must have {' or '.join(map(str, axes))} axes, but the shape is {array.shape}.")
    if np.isnan(array).any() or (not infinite and np.isinf(array).any()):
        raise ValueError(f"{name} holds numbers that are not finite, such as NaN: look where they come from.")
    return array


def vectors(values: object, name: str, axes: tuple[int, ...] = (2,)) -> torch.Tensor:
    """A tensor of finite floating-point numbers with as many axes as `axes` allows; integers and half precision become float32."""
    import torch

    if not isinstance(values, torch.Tensor):
        raise ValueError(f"{name} must be a tensor, not {type(values).__name__}.")
    if values.ndim not in axes:
        raise ValueError(f"{name} must have {' or '.join(map(str, axes))} axes, but the shape is {tuple(values.shape)}.")
    if values.is_complex() or not values.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite, such as NaN: look where they come from.")
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def sequence(values: object, name: str, of: str) -> list:
    """A list of what is in a list, a tuple or an array; a text is none.

    >>> sequence((1, 2), "tags", "tags")
    [1, 2]
    """
    if isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise ValueError(f"{name} must be a list of {of}, not {short(values)}.")
    return list(values)
