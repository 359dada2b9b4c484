"""Step-response devices: cells whose state moves by small steps, one for each voltage pulse.

The state x is the literature's dimensionless one, with 0 between its bounds; `conductance` maps the window
`[x_min, x_max]` of the mean cell to `[g_min, g_max]`. A device says how far one pulse moves the state (its
*response*); what is common to all of them is here: spread from device to device, cycle-to-cycle noise, many
pulses at once, write noise, reference. Leak, drift and wear are in `aging.py`, the laws in `linear_steps.py` and
`curved_steps.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from anajax import _check
from anajax._loop import iterate
from anajax._random import read_normal
from anajax._record import Record, leaf, record, static
from anajax.devices.aging import Drift, Endurance, Leak
from anajax.devices.curves import Curve
from anajax.devices.device import Cells, Device, checked_counts

#: what a spec makes of a cell's scores: `low`, `high`, `up`, `down` (sizes of a step), and what a law adds
Realised = dict[str, Any]


@record
class Reference(Record):
    """A second cell, never pulsed, whose state is subtracted when the first is read.

    Attributes:
      mean: state of the mean reference cell.
      spread: standard deviation of its state from cell to cell.
      symmetry: whether each reference is first set to its cell's symmetry point, so that this reads as zero.
    """

    mean: Array | float = leaf(default=0.0)
    spread: Array | float | None = leaf(default=None, ge=0)
    symmetry: bool = static(default=False, choices=(False, True))


@record
class StepResponse(Device):
    """Base of the step-response devices: a subclass gives the `response` to one pulse.

    Of each cell, with standard scores xi that it keeps:

        high = |x_max (1 + x_max_d2d xi)|,   low = -|x_min (1 + x_min_d2d xi)|
        gain = 1 + dx_d2d xi  (or exp(dx_d2d xi) where dx_law = "lognormal"),   skew = up_down + up_down_d2d xi
        up = |dx (gain + skew)|,   down = |dx (gain - skew)|

    and of each pulse x <- clip(x + response (1 + c2c xi), low, high). A spread that would change a sign is folded back.
    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016); Rasch et al., AICAS 2021, in the symmetric form of the
    asymmetry that both document.

    Example, a device of your own:
      >>> import jax, jax.numpy as jnp
      >>> from anajax.devices import StepResponse, leaf, record
      >>> @record
      ... class Tanh(StepResponse):
      ...     steep: jax.Array | float = leaf(default=1.0, ge=0)
      ...
      ...     def response(self, cell, x, up):
      ...         bend = jnp.tanh(self.steep * x)
      ...         return jnp.where(up, cell["up"] * (1 - bend), -cell["down"] * (1 + bend))
      >>> device = Tanh(dx=0.01)
      >>> cells = device.pulse(None, device.fabricate(None, (2,)), jnp.asarray([100, -100]))
      >>> [f"{x:.3f}" for x in device.state(cells)]
      ['0.655', '-0.655']

    Attributes:
      x_min: lower bound of the state of the mean cell.
      x_max: upper bound of the state of the mean cell.
      dx: step of the mean cell at x = 0, the mean of up and down.
      up_down: asymmetry of the mean steps, up = dx (1 + up_down), down = dx (1 - up_down).
      x_min_d2d: relative spread of the lower bound from device to device.
      x_max_d2d: relative spread of the upper bound.
      dx_d2d: relative spread of the step, of its logarithm where `dx_law` is "lognormal".
      up_down_d2d: spread of the asymmetry.
      dx_law: law of the spread of the step, "normal" or "lognormal".
      c2c: cycle-to-cycle noise, in steps.
      write_noise: deviation of the state that is seen from the one that pulses move, in mean steps; drawn anew
        whenever a cell is touched.
      rest: state to which cells leak and are reset.
      rest_d2d: its spread from device to device, in units of x.
      reset_noise: standard deviation of one reset, in units of x.
      reference: a cell subtracted at reading, or `None`.
      leak: decay and diffusion in time, or `None`.
      drift: drift of the conductance, or `None`.
      endurance: wear, or `None`.
      read_curve: read noise [S] over g / g_max, or `None`.
    """

    x_min: Array | float = leaf(default=-1.0, le=0)
    x_max: Array | float = leaf(default=1.0, gt=0)
    dx: Array | float = leaf(default=0.001, gt=0)
    up_down: Array | float = leaf(default=0.0, ge=-1, le=1)
    x_min_d2d: Array | float | None = leaf(default=None, ge=0)
    x_max_d2d: Array | float | None = leaf(default=None, ge=0)
    dx_d2d: Array | float | None = leaf(default=None, ge=0)
    up_down_d2d: Array | float | None = leaf(default=None, ge=0)
    dx_law: str = static(default="normal", choices=("normal", "lognormal"))
    c2c: Array | float | None = leaf(default=None, ge=0)
    write_noise: Array | float | None = leaf(default=None, ge=0)
    rest: Array | float = leaf(default=0.0)
    rest_d2d: Array | float | None = leaf(default=None, ge=0)
    reset_noise: Array | float | None = leaf(default=None, ge=0)
    reference: Reference | None = leaf(default=None)
    leak: Leak | None = leaf(default=None)
    drift: Drift | None = leaf(default=None)
    endurance: Endurance | None = leaf(default=None)
    read_curve: Curve | None = leaf(default=None)

    # -- what a cell is ------------------------------------------------------------------------------------

    def _spreads(self) -> dict[str, Any]:
        """Return the spread that each score stands for, by name; `None` where there is none."""
        reference, leak, drift, endurance = self.reference, self.leak, self.drift, self.endurance
        return {
            "x_min": self.x_min_d2d,
            "x_max": self.x_max_d2d,
            "dx": self.dx_d2d,
            "up_down": self.up_down_d2d,
            "rest": self.rest_d2d,
            "reference": None if reference is None else reference.spread,
            "lifetime": None if leak is None else leak.lifetime_d2d,
            "diffusion": None if leak is None else leak.diffusion_d2d,
            "drift": None if drift is None else drift.nu_d2d,
            "failure": None if endurance is None else endurance.failure_d2d,
        }

    @property
    def life_scores(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the scores a cell keeps for life: one for each spread that is not `None`."""
        return tuple(name for name, spread in self._spreads().items() if spread is not None)

    @property
    def program_scores(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the scores drawn whenever a cell is written."""
        return () if self.write_noise is None else ("write",)

    def _spread(self, cells: Cells, name: str) -> Array | float:
        spread = self._spreads()[name]
        return 0.0 if spread is None else spread * cells.score(name)

    def realise(self, cells: Cells) -> Realised:
        """Return what this spec makes of the cells' scores: `low`, `high`, and the step sizes `up`, `down`."""
        deviation = self._spread(cells, "dx")
        gain = jnp.exp(deviation) if self.dx_law == "lognormal" else 1 + deviation
        skew = self.up_down + self._spread(cells, "up_down")
        low = -jnp.abs(self.x_min * (1 + self._spread(cells, "x_min")))
        high = jnp.abs(self.x_max * (1 + self._spread(cells, "x_max")))
        if self.endurance is not None:
            pulses = (cells.state or {}).get("cycles", 0.0)
            low, high = self.endurance.worn(low, high, pulses, cells.score("failure"))
        up, down = jnp.abs(self.dx * (gain + skew)), jnp.abs(self.dx * (gain - skew))
        return {"low": low, "high": high, "up": up, "down": down}

    def response(self, cell: Realised, x: Array, up: Array) -> Array:
        """Return the mean change of the state `x` by one pulse, up where `up`, before bounds are applied.

        Args:
          cell: from `realise`.
          x: state.
          up: whether the pulse goes up.
        """
        self._lacks("response")

    def spread(self, cell: Realised, x: Array, change: Array, up: Array) -> Array:
        """Return the standard deviation of one pulse whose mean change is `change`: `c2c` of the change."""
        return (0.0 if self.c2c is None else self.c2c) * jnp.abs(change)

    @property
    def noisy(self) -> bool:
        """Whether pulses have cycle-to-cycle noise."""
        return self.c2c is not None

    # -- the state -----------------------------------------------------------------------------------------

    def state(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the state as it is seen, `time` seconds later: leaked, with write noise, against the reference.

        Drift shows in the conductance; diffusion, which needs a key, acts when `wait` is called.
        """
        cell = self.realise(cells)
        x = self._hidden(cells, cell)
        if self.leak is not None:
            x = jnp.clip(self._leaked(None, self.leak, cells, x, time), cell["low"], cell["high"])
        if self.write_noise is not None:
            x = x + self.write_noise * self.dx * cells.score("write")
        return x - self._reference(cells)

    def _reference(self, cells: Cells) -> Array | float:
        if self.reference is None:
            return 0.0
        level = self.reference.mean + self._spread(cells, "reference")
        unworn = cells.replace(state=None)  # as it was when the reference was set
        return level + self.symmetry_point(unworn) if self.reference.symmetry else level

    def _hidden(self, cells: Cells, cell: Realised) -> Array:
        """Return the state that pulses move: as pulsed, as programmed within the cell's bounds, or virgin."""
        if cells.state is not None and "x" in cells.state:
            x = cells.state["x"]
        elif cells.target is not None:
            wanted = self.x_min + (self.x_max - self.x_min) * (cells.target - self.g_min) / self.window
            x = wanted + self._reference(cells)
        else:
            raise ValueError("these cells have neither state nor target; make them with device.fabricate")
        return jnp.clip(x, cell["low"], cell["high"])

    def _with(self, cells: Cells, **state: Array) -> Cells:
        """Return the cells in a realised state, with clocks and counters where the spec has such."""
        kept = cells.state or {}
        zero = jnp.zeros_like(state["x"])
        if self.drift is not None:
            kept = {"age": zero} | kept
        if self.endurance is not None:
            kept = {"cycles": zero} | kept
        return cells.replace(state=kept | state, target=None)

    def at(self, cells: Cells, x: Array) -> Cells:
        """Return the cells in the state `x`, broadcast to them, as if pulses had led there."""
        shape = jnp.broadcast_shapes(jnp.shape(x), jnp.shape(self._hidden(cells, self.realise(cells))))
        return self._with(cells, x=jnp.broadcast_to(_check.floating(x, "x"), shape))

    def fabricate(self, key: Array | None, shape: tuple[int, ...]) -> Cells:
        """Manufacture cells in their virgin state x = 0; see `Device.fabricate`."""
        cells = super().fabricate(key, shape)
        if self.write_noise is not None:  # so that pulses in a `lax.scan` find what they leave
            cells = cells.replace(scores=cells.scores | {"write": jnp.zeros(shape)})
        return self._with(cells, x=jnp.zeros(shape))

    def program(self, key: Array | None, cells: Cells, target: Array) -> Cells:
        """Write cells so that they are seen at `target` [S], but for their write noise, within their own bounds."""
        return super().program(key, cells, target)

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] of the write noise."""
        noise = 0.0 if self.write_noise is None else self.write_noise
        return jnp.full_like(target, noise * self.dx * self.window / (self.x_max - self.x_min))

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the conductance [S], `time` seconds after the last touch: linear in the state, never below zero."""
        g = self._without_drift(cells, time)
        if self.drift is None:
            return g
        return self.drift.decayed(g, g / self.g_max, self._age(cells) + time, cells.score("drift"))

    def _age(self, cells: Cells) -> Array | float:
        return (cells.state or {}).get("age", 0.0)

    def _without_drift(self, cells: Cells, time: Array | float = 0.0) -> Array:
        share = (self.state(cells, time) - self.x_min) / (self.x_max - self.x_min)
        return jnp.maximum(self.g_min + self.window * share, 0.0)

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read."""
        g = self.conductance(cells, time)
        noise = jnp.zeros_like(g) if self.read_curve is None else self.read_curve(g / self.g_max)
        if self.drift is None or self.drift.nu_noise is None:
            return noise
        drift = self.drift.read_noise(g, self._age(cells) + time, cells.score("drift"))
        return safe_sqrt(noise**2 + drift**2)

    def _with_drift(self, cells: Cells, x: Array, where: Array) -> Array:
        """Return the state, by what it has drifted so far in the cells that are about to be touched."""
        if self.drift is None:
            return x
        lost = self.conductance(cells) - self._without_drift(cells)
        return x + jnp.where(where, lost * (self.x_max - self.x_min) / self.window, 0.0)

    # -- pulses --------------------------------------------------------------------------------------------

    def pulse(self, key: Array | None, cells: Cells, counts: Array) -> Cells:
        """Apply `counts` pulses to each cell, one by one, each with its own noise and a clip at the bounds.

        The loop runs as often as the busiest cell is pulsed. It has reverse-mode derivatives, also with respect to
        `counts`: the last pulse of a cell may be a fraction f of one, with f of its mean and sqrt(f) of its noise.

        Args:
          key: random key, or `None` for the mean.
          cells: the cells.
          counts: signed numbers of pulses, broadcast to the cells.
        """
        cell = self.realise(cells)
        x = self._hidden(cells, cell)
        counts = checked_counts(counts, x.shape)
        x = self._with_drift(cells, x, counts != 0)
        up = ~jnp.signbit(counts)  # -0.0 is no pulse down, and has its derivative
        jumped, written = (None, None) if key is None else jax.random.split(key)
        noisy = key is not None and self.noisy
        x = self._many(jumped if noisy else None, cell, x, jnp.where(up, counts, -counts), up)
        return self._touched(written, cells, counts, jnp.clip(x, cell["low"], cell["high"]))

    def _many(self, key: Array | None, cell: Realised, x: Array, n: Array, up: Array) -> Array:
        """Return the state after `n` pulses."""
        longest = jnp.ceil(jnp.max(n, initial=1.0)).astype(jnp.int32)  # at least one: zero pulses have a derivative
        moved = iterate(_one_pulse, longest, x, (self, key, cell, n, up))
        return jnp.where(jnp.isnan(n), jnp.nan, moved)  # which no loop would count

    def _touched(self, key: Array | None, cells: Cells, counts: Array, x: Array) -> Cells:
        """Return cells in their new state: those that were pulsed start a new age and have new write noise."""
        touched = counts != 0
        state = {"x": x}
        before = cells.state or {}
        if self.drift is not None:
            state["age"] = jnp.where(touched, 0.0, self._age(cells))
        if self.endurance is not None:
            state["cycles"] = jnp.abs(counts) + before.get("cycles", 0.0)
        cells = self._with(cells, **state)
        if self.write_noise is None:
            return cells
        drawn = 0.0 if key is None else jax.random.normal(key, x.shape, x.dtype)
        score = jnp.where(touched, drawn, jnp.asarray(cells.score("write"), x.dtype))
        return cells.replace(scores=cells.scores | {"write": score})

    def step(self, cells: Cells, direction: Array | float) -> Array:
        """Return the mean change of the state by one pulse, within the bounds; up where `direction` > 0."""
        cell = self.realise(cells)
        x = self._hidden(cells, cell)
        change = self.response(cell, x, jnp.asarray(direction) > 0)
        return jnp.clip(x + change, cell["low"], cell["high"]) - x

    def symmetry_point(self, cells: Cells) -> Array:
        """Return the state at which pulses up and down cancel; the bound they lead to where they never do.

        Found by bisection; a Newton step from there makes it differentiable.
        """
        cell = self.realise(cells)
        low, high = jnp.broadcast_arrays(cell["low"], cell["high"])

        def drive(cell: Realised, x: Array) -> Array:
            return self.response(cell, x, jnp.asarray(True)) + self.response(cell, x, jnp.asarray(False))

        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = (low + high) / 2
            push = drive(cell, middle)
            return jnp.where(push > 0, middle, low), jnp.where(push < 0, middle, high)

        a, b = jax.lax.stop_gradient(jax.lax.fori_loop(0, 40, halve, jax.lax.stop_gradient((low, high))))
        x = jax.lax.stop_gradient((a + b) / 2)
        push, slope = jax.jvp(lambda x: drive(jax.lax.stop_gradient(cell), x), (x,), (jnp.ones_like(x),))
        inside = (slope < 0) & (jnp.abs(push) < 1e-3 * (cell["up"] + cell["down"]))
        newton = x - drive(cell, x) / jax.lax.stop_gradient(jnp.where(inside, slope, 1.0))
        return jnp.where(inside, newton, jnp.where(push > 0, high, jnp.where(push < 0, low, x)))

    # -- time ----------------------------------------------------------------------------------------------

    def reset(self, key: Array | None, cells: Cells, where: Array | bool = True) -> Cells:
        """Return the cells at their rest level, `where` this is true, each within `reset_noise` of it."""
        cell = self.realise(cells)
        x = self._hidden(cells, cell)
        drawn, written = (None, None) if key is None else jax.random.split(key)
        level = self._rest(cells)
        if drawn is not None and self.reset_noise is not None:
            level = level + self.reset_noise * jax.random.normal(drawn, x.shape, x.dtype)
        where = jnp.broadcast_to(where, x.shape)
        x = jnp.where(where, jnp.clip(level, cell["low"], cell["high"]), x)
        return self._touched(written, cells, where.astype(x.dtype), x)

    def _rest(self, cells: Cells) -> Array | float:
        return self.rest + self._spread(cells, "rest")

    def wait(self, key: Array | None, cells: Cells, seconds: Array | float) -> Cells:
        """Return the cells `seconds` later: leaked, diffused, and older by that."""
        _check.in_range(seconds, "seconds", ge=0)
        cell = self.realise(cells)
        x = self._hidden(cells, cell)
        if self.leak is not None:
            x = jnp.clip(self._leaked(key, self.leak, cells, x, seconds), cell["low"], cell["high"])
        if self.drift is None:
            return self._with(cells, x=x)
        return self._with(cells, x=x, age=self._age(cells) + jnp.broadcast_to(seconds, x.shape))

    def _leaked(self, key: Array | None, leak: Leak, cells: Cells, x: Array, seconds: Array | float) -> Array:
        if leak.thermal is not None:
            seconds = seconds / leak.thermal.stretch
        gathered = seconds
        if leak.lifetime is not None:
            tau = jnp.abs(leak.lifetime * (1 + self._spread(cells, "lifetime")))
            rest = self._rest(cells)
            x = rest + (x - rest) * jnp.exp(-seconds / tau)
            gathered = -jnp.expm1(-2 * seconds / tau) * tau / 2
        if key is not None and leak.diffusion is not None:
            rate = jnp.abs(leak.diffusion * (1 + self._spread(cells, "diffusion")))
            x = x + rate * safe_sqrt(gathered) * jax.random.normal(key, x.shape, x.dtype)
        return x


def _one_pulse(k: Array, x: Array, args: Any) -> Array:
    """Apply pulse `k` to the cells that have it: all of it, or the fraction that is left."""
    device, key, cell, n, up = args
    left = n - k
    due = (left > 0) | (k == 0)
    part = jnp.where(left > 1, 1.0, jnp.where(due, left, 0.0))
    change = device.response(cell, x, up)
    moved = part * change
    if key is not None:
        noise = read_normal(jax.random.fold_in(key, k), x.shape, x.dtype)
        moved = moved + safe_sqrt(part) * device.spread(cell, x, change, up) * noise
    return jnp.where(due, jnp.clip(x + moved, cell["low"], cell["high"]), x)


def safe_sqrt(x: Any) -> Array:
    """Return the square root, with derivative zero at zero."""
    on = jnp.asarray(x) > 0
    return jnp.where(on, jnp.sqrt(jnp.where(on, x, 1.0)), 0.0)


@jax.custom_jvp
def with_derivatives_of(smooth: Array, value: Array) -> Array:
    """Return `value`, with the derivatives of `smooth`; where none are asked for, `smooth` costs nothing."""
    return value


@with_derivatives_of.defjvp
def _with_derivatives_of_jvp(primals: tuple, tangents: tuple) -> tuple:
    return primals[1], tangents[0]
