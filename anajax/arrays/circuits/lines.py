"""Lines: the resistive wires of an array in one direction, as ladders that start at their terminals.

A line has nodes 0, 1, ... from its terminal outwards. What is computed is the *drop* of each node, its voltage
below the terminal's (above it, for a bit line): zero at the terminal and at the far end, if that is driven too.
Everything is written in resistances and is a sum of positive terms: zero resistance is no special case, and
float32 loses nothing to cancellation.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Lines(NamedTuple):
    """Parallel lines: `segment [length, lines]` in ohm, each before its node; `far [lines]` in siemens, 0 if open."""

    segment: Array
    far: Array


class Loaded(NamedTuple):
    """Lines with a conductance from each node to ground, eliminated from the far end: `divider [length, lines, n]`."""

    segment: Array
    divider: Array


def load(lines: Lines, g: Array) -> Loaded:
    """Eliminate lines whose nodes carry conductances `g [length, lines, n]` [S]."""

    def inwards(beyond: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        r, g = at
        y = beyond + g  # what the segment sees from here outwards
        divider = 1 / (1 + r * y)
        return y * divider, divider

    segment = lines.segment[..., None].astype(g.dtype)
    far = jnp.broadcast_to(lines.far[:, None], g.shape[1:]).astype(g.dtype)
    return Loaded(segment, jax.lax.scan(inwards, far, (segment, g), reverse=True)[1])


def drops(loaded: Loaded, injected: Array) -> Array:
    """Return the drop [V] of each node for the currents [A] `injected [length, lines, n]` into the nodes."""
    segment, divider = loaded

    def inwards(beyond: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        i, divider = at
        j = beyond + i  # into a short circuit at this node, from here outwards
        return j * divider, j

    def outwards(before: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        r, divider, j = at
        drop = divider * (before + r * j)
        return drop, drop

    zero = jnp.zeros_like(injected[0])
    shorted = jax.lax.scan(inwards, zero, (injected, divider), reverse=True)[1]
    return jax.lax.scan(outwards, zero, (segment, divider, shorted))[1]


class Grid(NamedTuple):
    """The wires of one array: word lines `[cols, rows]`, bit lines `[rows, cols]`, both from their terminals.

    Fields over the cells are `[rows, cols, n]`, rows counted from the sensed end of the bit lines, for `n` inputs.
    `series` is in series with each cell [ohm].
    """

    word: Lines
    bit: Lines
    series: Array

    @property
    def transposed(self) -> Grid:
        """The array with the directions exchanged: fields are `[cols, rows, n]`."""
        return Grid(self.bit, self.word, self.series)

    def drop(self, i: Array) -> Array:
        """Return the voltage [V] that currents `i` [A] through the cells lose on their way."""
        return self.word_drop(i) + self.bit_drop(i) + self.series * i

    def word_drop(self, i: Array) -> Array:
        """Return the part of it that the word lines take."""
        return _turned(self.transposed.bit_drop(_turned(i)))

    def bit_drop(self, i: Array) -> Array:
        """Return the part of it that the bit lines take."""
        return drops(load(self.bit, jnp.zeros((*i.shape[:2], 1), i.dtype)), i)


class Words(NamedTuple):
    """The word lines with the cells on them, eliminated."""

    g: Array
    loaded: Loaded

    def currents(self, e: Array) -> Array:
        """Return the currents [A] of cells that see `e` [V] between word-line source and bit line."""
        return self.g * self.voltages(e)

    def voltages(self, e: Array) -> Array:
        """Return the voltages [V] across those cells."""
        return e - _turned(drops(self.loaded, _turned(self.g * e)))


def load_words(grid: Grid, g: Array) -> Words:
    """Eliminate the word lines of an array of cells `g [rows, cols, n]` [S]."""
    return Words(g, load(grid.word, _turned(g)))


def _turned(field: Array) -> Array:
    return jnp.swapaxes(field, 0, 1)
