"""Segments: the currents along the wires of a solved array."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax.arrays.circuits.lines import Lines
from anajax.arrays.circuits.solve import Solution
from anajax.arrays.wires import Wires


def segment_currents(solution: Solution, wires: Wires) -> tuple[Array, Array]:
    """Return the currents [A] of the segments of word lines, to the right, and of bit lines, downwards.

    They follow from the currents of the cells by Kirchhoff's laws: resistances may be zero. Their shapes are those of
    the segments in `wires`: `[..., rows, cols]` each, with a column more where `far_driver` is given and a row more,
    first, where `far_sense` is.

    Example:
      >>> from anajax.arrays import solve
      >>> wires = Wires(word_line=0.0, bit_line=0.0)
      >>> word, bit = segment_currents(solve([[1e-3, 2e-3]], [1.0], wires), wires)
      >>> word.round(6), bit.round(6)
      (Array([[0.003, 0.002]], dtype=float32), Array([[0.001, 0.002]], dtype=float32))
    """
    i = solution.cell_currents
    rows, cols = i.shape[-2:]
    with jax.enable_x64(True) if i.dtype == np.float64 else contextlib.nullcontext():
        grid = jax.tree.map(lambda r: jnp.asarray(r, i.dtype), wires).grid(rows, cols)
        from_below = jnp.flip(i, -2)
        word = jnp.flip(_along(grid.word, from_below), -2)
        bit = jnp.flip(jnp.swapaxes(_along(grid.bit, jnp.swapaxes(from_below, -1, -2)), -1, -2), -2)
        return word[..., : cols + (wires.far_driver is not None)], bit[..., int(wires.far_sense is None) :, :]


def _along(lines: Lines, i: Array) -> Array:
    """Return currents through segments, the far one last, `[..., lines, length + 1]`, for those of the cells.

    Both ends of a line are at one voltage: the drops of all its segments add to zero.
    """
    r, far = lines.segment.T, lines.far
    taken = jnp.concatenate([jnp.zeros_like(i[..., :1]), jnp.cumsum(i, axis=-1)], axis=-1)
    first = (taken[..., -1] + far * jnp.sum(r * taken[..., :-1], axis=-1)) / (1 + far * jnp.sum(r, axis=-1))
    return first[..., None] - taken
