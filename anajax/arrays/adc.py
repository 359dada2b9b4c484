"""ADCs as circuits: successive approximation, ramp, and current-controlled oscillator.

Each has the `2**bits - 1` levels of the ideal `ADC`, sign and magnitude, M = 2**(bits - 1) - 1 steps on either
side. What differs from converter to converter is fixed for the life of a chip: standard scores among the chip's
outputs, made by `program`. Without a chip converters are the mean ones.

Rounding is straight through, as in `quantize`: the code that was decided is held fixed, and the derivative is that
of the level which stands for it.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax._record import leaf, record, static
from anajax.arrays.converters import ADC, clip, step_size

_CAPACITORS = 15  # scores of each converter, whatever its bits: the largest capacitor first


def _decided(code: Array, level: Array, y: Array, step: Array | float, bound: Array | float) -> Array:
    """Return `code * step`, with the derivatives of `y - (level - code * step)` and of rounding as fixed noise.

    Beyond the bound `y` gets none, and the bound its own.
    """
    code = jax.lax.stop_gradient(code)
    error = jax.lax.stop_gradient((level - y) / step)
    smooth = jnp.where(jnp.abs(y) <= bound, y - level + (code + error) * step, jnp.sign(y) * bound)
    return jax.lax.stop_gradient(code * step) + (smooth - jax.lax.stop_gradient(smooth))


def _of_converter(score: Array, columns: int) -> Array:
    """Return for each column, the last axis, the score of its converter: that of the first column it serves."""
    return score if columns == 1 else score[..., np.arange(score.shape[-1]) // columns * columns]


def _check_bits(adc: SAR | Ramp) -> None:
    name, bits = type(adc).__name__, adc.bits
    if not isinstance(bits, int) or not 2 <= bits <= _CAPACITORS + 1:
        raise ValueError(f"{name}.bits must be an integer from 2 to {_CAPACITORS + 1}; got {bits!r}")


def _check_columns(adc: SAR | CCO) -> None:
    name, columns = type(adc).__name__, adc.columns_per_adc
    if not isinstance(columns, int) or columns < 1:
        raise ValueError(f"{name}.columns_per_adc must be a positive integer; got {columns!r}")


def _capacitors(bits: int, mismatch: Array | float | None, score: Array | None) -> Array:
    """Return the capacitors of the magnitude bits in steps, the largest first, `[bits - 1, ...]`; they sum to M.

    Capacitor k is of 2**k units, independent with relative spread `mismatch`; their sum is the reference.
    """
    units = 2.0 ** np.arange(bits - 2, -1, -1)
    if mismatch is None or score is None:
        return jnp.asarray(units, jnp.result_type(float))
    units = units.reshape(-1, *(1,) * (score.ndim - 1))
    c = jnp.maximum(units + mismatch * np.sqrt(units) * score[: bits - 1], 0.0)
    return c * (units.sum() / jnp.sum(c, axis=0))


@record
class SAR(ADC):
    """Successive approximation on a binary-weighted capacitive DAC, bit by bit from the largest.

    With capacitors C_k of 2**k units, each unit of relative spread `mismatch`, a magnitude code d with bits d_k
    stands for the level bound * sum_k d_k C_k / sum_k C_k: of integral nonlinearity, in steps, of variance
    mismatch**2 d (M - d) / M to first order, and none at full scale. A bit stays set where the input, plus half
    a step, reaches the level: halves round away from zero. The digital side takes code d for d steps.
    Source of the model: CrossSim 3 (its SAR converter), here with the capacitors of every converter its own.

    Attributes:
      bits: resolution, an integer from 2 to 16, static.
      bound: largest output, in full-scale weights.
      asymmetry: as in `ADC`.
      mismatch: relative standard deviation of one unit capacitor, or `None`.
      offset: standard deviation of the comparator's offset, referred to the input, in full-scale weights, or `None`.
      columns_per_adc: how many adjacent columns share a converter.
    """

    bits: int = static(default=8)
    mismatch: Array | float | None = leaf(default=None, ge=0, le=1)
    offset: Array | float | None = leaf(default=None, ge=0)
    columns_per_adc: int = static(default=1)

    fabricated: ClassVar = {"adc_capacitors": (_CAPACITORS,), "adc_offset": ()}

    def check(self) -> None:
        """Check the resolution and the sharing."""
        _check_bits(self)
        _check_columns(self)

    def __call__(self, y: Array, scores: dict[str, Array] | None = None) -> Array:
        """Return the digital values of currents `y [..., cols]`; `scores` are those of one array's outputs."""
        own = {n: _of_converter(s, self.columns_per_adc) for n, s in (scores or {}).items() if n in self.fabricated}
        if self.offset is not None and "adc_offset" in own:
            y = y + self.offset * own["adc_offset"]
        capacitors = _capacitors(self.bits, self.mismatch, own.get("adc_capacitors"))
        step = step_size(self.bits, self.bound)
        reach = jnp.abs(y) / step + 0.5
        code, level = jnp.zeros_like(y), jnp.zeros_like(y)
        for k, c in zip(range(self.bits - 2, -1, -1), capacitors, strict=True):
            kept = reach >= level + c
            code = code + jnp.where(kept, 2.0**k, 0.0).astype(y.dtype)
            level = level + jnp.where(kept, c, 0.0).astype(y.dtype)
        sign = jnp.sign(y)
        return _decided(sign * code, sign * level * step, y, step, self.bound)


