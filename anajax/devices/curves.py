"""Curves over the relative conductance u = g / g_max: the coefficients in which device papers speak.

Each is a record with float leaves, called as `curve(u)`; a device is put together from a few of them.
"""

from __future__ import annotations

from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax._record import Numbers, Record, leaf, record

# A cell at zero conductance has u = 0, where ln u and u**p have no slope. Every published curve is flat
# there (clipped), so the floor changes no value; it keeps gradients finite.
_U_FLOOR = 1e-7


class Curve(Protocol):
    """What a device asks of a curve."""

    def __call__(self, u: Array) -> Array:
        """Return the curve at relative conductance `u`, any shape."""
        ...


@record
class Polynomial(Record):
    """`c[0] + c[1] u + c[2] u**2 + ...`.

    Attributes:
      coefficients: lowest order first; their unit is the curve's.
    """

    coefficients: Numbers = leaf()

    def __call__(self, u: Array) -> Array:
        """Return the polynomial at `u`."""
        c = jnp.asarray(self.coefficients)
        y = jnp.full_like(u, c[-1])
        for k in range(c.shape[0] - 2, -1, -1):
            y = y * u + c[k]
        return y


@record
class LogLinear(Record):
    """`clip(slope * ln u + offset, low, high)`."""

    slope: Array | float = leaf()
    offset: Array | float = leaf()
    low: Array | float = leaf()
    high: Array | float = leaf()

    def __call__(self, u: Array) -> Array:
        """Return the clipped logarithmic line at `u`."""
        return jnp.clip(self.slope * jnp.log(jnp.maximum(u, _U_FLOOR)) + self.offset, self.low, self.high)


@record
class PowerLaw(Record):
    """`min(scale / max(u**exponent, floor), high)`: falls with u, and stays below `high`."""

    scale: Array | float = leaf()
    exponent: Array | float = leaf()
    floor: Array | float = leaf()
    high: Array | float = leaf()

    def __call__(self, u: Array) -> Array:
        """Return the capped power law at `u`."""
        power = jnp.exp(self.exponent * jnp.log(jnp.maximum(u, _U_FLOOR)))  # a third of the time of `**` on a CPU
        return jnp.minimum(self.scale / jnp.maximum(power, self.floor), self.high)


@record
class Split(Record):
    """`below(u)` where `u < at`, else `above(u)`."""

    at: Array | float = leaf()
    below: Curve = leaf()
    above: Curve = leaf()

    def __call__(self, u: Array) -> Array:
        """Return the curve that holds at `u`."""
        return jnp.where(u < self.at, self.below(u), self.above(u))


@record
class Table(Record):
    """Linear interpolation of measured points, constant beyond the first and the last.

    Attributes:
      u: relative conductances, ascending, shape `[n]`.
      values: the curve there, shape `[n]`.
    """

    u: Numbers = leaf(ge=0, le=1)
    values: Numbers = leaf()

    def check(self) -> None:
        """Check that points ascend and pair up."""
        from anajax import _check

        if jnp.shape(self.u) != jnp.shape(self.values):
            raise ValueError(
                f"Table.values must have the shape of Table.u, {jnp.shape(self.u)}; got {jnp.shape(self.values)}"
            )
        if _check.is_concrete(self.u) and not np.all(np.diff(np.asarray(self.u, float)) > 0):
            raise ValueError(f"Table.u must ascend; got {self.u}")

    def __call__(self, u: Array) -> Array:
        """Return the interpolated value at `u`."""
        return jnp.interp(u, self.u, self.values)


@record
class SaturatingExponential(Record):
    """`height * (1 - exp(-rate * u))`."""

    height: Array | float = leaf()
    rate: Array | float = leaf()

    def __call__(self, u: Array) -> Array:
        """Return the curve at `u`."""
        return -self.height * jnp.expm1(-self.rate * u)
