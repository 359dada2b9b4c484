"""Design by gradient: fields of the hardware that minimise an objective, over chips drawn anew at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax import Array

from anajax._record import get, replaced
from anajax.chips._provenance import provenance
from anajax.chips.ensemble import _track


class Minimised(NamedTuple):
    """What a minimisation came to.

    Attributes:
      hardware: with the fields of the mean of the last quarter of the steps.
      path: `objective` and every field over `step`, before each.
    """

    hardware: Any
    path: xr.Dataset


def minimise(
    objective: Callable[[Any, Array], Array],
    hardware: Any,
    bounds: Mapping[str, tuple[float, float]],
    *,
    steps: int = 100,
    optimiser: optax.GradientTransformation | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Minimised:
    """Minimise an objective over fields of the hardware, within bounds.

    A field theta between a and b is a (b / a)**s(u), or a + (b - a) s(u) where a is not above zero, with the sigmoid s
    and a free number u, which follows the gradient.

    Args:
      objective: `objective(hardware, key)`, a smooth scalar, such as a mean loss over a few chips of the key, plus a
        weight times an energy of `anajax.cost`.
      hardware: one `Hardware`, or `{name: Hardware}`; the search starts at its fields.
      bounds: dotted path -> lowest and highest value.
      steps: of the optimiser, each with a key of its own.
      optimiser: any of optax; Adam at a rate of 0.1 by default.
      seed: of the keys.
      progress: whether to show a bar.

    Example:
      >>> import jax, anajax
      >>> from anajax import chips
      >>> from anajax.arrays import ADC
      >>> def objective(hardware, key):
      ...     return (hardware.adc.bits - 7.0) ** 2 + 0.1 * jax.random.normal(key)
      >>> found = chips.minimise(objective, anajax.Hardware(adc=ADC(bits=4)), {"adc.bits": (3, 12)}, steps=200)
      >>> abs(float(found.hardware.adc.bits) - 7) < 0.1
      True
    """
    if not bounds:
        raise ValueError("bounds must name at least one field; got none")
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    low, high = (np.array([pair[k] for pair in bounds.values()], float) for k in (0, 1))
    for path in bounds:
        if np.ndim(get(hardware, path)) or not hasattr(get(hardware, path), "dtype"):
            raise ValueError(f"bounds of {path!r} must name a number of the hardware; it is {get(hardware, path)!r}")
    start = np.array([float(get(hardware, path)) for path in bounds])
    for path, a, value, b in zip(bounds, low, start, high, strict=True):
        if not a < value < b:
            raise ValueError(f"bounds of {path!r} must lie on both sides of its value; got {a:g} < {value:g} < {b:g}")
    for end in (low, high):
        replaced(hardware, dict(zip(bounds, end.tolist(), strict=True)))  # what the hardware refuses is said at once
    log = low > 0
    scale = np.where(log, high / np.where(log, low, 1.0), 1.0)

    def values(u: Array) -> Array:
        share = jax.nn.sigmoid(u)
        return jnp.where(log, low * scale**share, low + (high - low) * share)

    def at(theta: Array) -> Any:
        return replaced(hardware, {path: theta[k] for k, path in enumerate(bounds)})

    tx = optax.adam(0.1) if optimiser is None else optimiser

    @jax.jit
    def step(u: Array, state: Any, key: Array) -> tuple[Array, Any, Array, Array]:
        value, slope = jax.value_and_grad(lambda u: objective(at(values(u)), key))(u)
        updates, state = tx.update(slope, state, u)
        return jnp.asarray(optax.apply_updates(u, updates)), state, value, values(u)

    share = np.where(log, np.log(start / np.where(log, low, 1.0)) / np.where(log, np.log(scale), 1.0), 0.0)
    share = np.where(log, share, (start - low) / (high - low))
    u = jnp.asarray(np.log(share / (1 - share)), jnp.result_type(float))
    state, path = tx.init(u), []
    for k in _track(range(steps), "designs" if progress else None):
        u, state, value, theta = step(u, state, jax.random.fold_in(jax.random.key(seed), k))
        path.append((float(value), *np.asarray(theta, float)))
        if not np.isfinite([*path[-1], *np.asarray(u)]).all():
            at_fault = ", ".join(f"{name}={t:.4g}" for name, t in zip(bounds, path[-1][1:], strict=True))
            raise ValueError(f"objective and its gradient must be finite; got {path[-1][0]} at step {k}, {at_fault}")
    found = np.array(path)
    best = found[-max(steps // 4, 1) :, 1:].mean(axis=0)
    columns = {name: ("step", found[:, k]) for k, name in enumerate(("objective", *bounds))}
    attrs = provenance(hardware) | {"seed": seed}
    return Minimised(at(best), xr.Dataset(columns, coords={"step": np.arange(steps)}, attrs=attrs))
