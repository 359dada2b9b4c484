"""Random telegraph noise: a trap beside the conducting path that is now occupied, now empty."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtri
from jax.typing import ArrayLike

from anajax import _check
from anajax._random import fold_read, read_normal
from anajax._record import Record, leaf, record
from anajax.devices.curves import Curve, Table
from anajax.devices.device import Cells, Device
from anajax.devices.faults import Wrapper, straight_through
from anajax.devices.pulsed import safe_sqrt

_OCCUPATION = zlib.crc32(b"rtn_occupied")  # tells the trap's draws from the inner device's, of the same key
_LEAST_RATIO = 0.1  # of resistances: a negative deviation, with its spread, must leave some


@record
class Telegraph(Wrapper):
    """A device some of whose cells show random telegraph noise: a trap switches their resistance between two values.

    With u = g / g_max of the inner device as programmed or pulsed, and standard scores xi of the cell:

        has a trap:   with probability p(u), for as long as it holds that state
        R_occupied / R_empty = max(1 + size(u) exp(size_sigma xi_size), 0.1)
        g_read = g_inner R_empty / R_occupied  where the trap is occupied (share `duty` of the time), else g_inner

    Each `read` finds the trap occupied or empty, independently of the one before: reads are far apart. `trace` has the
    correlation in time. `conductance` is the mean over both, `read_noise` the standard deviation of both together with
    the inner device's noise, which scales with the conductance. A cell's trap is its own: standard score `"rtn"`, and
    `"rtn_size"` for its size. Cells without these scores, such as those made without a key, have no trap.

    The size has true derivatives. Those by the probability and by `duty` are declared: the trapezoidal straight-through
    estimator of an expectation, as for `Faulty`; through the probability's curve it reaches the state as well.
    Source: Joksas et al., Nat. Commun. 11:4273 (2020): probabilities by state, lognormal sizes. Not modelled: several
    traps in one cell; occupation that depends on voltage or temperature.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from anajax.devices import presets
      >>> device = Telegraph(device=presets.ideal(), probability=0.3, size=0.25)
      >>> cells = device.program(None, device.fabricate(jax.random.key(0), (6,)), jnp.full(6, 20e-6))
      >>> device.trap(cells).tolist()
      [False, False, False, False, False, True]
      >>> [(device.read(jax.random.key(i), cells) * 1e6).round(3).tolist()[-2:] for i in range(3)]
      [[20.0, 20.0], [20.0, 16.0], [20.0, 20.0]]

    Attributes:
      device: the inner device.
      probability: that a cell has a trap: a number, or a curve over u.
      size: median relative change of the resistance when the trap is occupied: a number, or a curve over u.
        Negative where the resistance falls.
      size_sigma: standard deviation of the logarithm of the size from cell to cell, or `None`.
      duty: share of the time in which the trap is occupied.
    """

    probability: Curve | Array | float = leaf(ge=0, le=1)
    size: Curve | Array | float = leaf(gt=-1)
    size_sigma: Array | float | None = leaf(default=None, ge=0)
    duty: Array | float = leaf(default=0.5, ge=0, le=1)

    def check(self) -> None:
        """Check the device, and that probability and size are numbers or curves."""
        super().check()
        for name in ("probability", "size"):
            value = getattr(self, name)
            if not (callable(value) or hasattr(value, "dtype")):
                raise TypeError(f"Telegraph.{name} must be a number or a curve over g / g_max; got {value!r}")

    def _scores(self) -> tuple[str, ...]:
        return ("rtn",) if self.size_sigma is None else ("rtn", "rtn_size")

    def _state(self, cells: Cells) -> Array:
        state = cells.state or {}
        if "age" in state:  # traps stay what they are while a cell ages
            cells = cells.replace(state=state | {"age": jnp.zeros_like(state["age"])})
        return self.device.conductance(cells) / self.g_max

    def trap(self, cells: Cells) -> Array:
        """Return which cells have a trap: a mask of the shape of the cells."""
        return self._trap(cells, _at(self.probability, self._state(cells)))

    def _trap(self, cells: Cells, probability: Array | float) -> Array:
        score = cells.scores.get("rtn", jnp.inf)
        return score < ndtri(jax.lax.stop_gradient(jnp.clip(probability, 0.0, 1.0)))

    def _levels(self, cells: Cells) -> tuple[Array, Array]:
        """Return 1 where a cell has a trap, and the conductance with the trap occupied over that with it empty."""
        u = self._state(cells)
        probability = _at(self.probability, u)
        size = _at(self.size, u)
        if self.size_sigma is not None:
            size = size * jnp.exp(self.size_sigma * cells.score("rtn_size"))
        has = straight_through(self._trap(cells, probability), probability) if "rtn" in cells.scores else jnp.zeros(())
        return has, 1 / jnp.maximum(1 + size, _LEAST_RATIO)

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the conductance [S] of each cell, its mean over both states of the trap."""
        return self._mean(cells, time, self.duty)

    def _mean(self, cells: Cells, time: Array | float, duty: Array | float) -> Array:
        has, level = self._levels(cells)
        return self.device.conductance(cells, time) * (1 + has * duty * (level - 1))

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read: of both states of the trap and the inner device's noise."""
        has, level = self._levels(cells)
        g, noise = self.device.conductance(cells, time), self.device.read_noise(cells, time)
        switching = self.duty * (1 - self.duty) * (g * (level - 1)) ** 2
        both = safe_sqrt(switching + noise**2 * (1 + self.duty * (level**2 - 1)))
        return noise + has * (both - noise)

    def read(self, key: Array | None, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return one read of each cell [S]: with its trap occupied or empty, and the inner device's read noise.

        Args:
          key: random key, or `None` for the mean.
          cells: the cells.
          time: seconds since programming or since the last pulse.
        """
        if key is None:
            return self.conductance(cells, time)
        g = self.device.read(key, cells, time)
        has, level = self._levels(cells)
        occupied = read_normal(fold_read(key, _OCCUPATION), g.shape, g.dtype) < ndtri(jax.lax.stop_gradient(self.duty))
        return g * (1 + has * straight_through(occupied, self.duty) * (level - 1))

    def trace(self, key: Array | None, cells: Cells, times: Array, *, capture: ArrayLike, emission: ArrayLike) -> Array:
        """Return the conductance [S] at several times, as the trap captures and emits: a Markov chain of two states.

        Sampled exactly, from its stationary state on, however far apart the times are. With s = 1 for occupied,
        and in the place of `duty` the share that follows from the two mean times, d = emission / (capture + emission),

            P(occupied at t + dt | s) = d + (s - d) exp(-dt (1 / capture + 1 / emission))

        Without the inner device's read noise. Derivatives by the two times are declared, as that by `duty`.

        Args:
          key: random key, or `None` for the mean.
          cells: the cells.
          times: seconds since programming, shape `[n]`, not descending.
          capture: mean time until an empty trap is occupied [s], a number or one for each cell.
          emission: mean time until an occupied trap is empty [s].

        Returns:
          Conductances, shape `[n, ...]` with the cells' own shape at the end.
        """
        _check.in_range(capture, "capture", gt=0)
        _check.in_range(emission, "emission", gt=0)
        times = _check.floating(times, "times")
        _check.shape(times, "times", "n")
        _check.in_range(times, "times", ge=0)
        if _check.is_concrete(times) and not (np.diff(np.asarray(times)) >= 0).all():
            raise ValueError(f"times must not descend; got {times}")
        capture, emission = jnp.asarray(capture), jnp.asarray(emission)
        duty = emission / (capture + emission)
        if key is None:
            return jax.vmap(lambda time: self._mean(cells, time, duty))(times)
        has, level = self._levels(cells)
        shape = jnp.shape(self.device.conductance(cells))

        def move(occupied: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            key, time, passed = at
            memory = jnp.exp(-passed * (1 / capture + 1 / emission))
            likely = duty + (occupied - duty) * memory
            drawn = jax.random.uniform(key, shape) < jax.lax.stop_gradient(likely)
            occupied = straight_through(drawn, likely)
            return occupied, self.device.conductance(cells, time) * (1 + has * occupied * (level - 1))

        passed = jnp.diff(times, prepend=times[:1])
        start = jnp.broadcast_to(duty, shape).astype(jnp.result_type(duty, times))  # drawn at the first time
        return jax.lax.scan(move, start, (jax.random.split(key, times.size), times, passed))[1]


def _at(value: Any, u: Array) -> Any:
    return value(u) if callable(value) else value


@record
class Reciprocal(Record):
    """`offset + scale / u`: what a fixed change of conductance is, relative to the conductance.

    Attributes:
      offset: the value at large u.
      scale: the rise towards small u.
    """

    offset: Array | float = leaf()
    scale: Array | float = leaf()

    def __call__(self, u: Array) -> Array:
        """Return the curve at `u`."""
        return self.offset + self.scale / jnp.maximum(u, 1e-7)


def ta2o5_rtn(device: Device, *, size: Curve | ArrayLike, size_sigma: ArrayLike | None, duty: ArrayLike) -> Telegraph:
    """Return `device` with the telegraph noise of Ta2O5 cells: in 41 % (lowest resistance) to 72 % (highest) of them.

    The states were 8, equally spaced in resistance, 25 to 200 kohm; here the probability is a table over g / g_max,
    linear between them and constant below an eighth. Sizes are lognormal; their parameters and the duty are not
    printed, and are yours to give.
    Source: Joksas et al., Nat. Commun. 11:4273 (2020).

    Args:
      device: the device without telegraph noise.
      size: median relative change of the resistance, a number or a curve over g / g_max.
      size_sigma: standard deviation of its logarithm, or `None`.
      duty: share of the time in which the trap is occupied.
    """
    resistance = [25, 50, 75, 100, 125, 150, 175, 200]  # kohm
    percent = [40.6, 43.75, 46.9, 59.4, 62.5, 65.6, 68.75, 71.9]
    return _published(device, resistance, percent, size, size_sigma, duty)


def avmco_rtn(device: Device, *, size: Curve | ArrayLike, size_sigma: ArrayLike | None, duty: ArrayLike) -> Telegraph:
    """Return `device` with the telegraph noise of aVMCO cells: in 7 % (lowest resistance) to 29 % (highest) of them.

    The states were 8, of 1.0 to 7.5 Mohm; arguments and everything else are as for `ta2o5_rtn`.
    Source: Joksas et al., Nat. Commun. 11:4273 (2020).
    """
    resistance = [1.00, 1.92, 2.84, 3.76, 4.68, 5.60, 6.52, 7.50]  # Mohm
    percent = [6.67, 8.89, 8.89, 15.6, 20, 20, 24.4, 28.9]
    return _published(device, resistance, percent, size, size_sigma, duty)


def _published(device: Device, resistance: Any, percent: Any, size: Any, size_sigma: Any, duty: Any) -> Telegraph:
    u = [resistance[0] / r for r in reversed(resistance)]
    probability = Table(u=u, values=[p / 100 for p in reversed(percent)])
    return Telegraph(device=device, probability=probability, size=size, size_sigma=size_sigma, duty=duty)


def pytorx_rtn(device: Device) -> Telegraph:
    """Return `device` with the telegraph noise of PytorX: every cell's conductance is raised in half of the reads.

    The rise is g r / (1 - r) with r = 1.5e-3 + 0.1662 uS / g, a resistance lower by the share r. That would diverge at
    0.166 uS; here r counts as 0.9 where it is more, below 0.185 uS.
    Source: PytorX (He et al., DAC 2019).

    Args:
      device: the device without telegraph noise, of one `g_max`.
    """
    size = Reciprocal(offset=-1.5e-3, scale=-1.662e-7 / device.g_max)
    return Telegraph(device=device, probability=1.0, size=size, duty=0.5)
