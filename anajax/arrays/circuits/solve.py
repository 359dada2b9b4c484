"""Solve: the currents and voltages of one crossbar array with resistive wires."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax._record import Record, leaf, record, static
from anajax.arrays.circuits.linear import solve_linear
from anajax.arrays.circuits.lines import Grid
from anajax.arrays.circuits.newton import solve_nonlinear
from anajax.arrays.wires import Wires
from anajax.devices.conduction import Conduction, Scores

#: residual that a solve must reach, by the type of its numbers
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
_ITERATIONS = 500


@record
class Solution(Record):
    """An array in equilibrium; `...` are the leading axes of the voltages it was given.

    Attributes:
      currents: out of the bit lines, at both ends where both are sensed [A], `[..., cols]`.
      cell_currents: from word line to bit line [A], `[..., rows, cols]`.
      word_voltages: of the nodes of the word lines [V], `[..., rows, cols]`.
      bit_voltages: of the nodes of the bit lines [V], `[..., rows, cols]`.
      residual: largest voltage that Kirchhoff's law misses around any cell, over the largest applied, `[...]`.
      iterations: of the solver, `[...]`.
      tolerance: residual that was wanted.
    """

    currents: Array = leaf()
    cell_currents: Array = leaf()
    word_voltages: Array = leaf()
    bit_voltages: Array = leaf()
    residual: Array = leaf()
    iterations: Array = leaf()
    tolerance: float = static()

    @property
    def converged(self) -> Array:
        """Whether the residual is within the tolerance, `[...]`. Where it is not, all else is NaN."""
        return self.residual <= self.tolerance

    @property
    def cell_voltages(self) -> Array:
        """Voltages across the cells [V], `[..., rows, cols]`."""
        return self.word_voltages - self.bit_voltages


def solve(
    g: ArrayLike,
    v: ArrayLike,
    wires: Wires,
    conduction: Conduction | None = None,
    *,
    scores: Scores | None = None,
    bit_voltage: ArrayLike = 0.0,
    dtype: Any = None,
    tolerance: float | None = None,
) -> Solution:
    """Solve Kirchhoff's laws for an array: exact wires, any conduction law, true derivatives.

    Word line i is driven at the left, bit line j sensed at the bottom; see `Wires`. The result can be differentiated
    in forward and in reverse mode with respect to every argument, at the cost of one more solve.

    Args:
      g: conductances [S], `[rows, cols]`; 0 where a cell is absent.
      v: voltages of the word lines [V], `[..., rows]`.
      wires: resistances.
      conduction: law of the cells; `None` for Ohm's.
      scores: standard scores of the cells for the law, each `[rows, cols]`.
      bit_voltage: voltages that the bit lines are held at [V], a number or `[cols]`.
      dtype: `"float32"` or `"float64"`, whatever the session's own precision; `None` for that of the arguments.
      tolerance: residual to reach; `None` for 2e-6 in float32 and 1e-12 in float64.

    Raises:
      ValueError: arguments of wrong shape or range, or wires that cannot be solved.
      FloatingPointError: the solve did not reach the tolerance. Within a transformation that cannot be raised;
        there all fields are NaN, and `converged` is False.

    Example:
      >>> from anajax.arrays import Wires, solve
      >>> solve([[1e-3, 1e-3]], [1.0], Wires(word_line=100.0, bit_line=0.0)).currents.round(5)
      Array([0.00084, 0.00076], dtype=float32)
    """
    typed = [a for a in (g, v) if hasattr(a, "dtype")]
    wanted = jnp.result_type(*typed, float) if dtype is None else jnp.dtype(dtype)
    arrays: list[Any] = [a if hasattr(a, "dtype") else np.asarray(a, np.float64) for a in (g, v, bit_voltage)]
    if str(wanted) not in TOLERANCE:
        raise ValueError(f"dtype must be 'float32' or 'float64'; got {dtype!r}")
    arguments = (arrays, wires, conduction, scores)
    with jax.enable_x64(True) if str(wanted) == "float64" else contextlib.nullcontext():
        (cells, drive, sink), wires, conduction, scores = jax.tree.map(lambda a: jnp.asarray(a, wanted), arguments)
        _check_arguments(cells, drive, sink, scores)
        grid = wires.grid(*cells.shape)
        return _checked(_solve(grid, cells, drive, sink, conduction, scores, tolerance or TOLERANCE[str(wanted)]))


@functools.partial(jax.jit, static_argnames="tolerance")
def _solve(
    grid: Grid,
    g: Array,
    v: Array,
    bit_voltage: Array,
    conduction: Conduction | None,
    scores: Scores | None,
    tolerance: float,
) -> Solution:
    rows, cols = g.shape
    lead = v.shape[:-1]
    drive = v.reshape(-1, rows).T[::-1, None, :]  # rows from the sensed end, [rows, 1, n]
    sink = jnp.broadcast_to(bit_voltage, (cols,))[None, :, None]
    e = jnp.broadcast_to(drive - sink, (rows, cols, drive.shape[-1]))
    g = g[::-1, :, None]
    if conduction is None or conduction.linear:
        y, report = solve_linear(grid, g, e, tolerance, _ITERATIONS)
        i = g * y
    else:
        scores = jax.tree.map(lambda s: s[::-1, :, None], scores)
        y, report = solve_nonlinear(grid, (conduction, g, scores), e, tolerance, _ITERATIONS)
        i = conduction.current(g, y, scores)
    word, bit = drive - grid.word_drop(i), sink + grid.bit_drop(i)

    def outwards(field: Array) -> Array:
        return jnp.moveaxis(field[::-1], -1, 0).reshape(*lead, rows, cols)

    return Solution(
        currents=jnp.sum(i, axis=0).T.reshape(*lead, cols),
        cell_currents=outwards(i),
        word_voltages=outwards(word),
        bit_voltages=outwards(bit),
        residual=report.residual.reshape(lead),
        iterations=report.iterations.reshape(lead),
        tolerance=tolerance,
    )


def _check_arguments(g: Array, v: Array, bit_voltage: Array, scores: Scores | None) -> None:
    _check.shape(g, "g", "rows cols")
    rows, cols = g.shape
    _check.shape(v, "v", "... rows", f"g has shape {g.shape}", rows=rows)
    for name, values in (("g", g), ("v", v), ("bit_voltage", bit_voltage)):
        _check.finite(values, name)
    _check.in_range(g, "g", ge=0)
    if bit_voltage.shape not in ((), (cols,)):
        raise ValueError(f"bit_voltage must be a number or have shape ({cols},); got shape {bit_voltage.shape}")
    for name, score in (scores or {}).items():
        _check.shape(score, f"scores[{name!r}]", "rows cols", rows=rows, cols=cols)


def _checked(solution: Solution) -> Solution:
    """Raise if values are known and the solve did not converge."""
    if _check.is_concrete(solution.residual) and not bool(np.all(solution.converged)):
        raise FloatingPointError(
            f"the circuit was not solved to a residual of {solution.tolerance:g}: {float(jnp.max(solution.residual)):g}"
            f" is left after {int(jnp.max(solution.iterations))} iterations. A cell whose current falls as its"
            " voltage rises has no unique solution; a larger tolerance, or dtype='float64', may help otherwise"
        )
    return solution
