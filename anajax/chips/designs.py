"""Designs: at which values of which fields of the hardware a study looks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import qmc

from anajax import _check
from anajax._record import get

Ranges = Mapping[str, tuple[float, float]]


class Design(NamedTuple):
    """Points of a study.

    Attributes:
      fields: dotted paths of float fields of the hardware.
      values: one row for each point, `[points, fields]`.
      shape: of a grid, whose last field changes fastest: the numbers of values; `None` for other points.
    """

    fields: tuple[str, ...]
    values: np.ndarray
    shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def point(self, k: int) -> dict[str, float]:
        """Return the values of point `k` by field."""
        return dict(zip(self.fields, self.values[k].tolist(), strict=True))


def grid(fields: Mapping[str, Sequence[float]]) -> Design:
    """Return all combinations of the values of several fields.

    Args:
      fields: dotted path -> values; none at all is one point, the hardware as it is.

    Example:
      >>> from anajax import chips
      >>> len(chips.grid({"adc.bits": [6, 8], "output_noise.sigma": [0.0, 0.02, 0.04]}))
      6
    """
    values = {path: _values(path, v) for path, v in fields.items()}
    shape = tuple(len(v) for v in values.values())
    checked_size(math.prod(shape) * len(shape))
    for path, v in values.items():
        if len(np.unique(v)) < len(v):
            raise ValueError(f"sweep of {path!r} must not repeat a value; got {v.tolist()}")
    axes = np.meshgrid(*values.values(), indexing="ij")
    combinations = np.stack(axes, axis=-1).reshape(-1, len(shape)) if shape else np.zeros((1, 0))
    return Design(tuple(values), combinations, shape)


def points(fields: Mapping[str, Sequence[float]]) -> Design:
    """Return a list of points: the k-th has the k-th value of every field.

    Args:
      fields: dotted path -> values, as many for each.
    """
    values = {path: _values(path, v) for path, v in fields.items()}
    lengths = {path: len(v) for path, v in values.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"fields must have as many values each; got {lengths or 'none'}")
    return Design(tuple(values), np.stack(list(values.values()), axis=1))


def one_at_a_time(hardware: Any, fields: Mapping[str, Sequence[float]]) -> Design:
    """Return the hardware as it is, and then with each field alone at each of its values.

    Args:
      hardware: one `Hardware`, whose fields are the first point.
      fields: dotted path -> values.

    Example:
      >>> import anajax
      >>> from anajax import chips
      >>> raised = {"output_noise.sigma": [0.1, 0.2], "weight_noise.sigma": [0.05]}
      >>> chips.one_at_a_time(anajax.presets.standard_aimc(), raised).values.round(4).tolist()
      [[0.04, 0.0175], [0.1, 0.0175], [0.2, 0.0175], [0.04, 0.05]]
    """
    values = {path: _values(path, v) for path, v in fields.items()}
    if not values:
        raise ValueError("fields must name at least one; got none")
    at_rest = []
    for path in values:
        found = get(hardware, path)
        if np.ndim(found) != 0 or not hasattr(found, "dtype"):
            raise ValueError(f"{path!r} must be a number of the hardware, to be raised alone; it is {found!r}")
        at_rest.append(float(found))
    rows = [at_rest]
    for k, column in enumerate(values.values()):
        rows += [[*at_rest[:k], float(value), *at_rest[k + 1 :]] for value in column]
    return Design(tuple(values), np.array(rows))


def random(ranges: Ranges, n: int, *, seed: int = 0, log: bool = False) -> Design:
    """Return `n` points drawn uniformly.

    Args:
      ranges: dotted path -> lowest and highest value.
      n: points.
      seed: of the draws.
      log: whether logarithms are uniform.
    """
    _checked(ranges, n, log)
    return _within(ranges, np.random.default_rng(seed).random((n, len(ranges))), log)


def sobol(ranges: Ranges, n: int, *, seed: int = 0, log: bool = False) -> Design:
    """Return `n` points of a scrambled Sobol sequence, evenest for powers of two.

    Args:
      ranges: see `random`.
      n: points.
      seed: of the scrambling.
      log: see `random`.
    """
    _checked(ranges, n, log)
    drawn = qmc.Sobol(len(ranges), rng=seed).random_base2(max(n - 1, 0).bit_length())  # whole, as it must be balanced
    return _within(ranges, drawn[:n], log)


def latin_hypercube(ranges: Ranges, n: int, *, seed: int = 0, log: bool = False) -> Design:
    """Return `n` points, of which each n-th of every range has one.

    Args:
      ranges: see `random`.
      n: points.
      seed: of the draws.
      log: see `random`.
    """
    _checked(ranges, n, log)
    return _within(ranges, qmc.LatinHypercube(len(ranges), rng=seed).random(n), log)


def checked_size(numbers: int) -> None:
    """Raise where so many numbers would not leave memory for anything else."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * numbers > memory / 4:
        raise ValueError(
            f"too many combinations: {numbers:,} numbers are {4 * numbers / 1e9:,.1f} GB, more than a quarter of the"
            f" memory ({memory / 1e9:.1f} GB); take fewer points, chips or times"
        )


def _values(path: str, given: Sequence[float]) -> np.ndarray:
    try:
        values = np.atleast_1d(np.asarray(given, float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"sweep of {path!r} must be a list of numbers; got {given!r}") from error
    if values.ndim != 1 or not values.size:
        raise ValueError(f"sweep of {path!r} must be a list of at least one value; got {given!r}")
    _check.finite(values, f"sweep of {path!r}")
    return values


def _checked(ranges: Ranges, n: int, log: bool) -> None:
    if not ranges:
        raise ValueError("ranges must name at least one field; got none")
    _check.integer(n, "n", ge=1)
    checked_size(n * len(ranges))
    for path, pair in ranges.items():
        if np.shape(pair) != (2,):
            raise ValueError(f"range of {path!r} must be (low, high); got {pair!r}")
        low, high = pair
        if not low < high or (log and low <= 0):
            allowed = "0 < low < high" if log else "low < high"
            raise ValueError(f"range of {path!r} must be (low, high) with {allowed}; got ({low}, {high})")


def _within(ranges: Ranges, unit: np.ndarray, log: bool) -> Design:
    low, high = np.array(list(ranges.values()), float).T
    values = low * (high / low) ** unit if log else low + (high - low) * unit
    return Design(tuple(ranges), values)