@record
class Ramp(ADC):
    """Single-slope conversion: one ramp for all columns of an array, and a comparator in each.

    The ramp is a capacitive DAC as in `SAR` that counts up; a column keeps the last code before the ramp first
    exceeds its input by half a step. Where mismatch makes the ramp fall back, the code before the fall is missing.
    Source of the model: CrossSim 3 (its ramp converter).

    Attributes:
      bits: resolution, an integer from 2 to 16, static.
      bound: largest output, in full-scale weights.
      asymmetry: as in `ADC`.
      mismatch: relative standard deviation of one unit capacitor of the ramp, or `None`.
      offset: standard deviation of each comparator's offset, referred to the input, in full-scale weights, or `None`.
    """

    bits: int = static(default=8)
    mismatch: Array | float | None = leaf(default=None, ge=0, le=1)
    offset: Array | float | None = leaf(default=None, ge=0)

    fabricated: ClassVar = {"adc_capacitors": (_CAPACITORS,), "adc_offset": ()}

    def check(self) -> None:
        """Check the resolution."""
        _check_bits(self)

    def __call__(self, y: Array, scores: dict[str, Array] | None = None) -> Array:
        """Return the digital values of currents `y [..., cols]`; `scores` are those of one array's outputs."""
        scores = scores or {}
        if self.offset is not None and "adc_offset" in scores:
            y = y + self.offset * scores["adc_offset"]
        shared = scores.get("adc_capacitors")
        capacitors = _capacitors(self.bits, self.mismatch, None if shared is None else shared[:, 0])
        codes = np.arange(2 ** (self.bits - 1))
        digits = jnp.asarray(codes[:, None] >> np.arange(self.bits - 2, -1, -1) & 1, capacitors.dtype)
        levels = jnp.dot(digits, capacitors, precision="highest").astype(y.dtype)
        step = step_size(self.bits, self.bound)
        reach = jax.lax.stop_gradient(jnp.abs(y) / step + 0.5)
        code = jnp.searchsorted(jax.lax.cummax(jax.lax.stop_gradient(levels)), reach, side="right") - 1
        sign = jnp.sign(y)
        return _decided(sign * code.astype(y.dtype), sign * levels[code] * step, y, step, self.bound)


@record
class CCO(ADC):
    """Counting the cycles of a current-controlled oscillator, whose frequency saturates with the current.

    With t = y / bound in [-1, 1], n0 the mean curvature, and of each converter the gain g = |1 + gain_spread xi|
    and the curvature n = n0 |1 + curvature_spread xi'|, a conversion counts the whole cycles of

        M r,   r = g t (1 + n0) / (1 + n |t|),

    rounded towards zero and at most M: the mean converter counts M at the bound. The linear calibration then
    multiplies, for each `"converter"`, by bound / (M r(1)), so that gain drops out and a bend of at most about
    n / 4 of the bound is left; or for the whole `"array"` by bound / M, so that gain errors stay.
    A behavioural model of the converters of HERMES (Khaddam-Aljameh et al., JSSC 2022); no chip's curve was fitted.

    Attributes:
      bits: resolution, a real number > 1; `None` counts fractions of a cycle too.
      bound: largest output, in full-scale weights.
      asymmetry: as in `ADC`.
      gain_spread: relative spread of the oscillators' gain, or `None`.
      curvature: mean relative loss of frequency over gain at the bound; 0 is linear.
      curvature_spread: relative spread of the curvature, or `None`.
      calibration: `"converter"` or `"array"`: what has a digital factor of its own.
      columns_per_adc: how many adjacent columns share a converter.
    """

    gain_spread: Array | float | None = leaf(default=None, ge=0)
    curvature: Array | float = leaf(default=0.0, ge=0)
    curvature_spread: Array | float | None = leaf(default=None, ge=0)
    calibration: str = static(default="converter", choices=("converter", "array"))
    columns_per_adc: int = static(default=1)

    fabricated: ClassVar = {"adc_gain": (), "adc_curvature": ()}

    def check(self) -> None:
        """Check the sharing."""
        _check_columns(self)

    def __call__(self, y: Array, scores: dict[str, Array] | None = None) -> Array:
        """Return the digital values of currents `y [..., cols]`; `scores` are those of one array's outputs."""
        own = {n: _of_converter(s, self.columns_per_adc) for n, s in (scores or {}).items() if n in self.fabricated}
        gain, curvature = jnp.ones((), y.dtype), self.curvature
        if self.gain_spread is not None:
            gain = jnp.abs(1 + self.gain_spread * own.get("adc_gain", 0.0))
        if self.curvature_spread is not None:
            curvature = curvature * jnp.abs(1 + self.curvature_spread * own.get("adc_curvature", 0.0))
        full = gain * (1 + self.curvature)  # over 1 + n: r(1)
        t = clip(y, self.bound) / self.bound
        r = full * t / (1 + curvature * jnp.abs(t))
        if self.bits is None:
            counted = clip(r * self.bound, self.bound)
        else:
            step = step_size(self.bits, self.bound)
            most = 2.0 ** (self.bits - 1) - 1
            whole = jnp.floor(most * (jnp.abs(r) + 4 * jnp.finfo(y.dtype).eps))  # rounding must not lose a cycle
            code = jax.lax.stop_gradient(jnp.sign(y) * jnp.minimum(whole, jnp.floor(most)))
            counted = _decided(code, code * step, r * self.bound, step, self.bound)
        return counted if self.calibration == "array" else counted * (1 + curvature) / full
