"""What one measures of a device: its way through the window under pulses, steps, states, symmetry point, ageing."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax.devices.device import Cells, Device
from anajax.devices.faults import Wrapper
from anajax.devices.pulsed import StepResponse

MOST_PULSES = 30_000
GRID = 201  # conductances over the window at which steps are taken
_TRACKS = 5  # mean cells that `mean_train` runs side by side
_LENGTH = 8192  # of all its trains, padded, so that a device is compiled once


# -- trains of pulses --------------------------------------------------------------------------------------------


def is_pulsed(device: Device) -> bool:
    """Return whether a device takes pulses; wrappers and compounds do where what is inside does."""
    try:
        jax.eval_shape(lambda cells: device.pulse(None, cells, jnp.ones(())), device.fabricate(None, (1,)))
    except NotImplementedError:
        return False
    return True


def train(device: Device, key: Array | None, cells: Cells, counts: np.ndarray) -> np.ndarray:
    """Return reads [S] of cells before and after each of `counts` pulses.

    Args:
      device: a device that takes pulses.
      key: random key, or `None` for the mean.
      cells: virgin cells, shape `[m]`.
      counts: signed numbers of pulses, shape `[n]`, or `[n, m]`.

    Returns:
      Conductances [S], shape `[n + 1, m]`.
    """
    shape = (len(counts), 1 if np.ndim(counts) == 1 else np.shape(counts)[1])
    padded = np.zeros((max(len(counts), _LENGTH if key is None else 256), shape[1]))
    padded[: len(counts)] = np.reshape(counts, shape)
    return np.asarray(_train(device, key, cells, jnp.asarray(padded, float)))[: len(counts) + 1]


@jax.jit
def _train(device: Device, key: Array | None, cells: Cells, counts: Array) -> Array:
    def read(key: Array | None, cells: Cells) -> Array:
        try:
            return device.read(key, cells)
        except NotImplementedError:  # no read noise
            return device.conductance(cells)

    def step(cells: Cells, at: tuple[Array, Array]) -> tuple[Cells, Array]:
        pulsing, reading = (None, None) if key is None else jax.random.split(jax.random.fold_in(key, at[0]))
        cells = device.pulse(pulsing, cells, at[1])
        return cells, read(reading, cells)

    _, g = jax.lax.scan(step, cells, (jnp.arange(len(counts)), counts))
    return jnp.concatenate([read(key, cells)[None], g])


def mean_train(device: Device, counts: np.ndarray) -> np.ndarray:
    """Return conductances [S] of the mean cell, virgin and after each of `counts` pulses.

    Args:
      device: a device that takes pulses.
      counts: shape `[n]`, or `[n, 5]` for five trains.
    """
    tracks = counts if np.ndim(counts) == 2 else np.tile(np.reshape(counts, (-1, 1)), _TRACKS)
    g = train(device, None, device.fabricate(None, (_TRACKS,)), tracks)
    return g if np.ndim(counts) == 2 else g[:, 0]


class Trains(NamedTuple):
    """How many pulses lead the mean cell through its window.

    Attributes:
      first: down from a virgin cell to where trains start; 0 where conductances are differences.
      up: from there to the top.
      down: from there to the bottom.
    """

    first: int
    up: int
    down: int


def trains(device: Device) -> Trains:
    """Return trains of pulses that lead the mean cell 97 % of the ways that pulses lead."""
    first = 0 if float(device.g_min) < 0 else _through(device, [], -1)
    up = max(_through(device, [-first], 1), 8)
    down = _through(device, [-first, up], -1)
    return Trains(first, up, max(down, up // 8))


def _through(device: Device, before: list[int], sign: int) -> int:
    """Return how many pulses of one sign lead the mean cell, after those `before`, 97 % of the way."""
    at = np.concatenate([[0], 2 ** np.arange(int(np.log2(MOST_PULSES)) + 1)])
    way = _way(device, before, sign, at)
    all_of_it = way[-1]
    enough = at[np.flatnonzero(way >= 0.97 * all_of_it)[0]]
    at = np.unique(np.round(np.linspace(0, enough, 400)).astype(int))
    way = _way(device, before, sign, at)
    return int(at[np.flatnonzero(way >= 0.969 * all_of_it)[0]])


def _way(device: Device, before: list[int], sign: int, at: np.ndarray) -> np.ndarray:
    g = mean_train(device, np.concatenate([before, sign * np.diff(at)]))[len(before) :]
    return np.abs(g - g[0])


# -- steps -------------------------------------------------------------------------------------------------------


@jax.jit
def steps(device: Device, cells: Cells, targets: Array) -> tuple[Array, Array, Array]:
    """Return conductances [S] of cells aimed at `targets` [S], and their mean changes by a pulse up and one down."""
    there = cells.aimed(targets)
    g = device.conductance(there)
    up, down = (device.conductance(device.pulse(None, there, jnp.asarray(n))) - g for n in (1.0, -1.0))
    return g, up, down


def grid(device: Device) -> np.ndarray:
    """Return `GRID` conductances [S] spread over the window, without its ends: there, steps end."""
    return float(device.g_min) + float(device.window) * (np.arange(GRID) + 0.5) / GRID


def mean_steps(device: Device) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean cell's changes [S] by one pulse up and one down over the `grid`."""
    _, up, down = steps(device, device.fabricate(None, (1, 1)), jnp.asarray(grid(device))[None])
    return np.asarray(up)[0], np.asarray(down)[0]


