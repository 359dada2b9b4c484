"""Weight slicing: the bits of a weight on several lines, put together again by shift and add."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax._record import Record, record, static

_MOST = 16  # bits of a weight: codes stay exact in float32


@record
class Slices(Record):
    """Each weight is an integer code, of sign and magnitude, whose groups of bits lie on lines of their own.

    With B = bits * count, a weight w in [-1, 1] has the code rint(|w| (2**B - 1)) and its digits d_k of `bits` bits.
    Line k holds sign(w) d_k / (2**bits - 1) as any weight, by the mapping, and

        w = sum_k f_k sign(w) d_k / (2**bits - 1),   f_k = 2**(bits k) (2**bits - 1) / (2**B - 1),   sum_k f_k = 1.

    `"digital"`: every line has its own conversion, and the results are shifted and added. What belongs to outputs
    (ADC, noise, scores) counts by line, in full-scale cells. `"analog"`: currents add in the ratio of f_k before one
    conversion; outputs count by column, in full-scale weights.
    Rounding is straight through: each line's derivative by w is 1.
    Sources: Shafiee et al., ISCA 2016 (ISAAC); CrossSim 3 (bit slicing, with balanced cells within a slice).

    Attributes:
      bits: bits of each cell, static.
      count: number of slices, static.
      add: `"digital"` or `"analog"`.
    """

    bits: int = static(default=1)
    count: int = static(default=8)
    add: str = static(default="digital", choices=("digital", "analog"))

    def check(self) -> None:
        """Check the numbers of bits."""
        for name in ("bits", "count"):
            n = getattr(self, name)
            if not isinstance(n, int) or n < 1:
                raise ValueError(f"Slices.{name} must be a positive integer; got {n!r}")
        if self.bits * self.count > _MOST:
            raise ValueError(f"Slices.bits * Slices.count must be at most {_MOST}; got {self.bits} * {self.count}")

    @property
    def outputs(self) -> int:
        """How many conversions a column has."""
        return self.count if self.add == "digital" else 1

    @property
    def shifts(self) -> np.ndarray:
        """The value of a full-scale line in units of the code, `[count]`, least significant first."""
        return 2.0 ** (self.bits * np.arange(self.count)) * (2**self.bits - 1)

    def split(self, weights: Array) -> Array:
        """Return what the lines hold of weights in [-1, 1]: `[..., count * cols]`, least significant slice first."""
        code = jnp.round(jnp.clip(jnp.abs(weights), 0, 1) * (2 ** (self.bits * self.count) - 1)).astype(jnp.int32)
        top = 2**self.bits - 1
        digits = [(code >> (self.bits * k) & top).astype(weights.dtype) / top for k in range(self.count)]
        sign, slope = jnp.sign(weights), weights - jax.lax.stop_gradient(weights)  # zero, of derivative 1
        held = [jax.lax.stop_gradient(sign * d) + slope for d in digits]
        return jnp.concatenate(held, axis=-1)

    def repeat(self, a: Array) -> Array:
        """Return the values of columns, the last axis, for each of their lines."""
        return jnp.concatenate([a] * self.count, axis=-1)

    def scales(self, scale: Array) -> Array:
        """Return the digital factor of each output, `[..., cols * outputs]`, of those of columns `[..., cols]`."""
        if self.add == "analog":
            return scale
        unit = scale / (2 ** (self.bits * self.count) - 1)
        return jnp.concatenate([unit * s for s in self.shifts], axis=-1)

    def total(self, y: Array) -> Array:
        """Add the outputs of each column, already scaled, in digital: `[..., cols]`."""
        return _sum(y, self.outputs)

    def seen(self, weights: Array, power: int = 1) -> Array:
        """Return the weights that outputs see of those of lines, the last axis; for variances `power` is 2."""
        if self.add == "digital":
            return weights
        f = (self.shifts / self.shifts.sum()) ** power
        return _sum(weights * jnp.asarray(np.repeat(f, weights.shape[-1] // self.count), weights.dtype), self.count)


def _sum(a: Array, count: int) -> Array:
    """Add the `count` slices along the last axis."""
    return a if count == 1 else jnp.sum(a.reshape(*a.shape[:-1], count, -1), axis=-2)
