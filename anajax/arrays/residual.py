"""The cells of nested `Residual`s one after the other, their choppers, and the zeros of the fast ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from anajax.devices import Cells, Device, ReferencePair, Residual


def tiles(device: Device) -> list[Device]:
    """Return the cells that nested `Residual`s consist of, the fastest first."""
    return [*tiles(device.fast), device.slow] if isinstance(device, Residual) else [device]


def take(cells: Cells) -> list[Cells]:
    """Return the cells of these tiles."""
    parts = cells.parts
    if parts is None or set(parts) != {"slow", "fast"}:
        return [cells]
    return [*take(parts["fast"]), parts["slow"]]


def put(cells: Cells, taken: list[Cells]) -> Cells:
    """Undo `take`."""
    if len(taken) == 1:
        return taken[0]
    parts = cells.parts or {}
    return cells.replace(parts={"slow": taken[-1], "fast": put(parts["fast"], taken[:-1])})


def _choppers(cells: Cells) -> Array:
    if cells.state is None or "chopper" not in cells.state:
        raise ValueError("these cells are not those of a Residual; make them with its fabricate")
    return cells.state["chopper"]


def chopper(cells: Cells) -> Array:
    """Return the signs of rows, `[rows, 1]`."""
    return _choppers(cells)[0, :, :1]


def turned(cells: Cells, rows: Array, flips: Array) -> Cells:
    """Turn the signs of those rows `[n]` that flip `[n, 1]`."""
    signs = _choppers(cells)
    own = jnp.take(signs, rows, axis=1, mode="clip")
    signs = signs.at[:, rows].set(jnp.where(flips, -own, own), mode="promise_in_bounds", unique_indices=True)
    return cells.replace(state=(cells.state or {}) | {"chopper": signs})


def zeroed(key: Array | None, device: Device, cells: Cells, pulses: int | None = None) -> Cells:
    """Return cells whose fast ones read zero where steps up and down cancel; see `anajax.optim.zero_shift`."""
    fast = tiles(device)[0]
    if not isinstance(device, Residual) or not isinstance(fast, ReferencePair):
        raise TypeError(
            "zero-shifting needs Residual cells whose fast ones are ReferencePairs; got"
            f" {type(device).__name__} and {type(fast).__name__}"
        )
    parts = take(cells)
    pulsing, writing, settling = (None,) * 3 if key is None else jax.random.split(key, 3)
    start = fast.wait(None, parts[0], 0.0)
    if pulses is None:
        shape = _choppers(cells).shape
        ready = fast.program(settling, fast.zero(writing, start), jnp.zeros(shape))
    else:

        def pulse(k: Array, cells: Cells) -> Cells:
            own = None if pulsing is None else jax.random.fold_in(pulsing, k)
            return fast.pulse(own, cells, jnp.where(k % 2 == 0, 1.0, -1.0))

        found = jax.lax.fori_loop(0, pulses, pulse, start)
        ready = fast.level(writing, found)
    return put(cells, [fast.wait(None, ready, 0.0), *parts[1:]])
