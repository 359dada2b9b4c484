"""Yield: the share of chips that meet a specification, how surely it is known, and failures too rare to be met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from scipy import stats

from anajax import _check


def clopper_pearson(good: Any, n: Any, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact interval of a share of which `good` of `n` were met.

    It holds the true share at least as often as `confidence` says.
    Source: Clopper & Pearson, Biometrika 26:404 (1934).

    Args:
      good: chips that meet the specification.
      n: chips.
      confidence: of the interval, between 0 and 1.

    Example:
      >>> from anajax import chips
      >>> low, high = chips.clopper_pearson(100, 100)
      >>> f"{low:.3f} to {high:.0f}"
      '0.964 to 1'
    """
    good, n = np.asarray(good), np.asarray(n)
    if np.any(n < 1) or np.any(good < 0) or np.any(good > n):
        raise ValueError(f"good must be from 0 to n, and n at least 1; got {good} of {n}")
    checked_share(confidence, "confidence")
    tail = (1 - confidence) / 2
    low = np.where(good > 0, stats.beta.ppf(tail, good, n - good + 1), 0.0)
    high = np.where(good < n, stats.beta.ppf(1 - tail, good + 1, n - good), 1.0)
    return low, high


def chips_needed(expected: float, half_width: float, confidence: float = 0.95) -> int:
    """Return how many chips make the interval of a yield as narrow as wanted.

    Args:
      expected: yield that is expected, from 0 to 1.
      half_width: half of the width of the Clopper-Pearson interval.
      confidence: of the interval.

    Example:
      >>> from anajax import chips
      >>> chips.chips_needed(0.95, 0.01)
      1924
    """
    if not 0 <= expected <= 1:
        raise ValueError(f"expected must be from 0 to 1; got {expected}")
    checked_share(half_width, "half_width")

    def wide(n: int) -> bool:
        low, high = clopper_pearson(round(expected * n), n, confidence)
        return bool((high - low) / 2 > half_width)

    most = 1
    while wide(most):
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if wide(middle) else (least, middle)
    return most


class Rare(NamedTuple):
    """How often a margin is below zero.

    Attributes:
      probability: estimate.
      std: its standard error.
      distance: of the likeliest failure, in standard deviations, below zero where the mean chip fails; the first-order
        estimate is Phi(-distance).
      margin: at the likeliest failure; far from zero where the search did not find it, as on a margin without slopes.
      effective: how many independent draws the weighted ones are worth.
    """

    probability: Array
    std: Array
    distance: Array
    margin: Array
    effective: Array


def rare(
    key: Array, margin: Callable[[Any], Array], scores: Any, n: int = 1000, *, steps: int = 30, batch_size: int = 64
) -> Rare:
    """Estimate how often `margin(scores) < 0` for standard normal scores, by importance sampling.

    The likeliest failure is found by gradient, as the point nearest to the origin at which the margin is zero
    (Hasofer-Lind and Rackwitz-Fiessler). Draws are centred there, and weighted by the ratio of densities: this works in
    any number of dimensions, as long as one region of failure rules.

    Where no draw fails, the search has missed the failures: the probability is NaN. Where the mean chip fails, failures
    are not rare, and draws are plain ones.

    Args:
      key: random key.
      margin: differentiable function of a pytree of scores to a scalar: below zero is a failure.
      scores: pytree of arrays, for their shapes.
      n: draws.
      steps: of the search.
      batch_size: draws side by side.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from anajax import chips
      >>> found = chips.rare(jax.random.key(0), lambda z: 5.0 - z.sum() / 10, jnp.zeros(100), 10_000)
      >>> bool(abs(found.probability / 2.87e-7 - 1) < 0.1)  # five standard deviations
      True
    """
    for name, count, least in (("n", n, 2), ("steps", steps, 1), ("batch_size", batch_size, 1)):
        _check.integer(count, name, ge=least)
    zero, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, scores))
    value_and_slope = jax.value_and_grad(lambda z: margin(unravel(z)))

    def nearer(z: Array, _: Any) -> tuple[Array, None]:
        value, slope = value_and_slope(z)
        length = jnp.maximum(jnp.sum(slope**2), 1e-30)
        return z + 0.7 * ((jnp.dot(slope, z) - value) / length * slope - z), None

    nearest = jax.lax.scan(nearer, zero, None, length=steps)[0]
    fails = margin(unravel(zero)) < 0
    centre = jnp.where(fails, 0.0, nearest)

    def one(key: Array) -> Array:
        z = centre + jax.random.normal(key, centre.shape, centre.dtype)
        weight = jnp.exp(jnp.sum(centre**2) / 2 - jnp.dot(centre, z))
        return jnp.where(margin(unravel(z)) < 0, weight, 0.0)

    weights = jax.lax.map(one, jax.random.split(key, n), batch_size=batch_size)
    return Rare(
        probability=jnp.where(weights.any(), jnp.mean(weights), jnp.nan),
        std=jnp.where(weights.any(), jnp.std(weights, ddof=1) / jnp.sqrt(n), jnp.nan),
        distance=jnp.linalg.norm(nearest) * jnp.where(fails, -1, 1),
        margin=margin(unravel(nearest)),
        effective=jnp.sum(weights) ** 2 / jnp.maximum(jnp.sum(weights**2), jnp.finfo(weights.dtype).tiny),
    )


def checked_share(value: float, name: str) -> None:
    """Raise where a value is not between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1; got {value}")
