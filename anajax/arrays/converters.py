"""Converters: DAC and ADC, and the digital scaling that brings inputs into the DAC's range."""

from __future__ import annotations

import zlib
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from anajax._random import read_normal
from anajax._record import Record, leaf, record


def step_size(bits: Array | float, bound: Array | float) -> Array | float:
    """Return the step of a converter with `2**bits - 2` steps over `[-bound, bound]`: 8 bits make 255 levels.

    Source: Rasch et al., Nat. Commun. 14:5282 (2023), eq. for quant_{q,b}.
    """
    return 2 * bound / (2.0**bits - 2)


@jax.custom_jvp
def quantize(x: Array, step: Array | float, bound: Array | float) -> Array:
    """Round half to even to multiples of `step`, and clip at `bound`: `clip(rint(x / step) * step, -bound, bound)`.

    Derivatives: straight through for `x` within the bounds and zero outside. `step` gets the derivative of
    a surrogate in which rounding is uniform noise of one step, `x + step * u` with u the rounding error at
    hand in units of the step, held fixed. `bound` gets the true one.

    Args:
      x: values of any shape.
      step: distance of two levels, in the unit of `x`.
      bound: largest magnitude, in the unit of `x`.
    """
    return jnp.clip(jnp.round(x / step) * step, -bound, bound)


@quantize.defjvp
def _quantize_jvp(primals, tangents):
    x, step, bound = primals
    dx, dstep, dbound = tangents
    y = quantize(x, step, bound)
    inside = jnp.abs(x) <= bound
    error = jax.lax.stop_gradient(jnp.round(x / step) - x / step)
    return y, jnp.where(inside, dx + error * dstep, jnp.sign(x) * dbound)


def clip(x: Array, bound: Array | float) -> Array:
    """Clip to `[-bound, bound]`, with derivative 1 at the bounds themselves, as `quantize` has there."""
    return jnp.where(jnp.abs(x) <= bound, x, jnp.sign(x) * bound)


def convert(x: Array, bits: Array | float | None, bound: Array | float) -> Array:
    """Quantise to `bits` within `bound`; `bits=None` clips only."""
    return clip(x, bound) if bits is None else quantize(x, step_size(bits, bound), bound)


def asymmetric(x: Array, asymmetry: Array | float | None) -> Array:
    """Multiply negative values by `1 - asymmetry`."""
    return x if asymmetry is None else jnp.where(x < 0, x * (1 - asymmetry), x)


@record
class DAC(Record):
    """Input converters of the word lines.

    Attributes:
      bits: resolution, a real number > 1; `None` is infinite.
      bound: largest input, in units of the read voltage.
      noise: standard deviation added after conversion, fresh for each input, in the same unit, or `None`.
      asymmetry: negative inputs are multiplied by `1 - asymmetry`, or `None`.
    """

    bits: Array | float | None = leaf(default=None, gt=1)
    bound: Array | float = leaf(default=1.0, gt=0)
    noise: Array | float | None = leaf(default=None, ge=0)
    asymmetry: Array | float | None = leaf(default=None)

    def __call__(self, key: Array | None, x: Array, first: int | Array = 0) -> Array:
        """Return the voltages of inputs `x`, in units of the read voltage; `first` as in noise drawn in parts."""
        x = convert(x, self.bits, self.bound)
        if self.noise is not None and key is not None:
            x = x + self.noise * read_normal(key, x.shape, x.dtype, first)
        return asymmetric(x, self.asymmetry)


@record
class ADC(Record):
    """Output converters of the bit lines, ideal but for their resolution; base of `SAR`, `Ramp` and `CCO`.

    Attributes:
      bits: resolution, a real number > 1; `None` is infinite.
      bound: largest output, in full-scale weights: for differential pairs, in full-scale cells.
      asymmetry: negative outputs are multiplied by `1 - asymmetry`, before output noise and conversion; or `None`.
    """

    bits: Array | float | None = leaf(default=None, gt=1)
    bound: Array | float = leaf(default=10.0, gt=0)
    asymmetry: Array | float | None = leaf(default=None)

    fabricated: ClassVar[dict[str, tuple[int, ...]]] = {}  # scores by name: axes before that of the columns

    def fabricate(self, key: Array, shape: tuple[int, ...]) -> dict[str, Array]:
        """Return standard scores of the converters of outputs of `shape [..., cols]`; none of ideal ones."""
        return {
            name: jax.random.normal(jax.random.fold_in(key, zlib.crc32(name.encode())), (*shape[:-1], *axes, shape[-1]))
            for name, axes in self.fabricated.items()
        }

    def __call__(self, y: Array, scores: dict[str, Array] | None = None) -> Array:
        """Return the digital values of currents `y [..., cols]`, in full-scale weights; `scores` as in `Tile`."""
        return convert(y, self.bits, self.bound)


