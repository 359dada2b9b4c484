"""Linear cells in resistive wires: the voltages across all cells, by conjugate gradients or by elimination.

The voltages y across cells of conductance g obey Kirchhoff's voltage law around each cell,

    y + R(g y) = e,

with the drops R of the lines and what the terminals apply, e. With the word lines eliminated, the rise u of the
bit-line nodes obeys (B + S) u = S e, where S takes the voltage between source and bit line to the current of
each cell, and B is the conductance matrix of the bit lines. B is never formed: its inverse is, as a ladder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from anajax.arrays.circuits.lines import Grid, drops, load, load_words

#: takes e, and the accuracy wanted relative to its largest value; returns y and the iterations it took
Inverse: TypeAlias = Callable[[Array, float], tuple[Array, Array]]

_REFINEMENTS = 4
_LANES = 8  # inputs that a CPU solves for at once: their fields stay in its cache


class Report(NamedTuple):
    """How a solve went: for each of the `n` inputs, `[n]`."""

    iterations: Array
    residual: Array


def solve_linear(grid: Grid, g: Array, e: Array, tolerance: float, limit: int) -> tuple[Array, Report]:
    """Return y of `y + R(g y) = e`, `[rows, cols, n]`, differentiable in every argument, in both modes.

    The derivative solves the same circuit once more, whatever the number of iterations. Accuracy is judged by
    the law itself: `residual` is the largest voltage that is missing around a cell, over the largest applied.

    Args:
      grid: the wires.
      g: conductances [S], `[rows, cols, n or 1]`.
      e: applied voltages [V], `[rows, cols, n]`.
      tolerance: residual to reach.
      limit: iterations of conjugate gradients, at most.
    """
    fixed_grid, fixed = jax.lax.stop_gradient((grid, g))
    inverse = conjugate_gradients(fixed_grid, fixed, limit)

    def law(y: Array) -> Array:
        return y + grid.drop(g * y)

    def solve(matvec: Callable[[Array], Array], e: Array) -> tuple[Array, Report]:
        return _refined(matvec, inverse, e, tolerance)

    def solve_transposed(vecmat: Callable[[Array], Array], c: Array) -> tuple[Array, Report]:
        # (I + g R)^-1 = I - g (I + R g)^-1 R
        y, report = _refined(lambda y: y + fixed_grid.drop(fixed * y), inverse, fixed_grid.drop(c), tolerance)
        return c - fixed * y, report

    return jax.lax.custom_linear_solve(law, e, solve, solve_transposed, has_aux=True)


def in_lanes(f: Callable[[Array], Any], n: int) -> Any:
    """Apply `f` to the numbers of n inputs, some at a time; what it returns ends in an axis of inputs.

    Inputs do not meet, so results are the same for any number at a time.
    """
    lanes = _LANES if jax.default_backend() == "cpu" else 512 * _LANES
    if n <= lanes:
        return f(jnp.arange(n))
    count = -(-n // lanes)
    batches = jnp.minimum(jnp.arange(count * lanes), n - 1).reshape(count, lanes)
    # two bodies in one step of the loop: two cores have something to do
    found = jax.lax.scan(lambda _, batch: (None, f(batch)), None, batches, unroll=2)[1]
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, -2).reshape(*a.shape[1:-1], count * lanes)[..., :n], found)


def sweeps(grid: Grid, g: Array, e: Array, count: int) -> Array:
    """Return y after `count` rounds of solving all word lines for fixed bit lines, and the reverse."""
    share = 1 / (1 + grid.series * g)
    g = g * share
    words, bits = load_words(grid, g), load(grid.bit, g)
    u = y = jnp.zeros_like(e)
    for _ in range(count):
        y = words.voltages(e - u)
        rise = drops(bits, g * (y + u))
        y, u = y + u - rise, rise
    return share * y


def _refined(law: Callable[[Array], Array], inverse: Inverse, e: Array, tolerance: float) -> tuple[Array, Report]:
    """Solve, and solve again for what the law then lacks, until that is within `tolerance`."""
    size = largest(e)
    size = jnp.where(size > 0, size, 1.0)

    def wanting(carry: tuple) -> Array:
        count, _, missing, _ = carry
        return (count < _REFINEMENTS) & jnp.any(largest(missing) > tolerance * size)

    def refine(carry: tuple) -> tuple:
        count, y, missing, iterations = carry
        step, more = inverse(missing, 0.1 * tolerance)
        # where an input is solved already, another step could only stir its last digits
        y = jnp.where(largest(missing) > tolerance * size, y + step, y)
        return count + 1, y, e - law(y), iterations + more

    none = jnp.zeros(e.shape[-1:], jnp.int32)
    start = (jnp.zeros((), jnp.int32), jnp.zeros_like(e), e, none)
    _, y, missing, iterations = jax.lax.while_loop(wanting, refine, start)
    return accepted(y, Report(iterations, largest(missing) / size), tolerance)


def accepted(y: Array, report: Report, tolerance: float) -> tuple[Array, Report]:
    """Return NaN for inputs that were not solved: a number there, or in a derivative, would go unnoticed."""
    return jnp.where(report.residual <= tolerance, y, jnp.nan), report


def unsolved(e: Array, y: Array, drop: Array) -> Report:
    """Report on voltages that are no more than an approximation."""
    size = largest(e)
    return Report(jnp.ones(size.shape, jnp.int32), largest(e - y - drop) / jnp.where(size > 0, size, 1.0))


def largest(field: Array) -> Array:
    """Return the largest magnitude over the cells, for each input: `[rows, cols, n] -> [n]`."""
    return jnp.max(jnp.abs(field), axis=(0, 1))


def conjugate_gradients(grid: Grid, g: Array, limit: int) -> Inverse:
    """Prepare conjugate gradients on the bit lines, preconditioned by B + g: by bit lines with all cells on them.

    What belongs to the preconditioner is carried along with each search direction, so that B is never applied:
    its entries grow without bound as segments vanish.
    """
    share = 1 / (1 + grid.series * g)  # of the voltage across a cell and what is in series with it
    g = g * share
    words, bits = load_words(grid, g), load(grid.bit, g)

    def inverse(e: Array, tolerance: float) -> tuple[Array, Array]:
        size = largest(e)

        def going(carry: tuple) -> Array:
            count, active = carry[:2]
            return jnp.any(active) & (count < limit)

        def step(carry: tuple) -> tuple:
            count, active, iterations, y, r, z, p, preconditioned_p, rz = carry
            across = words.voltages(p)
            q = preconditioned_p + g * (across - p)
            alpha = _ratio(rz, jnp.sum(p * q, (0, 1)), active)
            y, r = y - alpha * across, r - alpha * q
            z = drops(bits, r)
            after = jnp.sum(r * z, (0, 1))
            beta = _ratio(after, rz, active)
            iterations = iterations + active
            active = active & (largest(z) > tolerance * size)
            return count + 1, active, iterations, y, r, z, z + beta * p, r + beta * preconditioned_p, after

        y = words.voltages(e)  # as if the bit lines were ideal
        r = g * y
        z = drops(bits, r)
        none = jnp.zeros(e.shape[-1:], jnp.int32)
        start = (jnp.zeros((), jnp.int32), size > 0, none, y, r, z, z, r, jnp.sum(r * z, (0, 1)))
        _, _, iterations, y, *_ = jax.lax.while_loop(going, step, start)
        return share * y, iterations

    return inverse


def _ratio(top: Array, bottom: Array, active: Array) -> Array:
    """Return `top / bottom` for inputs that are active, and 0 for the others."""
    return jnp.where(active & (bottom > 0), top / jnp.where(bottom > 0, bottom, 1.0), 0.0)
