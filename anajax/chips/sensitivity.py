"""Sensitivity: what a chip's quality depends on, by one backward pass or by raising one field at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from anajax import _check
from anajax.chips._provenance import provenance
from anajax.chips.results import variable, wide
from anajax.chips.yields import checked_share


def sensitivity(
    loss: Callable[[Any, Array], Array],
    hardware: Any,
    *,
    chips: int = 100,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Return the derivatives of an expected loss by all float fields of the hardware, by one backward pass per chip.

    A field's elasticity, theta d loss / d theta, is the change of the loss for one of the field by 100 % at its slope.
    It has the unit of the loss, so that fields compare. Fields of 0 have a slope and no elasticity.

    Args:
      loss: `loss(hardware, i)` of chip i, a smooth scalar: a cross-entropy rather than an accuracy.
      hardware: one `Hardware`, or `{name: Hardware}`.
      chips: how many chips to average over.
      confidence: of the intervals, by Student's t over the chips. They know nothing of the examples, which all chips
        share: slopes of few examples by fields that round, such as bits, may differ from those of many by far more.

    Returns:
      A dataset over `field` (dotted paths; arrays count by element, `path[k]`), the strongest elasticity first, with
      `value`, `slope`, `slope_ci`, `elasticity`, `elasticity_ci` (half widths), and the mean loss in its attributes.
    """
    _check.integer(chips, "chips", ge=2)
    checked_share(confidence, "confidence")

    @jax.jit
    def run(hardware: Any, index: Array) -> tuple[Array, Any]:
        return jax.lax.map(lambda i: jax.value_and_grad(loss)(hardware, i), index)

    losses, slopes = run(hardware, jnp.arange(chips, dtype=jnp.uint32))
    names, values, each = [], [], []
    paths = jax.tree_util.tree_flatten_with_path(hardware)[0]
    for (path, value), slope in zip(paths, jax.tree.leaves(slopes), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        flat = np.asarray(value, float).ravel()
        names += [name] if np.ndim(value) == 0 else [f"{name}[{k}]" for k in range(flat.size)]
        values.append(flat)
        each.append(np.asarray(slope, float).reshape(chips, -1))
    theta, grads = np.concatenate(values), np.concatenate(each, axis=1)
    if bad := int((~np.isfinite(grads).all(axis=1)).sum()):
        first = np.array(names)[~np.isfinite(grads).all(axis=0)]
        raise ValueError(f"slopes must be finite; those of {bad} of {chips} chips are not, by {', '.join(first[:5])}")
    spread = wide(chips, confidence)
    columns = {
        "value": theta,
        "slope": grads.mean(axis=0),
        "slope_ci": spread * grads.std(axis=0, ddof=1),
        "elasticity": (theta * grads).mean(axis=0),
        "elasticity_ci": spread * np.abs(theta) * grads.std(axis=0, ddof=1),
    }
    order = np.argsort(-np.abs(columns["elasticity"]), kind="stable")
    attrs = provenance(hardware) | {"loss": float(np.mean(losses)), "chips": chips, "confidence": confidence}
    return xr.Dataset(
        {name: ("field", column[order]) for name, column in columns.items()},
        coords={"field": np.array(names)[order]},
        attrs=attrs,
    )


def thresholds(study: xr.Dataset, drop: float = 0.01, *, chance: float = 0.0, confidence: float = 0.95) -> xr.Dataset:
    """Return how far each field can be raised alone before chips lose a share of what they can do.

    The drop of a point is (A_0 - A) / (A_0 - chance), for the mean A over the chips and the first point's A_0. It is
    read between the values of a field by a straight line, in logarithms where all values are above zero. As all points
    see the same chips, its interval is that of paired differences (Rasch et al., Nat. Commun. 14:5282, 2023, take a
    drop of 1 %).

    Args:
      study: of a design by `one_at_a_time`, at one time.
      drop: share of the first point's value above chance.
      chance: value of a chip that knows nothing, such as 0.1 for ten classes.
      confidence: of the interval, by Student's t.

    Returns:
      A dataset over `field`, the one that bears the least factor first: `start` (the field's first value),
      `threshold`, `low` and `high` (where the ends of the drop's interval cross; `nan` where they do not within the
      values), `factor` (threshold / start), `largest` (the largest drop that was seen), and `below` and `above`, the
      values that the threshold was read between: the interval is that of the chips, and knows nothing of the curve
      between these two.
    """
    values = variable(study)
    if "point" not in values.dims or values.sizes.get("time", 1) != 1:
        raise ValueError(f"study must be of a design by one_at_a_time, at one time; got {dict(values.sizes)}")
    if not 0 < drop < 1:
        raise ValueError(f"drop must be between 0 and 1; got {drop}")
    seen = values.squeeze("time") if "time" in values.dims else values
    seen = seen.transpose("point", "chip").values.astype(float)
    best, n = seen[0].mean() - chance, seen.shape[1]
    if best <= 0:
        raise ValueError(f"chance must be below the value of the first point, {seen[0].mean():.4g}; got {chance}")
    lost = (seen[0] - seen) / best
    width = wide(n, confidence) * lost.std(axis=1, ddof=1) if n > 1 else np.inf
    mean, fields = lost.mean(axis=1), [str(c) for c, v in study.coords.items() if v.dims == ("point",) and c != "point"]
    if not np.isfinite(seen).all():
        raise ValueError(f"study must be finite; {int((~np.isfinite(seen)).sum())} of {seen.size} values are not")
    if any((np.array([study[f].values != study[f].values[0] for f in fields]).sum(axis=0)) > 1):
        raise ValueError(
            "study must be of a design by one_at_a_time; several fields differ from the first point at once"
        )
    rows = []
    for field in fields:
        at = study[field].values
        own = np.flatnonzero(at != at[0])
        if len(set(np.sign(at[own] - at[0]))) > 1:
            raise ValueError(
                f"values of {field!r} must lie on one side of the first, {at[0]:g}; got {at[own].tolist()}"
            )
        own = np.concatenate([[0], own[np.argsort(np.abs(at[own] - at[0]), kind="stable")]])
        crossed = [_crossing(at[own], curve[own], drop) for curve in (mean, mean + width, mean - width)]
        if len(own) > 1 and at[own[1]] < at[0]:  # worse downwards
            crossed[1:] = crossed[:0:-1]
        sides = _sides(at[own], mean[own], drop)
        rows.append((at[0], *crossed, crossed[0] / at[0] if at[0] else np.nan, mean[own].max(), *sides))
    order = np.lexsort(
        (
            [abs(np.log(row[4])) if row[4] > 0 else np.inf for row in rows],
            [np.isnan(row[1]) for row in rows],
        )
    )
    columns = dict(
        zip(
            ("start", "threshold", "low", "high", "factor", "largest", "below", "above"),
            np.array(rows)[order].T,
            strict=True,
        )
    )
    attrs = study.attrs | {"drop": drop, "chance": chance, "confidence": confidence, "chips": n}
    return xr.Dataset({k: ("field", v) for k, v in columns.items()}, {"field": np.array(fields)[order]}, attrs)


def _sides(at: np.ndarray, curve: np.ndarray, level: float) -> tuple[float, float]:
    """Return the values between which a curve first reaches a level, the lower first."""
    above = np.flatnonzero(curve >= level)
    if not above.size or above[0] == 0:
        return np.nan, np.nan
    low, high = sorted(at[above[0] - 1 : above[0] + 1])
    return float(low), float(high)


def _crossing(at: np.ndarray, curve: np.ndarray, level: float) -> float:
    """Return where a curve first reaches a level."""
    above = np.flatnonzero(curve >= level)
    if not above.size:
        return np.nan
    k = above[0]
    if k == 0:
        return float(at[0])
    share = (level - curve[k - 1]) / (curve[k] - curve[k - 1])
    if (at > 0).all():
        return float(at[k - 1] * (at[k] / at[k - 1]) ** share)
    return float(at[k - 1] + share * (at[k] - at[k - 1]))