def erases(device: Device) -> bool:
    """Return whether one pulse down leads from the top of the window to its bottom, as a RESET does."""
    return bool(-mean_steps(device)[1][-1] > 0.9 * float(device.window))


def states(device: Device) -> float:
    """Return the window over the mean cell's step at its middle: the mean of up and down where both are gradual."""
    up, down = (change[GRID // 2] for change in mean_steps(device))
    return float(device.window) / float(up if erases(device) else (up - down) / 2)


def symmetry(device: Device) -> float | None:
    """Return the conductance [S] at which pulses up and down cancel in the mean cell, if there is such a place.

    `None` where a device has no symmetry point, where it is a bound, and where pulses cancel everywhere.
    """
    while isinstance(device, Wrapper):
        device = device.device
    if not isinstance(device, StepResponse):
        return None
    g = float(_balanced(device, device.fabricate(None, (1,)))[0])
    (up, down), targets = mean_steps(device), grid(device)
    inside = np.abs(np.interp(g, targets, up + down)) < 0.02 * np.interp(g, targets, up - down)
    middle = slice(GRID // 10, -GRID // 10)
    everywhere = np.all(np.abs(up + down)[middle] < 1e-3 * (up - down)[middle])
    return g if inside and not everywhere else None


@jax.jit
def _balanced(device: StepResponse, cells: Cells) -> Array:
    return device.conductance(device.at(cells, device.symmetry_point(cells)))


# -- time --------------------------------------------------------------------------------------------------------


@jax.jit
def aged(device: Device, key: Array, targets: Array, times: Array) -> Array:
    """Return conductances [S] of cells programmed to `targets` [S], at `times` [s] after that, with leak and drift."""
    made, programmed, waited = jax.random.split(key, 3)
    cells = device.program(programmed, device.fabricate(made, targets.shape), targets)

    def at(time: Array) -> Array:
        try:
            return device.conductance(device.wait(waited, cells, time))
        except NotImplementedError:
            return device.conductance(cells, time)

    return jax.vmap(at)(times)


def ages(device: Device) -> bool:
    """Return whether cells change within a year of programming."""
    targets = jnp.full((8,), device.g_min + 0.9 * device.window)
    now, later = np.asarray(aged(device, jax.random.key(0), targets, jnp.asarray([0.0, 3e7])))
    return not np.allclose(later, now, rtol=0, atol=1e-4 * float(device.window))
