"""Cells whose current is not proportional to their voltage, in resistive wires: a damped Newton iteration.

Each step is the linear solve with the slopes of all cells at their present voltages. The step is halved until the
missing voltage falls: for cells whose slope is never negative, that leads to the one solution from anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax.arrays.circuits.linear import Report, accepted, conjugate_gradients, largest, solve_linear
from anajax.arrays.circuits.lines import Grid
from anajax.devices.conduction import Conduction, Scores

#: a law, the conductance of each cell [rows, cols, n or 1] [S], the scores of the cells in the same shape, and 1 for
#: cells whose transistor is on, 0 for others, in a shape that broadcasts
Cells: TypeAlias = tuple[Conduction, Array, Scores | None, Array]

_HALVINGS = 40
_STEP_ACCURACY = 1e-3  # of the linear solve within a step: each step gains three digits at the end


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def solve_nonlinear(grid: Grid, cells: Cells, e: Array, tolerance: float, limit: int) -> tuple[Array, Report]:
    """Return y of `y + R(i(y)) = e`, `[rows, cols, n]`, differentiable in every argument, in both modes.

    Arguments as for `solve_linear`; `iterations` counts Newton's.
    """
    size = largest(e)
    size = jnp.where(size > 0, size, 1.0)

    def missing(y: Array) -> Array:
        return e - y - grid.drop(current(cells, y))

    def unsolved(lacks: Array) -> Array:
        return ~(largest(lacks) <= tolerance * size)  # NaN is unsolved

    def going(carry: tuple) -> Array:
        count, _, lacks, _, stuck = carry
        return (count < limit) & jnp.any(unsolved(lacks) & ~stuck)

    def step(carry: tuple) -> tuple:
        count, y, lacks, iterations, stuck = carry
        slope = jnp.maximum(_slope(cells, y), 0.0)
        direction, _ = conjugate_gradients(grid, jnp.broadcast_to(slope, y.shape), limit)(lacks, _STEP_ACCURACY)
        active = unsolved(lacks) & ~stuck
        moved, left, fell = _damped(missing, y, direction, lacks, active)
        return count + 1, moved, left, iterations + active, stuck | (active & ~fell)

    none = jnp.zeros(e.shape[-1:], jnp.int32)
    y = jnp.zeros_like(e)
    start = (jnp.zeros((), jnp.int32), y, missing(y), none, none.astype(bool))
    _, y, lacks, iterations, _ = jax.lax.while_loop(going, step, start)
    return accepted(y, Report(iterations, largest(lacks) / size), tolerance)


@solve_nonlinear.defjvp
def _solve_nonlinear_jvp(tolerance: float, limit: int, primals: tuple, tangents: tuple) -> tuple:
    grid, cells, e = primals
    y, report = solve_nonlinear(grid, cells, e, tolerance, limit)

    def lacking(grid: Grid, cells: Cells, e: Array) -> Array:
        return e - grid.drop(current(cells, y))

    lacks = jax.jvp(lacking, primals, tangents)[1]
    slope = jnp.broadcast_to(_slope(cells, y), y.shape)
    dy, _ = solve_linear(grid, slope, lacks, tolerance, limit)
    still = Report(cast(Array, np.zeros(report.iterations.shape, jax.dtypes.float0)), jnp.zeros_like(report.residual))
    return (y, report), (dy, still)


def current(cells: Cells, y: Array) -> Array:
    """Return the currents [A] of cells at `y` [V]."""
    conduction, g, scores, on = cells
    return on * conduction.current(g, y, scores)


def _slope(cells: Cells, y: Array) -> Array:
    conduction, g, scores, on = cells
    return on * conduction.small_signal(g, y, scores)


def _damped(
    missing: Callable[[Array], Array], y: Array, direction: Array, lacks: Array, active: Array
) -> tuple[Array, Array, Array]:
    """Go along `direction` until less is missing; return where that is, what it lacks, and whether it fell."""

    def seeking(carry: tuple) -> Array:
        return (carry[0] < _HALVINGS) & jnp.any(~carry[2])

    def halve(carry: tuple) -> tuple:
        count, share, fell, moved, left = carry
        at = y + share * direction
        now = missing(at)
        better = jnp.sum(now**2, (0, 1)) < (1 - 1e-4 * share) * jnp.sum(lacks**2, (0, 1))
        take = better & ~fell
        moved, left = jnp.where(take, at, moved), jnp.where(take, now, left)
        return count + 1, jnp.where(fell | better, share, share / 2), fell | better, moved, left

    start = (jnp.zeros((), jnp.int32), jnp.ones(active.shape, y.dtype), ~active, y, lacks)
    _, _, fell, moved, left = jax.lax.while_loop(seeking, halve, start)
    return moved, left, fell
