"""Sensitivity: what a chip's quality depends on, by one backward pass for all fields of the hardware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from scipy import stats

from anajax.chips.results import TITLE


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
      confidence: of the intervals, by Student's t over the chips.

    Returns:
      A dataset over `field` (dotted paths; arrays count by element, `path[k]`), the strongest elasticity first, with
      `value`, `slope`, `slope_ci`, `elasticity`, `elasticity_ci` (half widths), and the mean loss in its attributes.
    """
    if chips < 2:
        raise ValueError(f"chips must be at least 2, for an interval; got {chips}")

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
    spread = stats.t.ppf((1 + confidence) / 2, chips - 1) / np.sqrt(chips)
    columns = {
        "value": theta,
        "slope": grads.mean(axis=0),
        "slope_ci": spread * grads.std(axis=0, ddof=1),
        "elasticity": (theta * grads).mean(axis=0),
        "elasticity_ci": spread * np.abs(theta) * grads.std(axis=0, ddof=1),
    }
    order = np.argsort(-np.abs(columns["elasticity"]), kind="stable")
    attrs = {"title": TITLE, "loss": float(np.mean(losses)), "chips": chips, "confidence": confidence}
    return xr.Dataset(
        {name: ("field", column[order]) for name, column in columns.items()},
        coords={"field": np.array(names)[order]},
        attrs=attrs,
    )
