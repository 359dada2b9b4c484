"""Nonidealities of one analog matrix-vector multiplication, between the DAC and the ADC.

Currents are in full-scale weights (for differential pairs: in full-scale cells), inputs in units of the read
voltage, so that the dimensionless numbers of the literature, which are those of pairs whose idle partner stays
at zero conductance, keep their values. What differs from output to output is fixed for the life of a chip: it is
a standard score `[cols]`, made by `fabricate`; without a chip it is zero.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from anajax._record import Record, leaf, record, static


@record
class WeightNoise(Record):
    """Short-term noise of the weights, fresh for each MVM, added on the outputs.

    Independent noise of standard deviation s_j on each weight is, on an output, one normal of variance
    sum_j s_j**2 x_j**2: the same distribution, at the price of one draw.

    Attributes:
      sigma: standard deviation in units of a full-scale weight.
      kind: `"constant"`: s = sigma for every cell; `"pcm"`: s = sigma * sqrt(|w|).
    """

    sigma: Array | float = leaf(ge=0)
    kind: str = static(default="pcm", choices=("constant", "pcm"))


@record
class OutputNoise(Record):
    """Additive noise of the output stage, fresh for each MVM.

    Attributes:
      sigma: standard deviation in full-scale weights.
      spread: relative spread of sigma from output to output, or `None`.
    """

    sigma: Array | float = leaf(ge=0)
    spread: Array | float | None = leaf(default=None, ge=0)

    def level(self, score: Array | float) -> Array:
        """Return each output's standard deviation."""
        if self.spread is None:
            return jnp.asarray(self.sigma)
        return jnp.abs(self.sigma * (1 + self.spread * score))


@record
class SShape(Record):
    """Saturating outputs: `y * gain / (1 + |n y|)`, n = strength * (1 + spread * score) / ADC bound.

    The gain is `(1 + (mean |n| + series resistance) * calibration * bound)**2`: the output at which the slope
    is calibrated to 1, as a fraction of the bound; 0 for no calibration.
    Source: Rasch et al., Nat. Commun. 14:5282 (2023).

    Attributes:
      strength: mean nonlinearity over the output range.
      spread: relative spread from output to output, or `None`.
      calibration: fraction of the bound at which the slope is 1.
    """

    strength: Array | float = leaf()
    spread: Array | float | None = leaf(default=None, ge=0)
    calibration: Array | float = leaf(default=0.0, ge=0)

    def __call__(self, y: Array, bound: Array | float, score: Array | float, resistance: Array | float) -> Array:
        """Return the saturated outputs `[..., cols]`; `score` is `[cols]` or 0, `resistance` in 1 / cells."""
        n = jnp.asarray(self.strength / bound)
        n = jnp.abs(n) if self.spread is None else jnp.abs(n * (1 + self.spread * score))
        gain = (1 + (jnp.mean(n) + resistance) * self.calibration * bound) ** 2
        return gain * y / (1 + n * jnp.abs(y))


@record
class ReadVoltage(Record):
    """Imperfect read voltage: an offset of each output's virtual ground, and a series resistance.

    With v = max(offset * score, 0) per output, r the resistance and R = -reference * sum_j x_j,

        y <- (1 - v) (y + R) / (1 + r |y + R|) - (1 + v) R / (1 + r |R|)

    Source: AIHWKit 1.1, its output model.

    Attributes:
      offset: spread of the relative voltage offset from output to output.
      series_resistance: r, relative drop at a current of one full-scale weight.
      reference: level of the implicit reference device, in full-scale weights.
    """

    offset: Array | float = leaf(default=0.0, ge=0)
    series_resistance: Array | float = leaf(default=0.0, ge=0)
    reference: Array | float = leaf(default=-1.0)

    def __call__(self, x: Array, y: Array, score: Array | float) -> Array:
        """Return the currents `[..., cols]` of inputs `x [..., rows]` and ideal currents `y`."""
        v = jnp.maximum(self.offset * score, 0.0)
        base = -self.reference * jnp.sum(x, axis=-1, keepdims=True)
        r = self.series_resistance
        total = y + base
        return (1 - v) * total / (1 + r * jnp.abs(total)) - (1 + v) * base / (1 + r * jnp.abs(base))
