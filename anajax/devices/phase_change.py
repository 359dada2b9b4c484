"""Phase-change memory under pulses: partial SET raises the conductance a little, RESET melts the cell."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from anajax import _check
from anajax._loop import iterate
from anajax._random import read_normal
from anajax._record import leaf, record
from anajax.devices.aging import Drift
from anajax.devices.curves import Curve
from anajax.devices.device import Cells, Device, checked_counts
from anajax.devices.pulsed import safe_sqrt


@record
class PartialSET(Device):
    """Phase-change memory by statistics of partial-SET pulses, with the memory of pulses since the last RESET.

    Of each SET pulse, with a memory P that is 1 after RESET and fades with every pulse,

        P <- P exp(-1 / memory_pulses)
        g <- max(0, g + gain (mean + mean_g g + mean_memory P) + (std + std_g g + std_memory P) xi)

    A pulse of negative sign is a RESET, whatever its number: phase change has no gradual way down. Programming reaches
    its target but for `program_curve`, as write-verify does, and leaves no memory. A pulse acts on the state before
    drift, which starts anew with it, as in the source.
    Source: Nandakumar et al., J. Appl. Phys. 124:152135 (2018); Front. Neurosci. 14:406 (2020).

    Attributes:
      g_max: conductance that counts as full scale [S]; pulses may lead beyond.
      mean: mean change of an empty cell [S].
      mean_g: change of the mean with the conductance, < 0: the cell saturates.
      mean_memory: part of the mean that fades [S], or `None` for the model without memory.
      std: standard deviation of the change of an empty cell [S].
      std_g: change of the deviation with the conductance.
      std_memory: part of the deviation that fades [S], or `None`.
      memory_pulses: pulses in which the memory falls to 1 / e.
      gain_d2d: relative spread of the mean change from device to device, or `None`.
      g_reset: conductance after RESET [S].
      reset_noise: standard deviation of one RESET [S], or `None`.
      drift: drift since the last pulse, or `None`.
      read_curve: read noise [S] over g / g_max, or `None`.
      program_curve: deviation of write-verify [S] over g / g_max, or `None`.
    """

    g_max: Array | float = leaf(default=12e-6, gt=0)
    mean: Array | float = leaf(default=0.880e-6)
    mean_g: Array | float = leaf(default=-0.084)
    mean_memory: Array | float | None = leaf(default=1.40e-6)
    std: Array | float | None = leaf(default=0.260e-6, ge=0)
    std_g: Array | float = leaf(default=0.091)
    std_memory: Array | float | None = leaf(default=2.15e-6, ge=0)
    memory_pulses: Array | float = leaf(default=2.6, gt=0)
    gain_d2d: Array | float | None = leaf(default=None, ge=0)
    g_reset: Array | float = leaf(default=0.1e-6, ge=0)
    reset_noise: Array | float | None = leaf(default=None, ge=0)
    drift: Drift | None = leaf(default=None)
    read_curve: Curve | None = leaf(default=None)
    program_curve: Curve | None = leaf(default=None)

    @property
    def life_scores(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the scores a cell keeps for life."""
        spreads = {"gain": self.gain_d2d, "drift": None if self.drift is None else self.drift.nu_d2d}
        return tuple(name for name, spread in spreads.items() if spread is not None)

    @property
    def program_scores(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the scores drawn at each programming."""
        return () if self.program_curve is None else ("program",)

    def fabricate(self, key: Array | None, shape: tuple[int, ...]) -> Cells:
        """Manufacture cells as after RESET; see `Device.fabricate`."""
        melted = {"g": jnp.broadcast_to(self.g_reset, shape), "memory": jnp.ones(shape), "age": jnp.zeros(shape)}
        return super().fabricate(key, shape).replace(state=melted)

    def program(self, key: Array | None, cells: Cells, target: Array) -> Cells:
        """Program cells to `target` [S], within the spread of `program_curve`."""
        return super().program(key, cells, target)

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] of programming to `target` [S]."""
        return jnp.zeros_like(target) if self.program_curve is None else self.program_curve(target / self.g_max)

    def _state(self, cells: Cells) -> dict[str, Array]:
        if cells.state is not None:
            return cells.state
        if cells.target is None:
            raise ValueError("these cells have neither state nor target; make them with device.fabricate")
        g = jnp.maximum(cells.target + self.programming_noise(cells.target) * cells.score("program"), 0.0)
        return {"g": g, "memory": jnp.zeros_like(g), "age": jnp.zeros_like(g)}

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the conductance [S], `time` seconds after the last pulse or `wait`."""
        state = self._state(cells)
        if self.drift is None:
            return state["g"]
        u, age = state["g"] / self.g_max, state["age"] + time
        return self.drift.decayed(state["g"], u, age, cells.score("drift"))

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read."""
        g = self.conductance(cells, time)
        noise = jnp.zeros_like(g) if self.read_curve is None else self.read_curve(g / self.g_max)
        if self.drift is None or self.drift.nu_noise is None:
            return noise
        drift = self.drift.read_noise(g, self._state(cells)["age"] + time, cells.score("drift"))
        return safe_sqrt(noise**2 + drift**2)

    def pulse(self, key: Array | None, cells: Cells, counts: Array) -> Cells:
        """Apply partial-SET pulses where `counts` > 0, a RESET where it is < 0; see `Device.pulse`.

        Pulses go one by one, as often as the busiest cell is pulsed; reverse-mode derivatives exist, also with
        respect to `counts`.
        """
        start = self._state(cells)
        g, counts = start["g"], checked_counts(counts, start["g"].shape)
        setting, resetting = (None, None) if key is None else jax.random.split(key)
        gain = 1.0 if self.gain_d2d is None else 1 + self.gain_d2d * cells.score("gain")
        longest = jnp.ceil(jnp.max(counts, initial=1.0)).astype(jnp.int32)  # at least one: zero has a derivative
        state = {"g": g, "memory": start["memory"]}
        state = iterate(_one_set, longest, state, (self, setting, gain, counts))
        age = jnp.where(counts != 0, 0.0, start["age"])
        cells = cells.replace(state=state | {"age": age}, target=None)
        return self.reset(resetting, cells, counts < 0)

    def step(self, cells: Cells, direction: Array | float) -> Array:
        """Return the mean change of the conductance [S] by one pulse; down is a RESET."""
        after = self.pulse(None, cells, jnp.sign(jnp.asarray(direction, float)))
        return self._state(after)["g"] - self._state(cells)["g"]

    def reset(self, key: Array | None, cells: Cells, where: Array | bool = True) -> Cells:
        """Return the cells, melted `where` this is true."""
        start = self._state(cells)
        level = jnp.broadcast_to(self.g_reset, start["g"].shape)
        if key is not None and self.reset_noise is not None:
            level = jnp.abs(level + self.reset_noise * jax.random.normal(key, level.shape, level.dtype))
        melted = {"g": level, "memory": jnp.ones_like(level), "age": jnp.zeros_like(level)}
        return cells.replace(state={n: jnp.where(where, melted[n], start[n]) for n in melted}, target=None)

    def wait(self, key: Array | None, cells: Cells, seconds: Array | float) -> Cells:
        """Return the cells `seconds` later: older, and drifted by that."""
        _check.in_range(seconds, "seconds", ge=0)
        start = self._state(cells)
        return cells.replace(state=start | {"age": start["age"] + seconds}, target=None)


def _one_set(k: Array, state: dict[str, Array], args: Any) -> dict[str, Array]:
    """Apply SET pulse `k` to the cells that have it: all of it, or the fraction that is left."""
    device, key, gain, counts = args
    g, left = state["g"], counts - k
    due = (left > 0) | ((k == 0) & (left == 0))
    part = jnp.where(left > 1, 1.0, jnp.where(due, left, 0.0))
    memory = state["memory"] * jnp.exp(-part / device.memory_pulses)
    change = device.mean + device.mean_g * g
    if device.mean_memory is not None:
        change = change + device.mean_memory * memory
    moved = part * gain * change
    if key is not None and device.std is not None:
        std = device.std + device.std_g * g
        if device.std_memory is not None:
            std = std + device.std_memory * memory
        noise = read_normal(jax.random.fold_in(key, k), g.shape, g.dtype)
        moved = moved + safe_sqrt(part) * std * noise
    after = {"g": jnp.maximum(g + moved, 0.0), "memory": memory}
    return {name: jnp.where(due, after[name], state[name]) for name in after}
