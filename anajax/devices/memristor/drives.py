"""Drives: voltages over time, with the times at which they bend or change sign.

Every drive is continuous, so that no step of a solver ever crosses a jump: an edge takes a finite time.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._record import Numbers, Record, leaf, record, static

Float = Array | float


@record
class Drive(Record):
    """Base of all drives: a record called with a time.

    A drive of your own defines `__call__`, `corners` and `crossings`.
    """

    def __call__(self, t: Float) -> Array:
        """Return the voltage [V] at time `t` [s], elementwise."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__: a Drive must define it")

    def corners(self) -> Array:
        """Return the times [s] between which the voltage is smooth, monotone and of one sign; in any order."""
        raise NotImplementedError(f"{type(self).__name__} has no corners: a Drive must define it")

    def crossings(self, level: Float) -> Array:
        """Return the times [s] at which the voltage passes `level` [V], and any others; as many for any level."""
        raise NotImplementedError(f"{type(self).__name__} has no crossings: a Drive must define it")


@record
class Sine(Drive):
    """`amplitude` sin(2 pi `frequency` t) for a whole number of cycles from t = 0; zero before and after.

    Attributes:
      amplitude: peak voltage [V].
      frequency: cycles per second [Hz].
      cycles: how many, a whole number.
    """

    amplitude: Float = leaf()
    frequency: Float = leaf(gt=0)
    cycles: int = static()

    def check(self) -> None:
        """Check the number of cycles."""
        whole(self.cycles, "Sine.cycles")

    def __call__(self, t: Float) -> Array:
        """Return the voltage [V] at time `t` [s]."""
        turns = self.frequency * t
        on = (turns >= 0) & (turns <= self.cycles)
        # the sine of whole turns taken off: no digits are lost to 2 pi
        return jnp.where(on, self.amplitude * jnp.sin(2 * jnp.pi * (turns - jnp.round(turns))), 0.0)

    def corners(self) -> Array:
        """Return zeros and peaks [s]."""
        return jnp.arange(4 * self.cycles + 1) / (4 * self.frequency)

    def crossings(self, level: Float) -> Array:
        """Return the times [s] on both flanks of every half cycle; peaks where the level is out of reach."""
        part = jnp.arcsin(jnp.clip(level / self.amplitude, -1, 1)) / (2 * jnp.pi)
        turns = jnp.arange(self.cycles)[:, None] + jnp.stack([part % 1, 0.5 - part])
        return turns.ravel() / self.frequency


@record
class PiecewiseLinear(Drive):
    """Base of drives made of straight lines; they define `points`."""

    def points(self) -> tuple[Array, Array]:
        """Return ascending times [s] and the voltages [V] there."""
        raise NotImplementedError(f"{type(self).__name__} has no points: a PiecewiseLinear must define it")

    def __call__(self, t: Float) -> Array:
        """Return the voltage [V] at time `t` [s]; the first and the last voltage hold outside."""
        times, volts = self.points()
        # looking at every point compiles faster than a binary search, and runs faster where points are few
        search = "compare_all" if len(times) <= 64 else "scan"
        k = jnp.clip(jnp.searchsorted(times, t, side="right", method=search), 1, len(times) - 1)
        part = (t - times[k - 1]) / (times[k] - times[k - 1])
        part = jnp.where(part < 0, 0.0, jnp.where(part > 1, 1.0, part))  # the derivatives of a clip halve at its ends
        return volts[k - 1] + part * (volts[k] - volts[k - 1])

    def corners(self) -> Array:
        """Return the points, and the zeros between them [s]."""
        return jnp.concatenate([self.points()[0], self.crossings(0.0)])

    def crossings(self, level: Float) -> Array:
        """Return the time [s] in each line at which it passes `level` [V]; its start where it does not."""
        times, volts = self.points()
        above = volts - level
        crosses = above[:-1] * above[1:] < 0
        part = jnp.where(crosses, above[:-1] / jnp.where(crosses, -jnp.diff(volts), 1.0), 0.0)
        return times[:-1] + part * jnp.diff(times)