@record
class InputScaling(Record):
    """Base of the digital input scalings: the MVM computes `range * mvm(x / range)`."""


@record
class FixedRange(InputScaling):
    """Inputs are divided by one constant.

    Attributes:
      range: the input that maps to the DAC's full scale.
    """

    range: Array | float = leaf(default=1.0, gt=0)


@record
class LearnedRange(InputScaling):
    """Inputs are divided by a range that each layer learns: a parameter of the layer, not of the hardware.

    The range gets the published gradient instead of the true one: `clip_to_range` and `decay_range`.
    Source: Rasch et al., Nat. Commun. 14:5282 (2023), as in AIHWKit.

    Attributes:
      initial: the range before it has seen data, in the unit of the inputs.
      decay: pull towards smaller ranges while more than `coverage` of the inputs lie within.
      coverage: the fraction above which decay sets in.
    """

    initial: Array | float = leaf(default=3.0, gt=0)
    decay: Array | float = leaf(default=0.001, ge=0)
    coverage: Array | float = leaf(default=0.95, ge=0, le=1)


@record
class AbsMax(InputScaling):
    """Each array's share of an input vector is divided by its largest magnitude (noise management).

    The magnitude is differentiated through.

    Attributes:
      cap: largest divisor, or `None`.
    """

    cap: Array | float | None = leaf(default=None, gt=0)

    def ranges(self, x: Array) -> Array:
        """Return the divisor of each vector, shape `[..., 1]`, of `x [..., rows]`; 0 for a vector of zeros."""
        peak = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
        return peak if self.cap is None else jnp.minimum(peak, self.cap)


@jax.custom_vjp
def clip_to_range(x: Array, range: Array) -> Array:
    """Clip `x` at `range`, whose gradient follows the published rule.

    With g the gradient of the loss with respect to the result, the range receives

        range * (sum of min(g, 0) where x >= range - sum of max(g, 0) where x <= -range):

    clipped inputs can only ask for a larger range. `x` gets the true gradient, zero where it was clipped.
    Source: Rasch et al., Nat. Commun. 14:5282 (2023), as in AIHWKit.

    Args:
      x: inputs of any shape.
      range: scalar, in the unit of `x`.
    """
    return jnp.clip(x, -range, range)


def _clip_fwd(x, range):
    return clip_to_range(x, range), (x, range)


def _clip_bwd(saved, g):
    x, range = saved
    above, below = x >= range, x <= -range
    grow = jnp.sum(jnp.where(above, jnp.minimum(g, 0), 0)) - jnp.sum(jnp.where(below, jnp.maximum(g, 0), 0))
    return jnp.where(above | below, 0, g), (range * grow).astype(jnp.result_type(range))


clip_to_range.defvjp(_clip_fwd, _clip_bwd)


@jax.custom_vjp
def decay_range(range: Array, x: Array, decay: Array | float, coverage: Array | float) -> Array:
    """Return `range`, adding `decay * range` to its gradient while more than `coverage` of `x` lies within.

    The published rule adds it once for each call, whatever the scale of the loss.

    Args:
      range: scalar, in the unit of `x`.
      x: inputs of any shape; they get no gradient from here.
      decay: see `LearnedRange`.
      coverage: see `LearnedRange`.
    """
    return range


def _decay_fwd(range, x, decay, coverage):
    covered = jnp.mean((jnp.abs(x) < range).astype(x.dtype)) > coverage
    return range, (range, covered, decay, coverage, x)


def _decay_bwd(saved, g):
    range, covered, decay, coverage, x = saved
    pull = jnp.where(covered, decay * range, 0.0).astype(jnp.result_type(range))
    return g + pull, *jax.tree.map(jnp.zeros_like, (x, decay, coverage))


decay_range.defvjp(_decay_fwd, _decay_bwd)
