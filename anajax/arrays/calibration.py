"""Calibration of ADC ranges: what the converters see of data, and rules that choose `ADC.bound` from it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._record import Record, leaf, record
from anajax.arrays.converters import AbsMax, FixedRange, LearnedRange
from anajax.arrays.hardware import Hardware
from anajax.arrays.reads import weight_noise
from anajax.arrays.serial import BitSerial
from anajax.arrays.tile import Effective


@record
class RangeRule(Record):
    """Base of the rules that choose a range from `currents`, batch by batch."""

    def add(self, state: Any, currents: Array) -> Any:
        """Return what is known after one batch of currents more, any shape; `state` is `None` before the first."""
        raise NotImplementedError

    def bound(self, state: Any) -> Array:
        """Return the range, in the unit of the currents."""
        return state

    def __call__(self, batches: Iterable[Array]) -> Array:
        """Return the range for batches of currents, of any shape each."""
        state = None
        for currents in batches:
            state = self.add(state, currents)
        if state is None:
            raise ValueError("batches is empty: a range is calibrated from at least one batch")
        return self.bound(state)


@record
class Maximum(RangeRule):
    """The largest magnitude: nothing clips, and rare currents take resolution from all others."""

    def add(self, state: Any, currents: Array) -> Array:
        """Return the largest magnitude so far."""
        peak = jnp.max(jnp.abs(currents))
        return peak if state is None else jnp.maximum(state, peak)


@record
class Quantile(RangeRule):
    """The magnitude that a fraction `level` of all currents stays within (a percentile); keeps all batches in memory.

    Attributes:
      level: fraction, from 0 to 1.
    """

    level: Array | float = leaf(default=0.999, ge=0, le=1)

    def add(self, state: Any, currents: Array) -> Any:
        """Return the batches so far."""
        return (*(state or ()), jnp.abs(currents).ravel())

    def bound(self, state: Any) -> Array:
        """Return the quantile."""
        return jnp.quantile(jnp.concatenate(state), self.level)


@record
class MovingQuantile(RangeRule):
    """Exponential average of each batch's quantile, `b <- b + momentum (quantile - b)`, from the first batch on.

    Attributes:
      level: fraction of a batch's magnitudes within its quantile, from 0 to 1.
      momentum: weight of a new batch, above 0; 1 forgets all but the last.
    """

    level: Array | float = leaf(default=0.999, ge=0, le=1)
    momentum: Array | float = leaf(default=0.1, gt=0, le=1)

    def add(self, state: Any, currents: Array) -> Array:
        """Return the average so far."""
        found = jnp.quantile(jnp.abs(currents), self.level)
        return found if state is None else state + self.momentum * (found - state)


@record
class Analytic(Record):
    """A range from the moments of the inputs, taken as independent, and the weights: no current is computed.

        bound = max_j ( |sum_i w_ij m_i| + sigmas sqrt(sum_i w_ij**2 s_i**2 + noise_j**2) )

    with means m_i and standard deviations s_i of inputs after scaling, and the noise of weights and outputs. For
    normal currents a fraction erfc(sigmas / sqrt(2)) of the widest output clips: 6e-5 at 4.

    Attributes:
      sigmas: how many standard deviations.
    """

    sigmas: Array | float = leaf(default=4.0, ge=0)

    def __call__(
        self,
        hardware: Hardware,
        effective: Effective,
        mean: Array | float,
        std: Array | float,
        input_range: Array | float | None = None,
    ) -> Array:
        """Return the range.

        Args:
          hardware: the spec; without `AbsMax`, whose divisors differ, without `BitSerial` inputs, and with currents
            that are a matrix product.
          effective: from `settle` or `unprogrammed`.
          mean: of the inputs as they are given, scalar or `[rows]`.
          std: of the inputs as they are given, scalar or `[rows]`.
          input_range: as in `mvm`.
        """
        if isinstance(hardware.inputs, AbsMax):
            raise ValueError(
                "Analytic knows no ranges for Hardware.inputs=AbsMax(...), which differ from input to input"
            )
        if isinstance(hardware.dac, BitSerial):
            raise ValueError("Analytic knows no moments of single pulses; got Hardware.dac=BitSerial(...)")
        if hardware.cell_by_cell:
            raise ValueError(
                "Analytic needs arrays that compute a matrix product; got nonlinear Hardware.conduction or transistors"
            )
        divisor: Array | float = 1.0
        if isinstance(hardware.inputs, FixedRange):
            divisor = hardware.inputs.range
        elif isinstance(hardware.inputs, LearnedRange):
            if input_range is None:
                raise ValueError("hardware.inputs is LearnedRange: Analytic needs input_range, the range learned")
            divisor = input_range
        n_rows, _, r, _ = effective.weights.shape

        def by_array(moment: Array | float, name: str) -> Array:
            moment = jnp.asarray(moment) / divisor
            if moment.ndim > 0:
                _check.shape(moment, name, "rows", rows=effective.shape[0])
            whole = jnp.broadcast_to(moment, effective.shape[:1])
            return jnp.pad(whole, (0, n_rows * r - whole.shape[0])).reshape(n_rows, 1, r, 1)

        m, s = by_array(mean, "mean"), by_array(std, "std")
        center = jnp.sum(effective.weights * m, axis=-2)
        variance = jnp.sum((effective.weights * s) ** 2, axis=-2)
        size = jnp.broadcast_to(jnp.sqrt(m**2 + s**2), (*effective.weights.shape[:3], 1))[..., 0][:, :, None]
        of_weights = jax.vmap(jax.vmap(functools.partial(weight_noise, hardware)))
        noise = of_weights(effective.weights, effective.variance, size)
        if noise is not None:
            variance = variance + noise[:, :, 0]
        if hardware.output_noise is not None:
            variance = variance + hardware.output_noise.sigma**2
        return jnp.max(jnp.abs(center) + self.sigmas * jnp.sqrt(variance))


def with_bound(hardware: Hardware, bound: Array) -> Hardware:
    """Return `hardware` with the ADC's bound; a bound of zero, which tells nothing, leaves it as it is."""
    if hardware.adc is None:
        raise ValueError("Hardware.adc is None: there is no range to calibrate; give it an ADC")
    return hardware.replace(**{"adc.bound": bound}) if float(np.asarray(bound)) > 0 else hardware
