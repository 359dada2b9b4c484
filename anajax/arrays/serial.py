"""Bit-serial inputs: an input as a train of pulses of few levels, put together again by shift and add."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax._random import read_normal
from anajax._record import record, static
from anajax.arrays.converters import DAC, asymmetric, clip, step_size


@record
class BitSerial(DAC):
    """A DAC of few levels that streams each input as pulses, the least significant first.

    Inputs are rounded as by a `DAC` of the same bits, to a sign and a magnitude of at most M = 2**(bits - 1) - 1 steps.
    Pulse j, of k = `pulse_bits` bits d_j of it, has the input's sign and the height bound d_j / (2**k - 1), and

        x = sum_j q_j pulse_j,   q_j = 2**(k j) (2**k - 1) / M.

    The array reads every pulse as an input of its own, with noise of its own up to the ADC. `"digital"`: every pulse
    has a conversion, and the results are shifted and added. `"analog"`: outputs add in the ratio of q_j before one.
    Rounding is straight through: every pulse has the same derivative by x.
    Sources: Shafiee et al., ISCA 2016 (ISAAC, pulses of one bit); CrossSim 3 (input bit slicing).

    Attributes:
      bits: resolution, an integer from 2 to 16, static.
      pulse_bits: bits of one pulse, static; 1 is a pulse or none.
      add: `"digital"` or `"analog"`.
      bound: largest input, and the height of a full pulse, in units of the read voltage.
      noise: standard deviation of each pulse's height, in the same unit, or `None`.
      asymmetry: negative pulses are multiplied by `1 - asymmetry`, or `None`.
    """

    bits: int = static(default=8)
    pulse_bits: int = static(default=1)
    add: str = static(default="digital", choices=("digital", "analog"))

    def check(self) -> None:
        """Check the numbers of bits."""
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 16:
            raise ValueError(f"BitSerial.bits must be an integer from 2 to 16; got {self.bits!r}")
        if not isinstance(self.pulse_bits, int) or not 1 <= self.pulse_bits < self.bits:
            raise ValueError(
                f"BitSerial.pulse_bits must be an integer from 1 to bits - 1 = {self.bits - 1}; got {self.pulse_bits!r}"
            )

    @property
    def count(self) -> int:
        """How many pulses an input has."""
        return -(-(self.bits - 1) // self.pulse_bits)

    @property
    def shifts(self) -> np.ndarray:
        """The value of a full pulse in steps of the input, `[count]`."""
        return 2.0 ** (self.pulse_bits * np.arange(self.count)) * (2**self.pulse_bits - 1)

    def pulses(self, x: Array) -> Array:
        """Return the pulses of inputs `x [..., rows]`, `[..., count, rows]`, in units of the read voltage."""
        steps = 2 ** (self.bits - 1) - 1
        bounded = clip(x, self.bound)
        code = jnp.round(jnp.abs(bounded) / step_size(self.bits, self.bound)).astype(jnp.int32)
        top = 2**self.pulse_bits - 1
        digits = jnp.stack(
            [(code >> (self.pulse_bits * j) & top).astype(x.dtype) / top for j in range(self.count)], axis=-2
        )
        relative = bounded / self.bound * (steps / self.shifts.sum())
        height = jax.lax.stop_gradient(jnp.sign(x)[..., None, :] * digits)
        return self.bound * (height + (relative - jax.lax.stop_gradient(relative))[..., None, :])

    def __call__(self, key: Array | None, x: Array, first: int | Array = 0) -> Array:
        """Return the voltages of pulses `x`, as they come from `pulses`; `first` as in noise drawn in parts."""
        if self.noise is not None and key is not None:
            x = x + self.noise * read_normal(key, x.shape, x.dtype, first)
        return asymmetric(x, self.asymmetry)

    def total(self, y: Array) -> Array:
        """Shift and add the outputs of pulses, `[n * count, cols]`, the pulses of one input side by side."""
        shifts = jnp.asarray(self.shifts, y.dtype)[:, None]
        return jnp.sum(y.reshape(-1, self.count, y.shape[-1]) * shifts, axis=1) / (2 ** (self.bits - 1) - 1)