@record
class Triangle(PiecewiseLinear):
    """Straight from 0 to `amplitude`, to `-amplitude`, and back to 0, a whole number of times from t = 0.

    Attributes:
      amplitude: peak voltage [V].
      period: duration of one cycle [s].
      cycles: how many, a whole number.
    """

    amplitude: Float = leaf()
    period: Float = leaf(gt=0)
    cycles: int = static()

    def check(self) -> None:
        """Check the number of cycles."""
        whole(self.cycles, "Triangle.cycles")

    def points(self) -> tuple[Array, Array]:
        """Return the ends and the peaks [s], [V]."""
        k = jnp.arange(2 * self.cycles)
        times = jnp.concatenate([jnp.zeros(1), (2 * k + 1) / 4, jnp.full(1, float(self.cycles))])
        volts = jnp.concatenate([jnp.zeros(1), 1.0 - 2.0 * (k % 2), jnp.zeros(1)])
        return self.period * times, self.amplitude * volts


@record
class Pulses(PiecewiseLinear):
    """A train of trapezoidal pulses.

    Pulse k starts at `delay + k period`, rises for `rise`, holds its amplitude for `width`, falls for `rise`.

    Attributes:
      amplitude: voltage of the pulses [V], or one for each, shape `[count]`.
      width: duration of the flat top [s].
      period: time from one pulse to the next [s]; at least `width + 2 rise`.
      count: how many pulses.
      rise: duration of each edge [s]; `None` for a hundredth of `width`.
      delay: start of the first pulse [s].
    """

    amplitude: Numbers = leaf()
    width: Float = leaf(gt=0)
    period: Float = leaf(gt=0)
    count: int = static()
    rise: Float | None = leaf(default=None, gt=0)
    delay: Float = leaf(default=0.0, ge=0)

    def check(self) -> None:
        """Check that the pulses fit into their period, and how many amplitudes there are."""
        whole(self.count, "Pulses.count")
        if jnp.shape(self.amplitude) not in ((), (self.count,)):
            raise ValueError(
                f"Pulses.amplitude must be a number or have shape ({self.count},), one for each pulse;"
                f" got {jnp.shape(self.amplitude)}"
            )
        if all(p is None or _check.is_concrete(p) for p in (self.width, self.period, self.rise)):
            length = np.asarray(self.width) + 2 * np.asarray(self.width / 100 if self.rise is None else self.rise)
            if np.any(length > np.asarray(self.period) * (1 + 1e-6)):  # as long as the pulse, up to rounding
                raise ValueError(f"Pulses.period must be at least width + 2 rise = {length} s; got {self.period} s")

    def points(self) -> tuple[Array, Array]:
        """Return the four corners of every pulse [s], [V]."""
        rise = jnp.asarray(self.width / 100 if self.rise is None else self.rise)
        shape = jnp.stack([jnp.zeros_like(rise), rise, rise + self.width, 2 * rise + self.width])
        starts = self.delay + self.period * jnp.arange(self.count)
        volts = jnp.broadcast_to(self.amplitude, (self.count,))
        return (starts[:, None] + shape).ravel(), (volts[:, None] * jnp.array([0.0, 1.0, 1.0, 0.0])).ravel()


@record
class Sampled(PiecewiseLinear):
    """Any waveform, by its samples; straight lines between them.

    Attributes:
      times: ascending times [s], shape `[n]`.
      volts: voltages [V], shape `[n]`.
    """

    times: Numbers = leaf()
    volts: Numbers = leaf()

    def check(self) -> None:
        """Check that there is one voltage for each time, and that the times ascend."""
        ascending(self.times, "Sampled.times")
        _check.finite(self.volts, "Sampled.volts")
        if jnp.shape(self.volts) != jnp.shape(self.times):
            raise ValueError(
                f"Sampled.volts must have one voltage for each of the {jnp.shape(self.times)[0]} times;"
                f" got shape {jnp.shape(self.volts)}"
            )

    def points(self) -> tuple[Array, Array]:
        """Return the samples [s], [V]."""
        return jnp.asarray(self.times), jnp.asarray(self.volts)


def ascending(times: Numbers, name: str) -> None:
    """Raise unless `times` is a vector of at least two finite times, each later than the one before."""
    if jnp.ndim(times) != 1 or jnp.shape(times)[0] < 2:
        raise ValueError(f"{name} must be a vector of at least two times; got shape {jnp.shape(times)}")
    _check.finite(times, name)
    if _check.is_concrete(times):
        known = np.asarray(times)
        bad = np.flatnonzero(np.diff(known) <= 0)
        if bad.size:
            k = int(bad[0])
            raise ValueError(f"{name} must ascend; got {known[k]:g} s and then {known[k + 1]:g} s at place {k}")


def whole(value: int, name: str) -> None:
    """Raise unless `value` is a whole number of at least 1."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
