"""Solve: the currents and voltages of one crossbar array with resistive wires."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax._record import Record, leaf, record, static
from anajax.arrays.circuits.linear import Report, in_lanes, solve_linear, sweeps, unsolved
from anajax.arrays.circuits.lines import Grid
from anajax.arrays.circuits.newton import current, solve_nonlinear
from anajax.devices.conduction import Conduction, Ohmic, Scores
from anajax.devices.memristor import Memristor

if TYPE_CHECKING:
    from anajax.arrays.wires import Wires

#: residual that a solve must reach, by the type of its numbers
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
_ITERATIONS = 500
_SIEMENS = 10.0  # a cell of less than 0.1 ohm is a mistake of units


@record
class Solution(Record):
    """An array in equilibrium; `...` are the leading axes of the voltages it was given.

    Attributes:
      currents: out of the bit lines, at both ends where both are sensed [A], `[..., cols]`.
      cell_currents: from word line to bit line [A], `[..., rows, cols]`.
      device_voltages: across the cells themselves, without their transistors [V], `[..., rows, cols]`; zero where
        the transistor is off.
      word_voltages: of the nodes of the word lines [V], `[..., rows, cols]`.
      bit_voltages: of the nodes of the bit lines [V], `[..., rows, cols]`.
      residual: largest voltage that Kirchhoff's law misses around any cell, over the largest applied, `[...]`.
      iterations: of the solver, `[...]`.
      tolerance: residual that was wanted.
    """

    currents: Array = leaf()
    cell_currents: Array = leaf()
    device_voltages: Array = leaf()
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
        """Voltages from word line to bit line [V], across cells with their transistors, `[..., rows, cols]`."""
        return self.word_voltages - self.bit_voltages


def solve(
    g: ArrayLike,
    v: ArrayLike,
    wires: Wires,
    conduction: Conduction | None = None,
    *,
    scores: Scores | None = None,
    bit_voltage: ArrayLike = 0.0,
    gate: ArrayLike | None = None,
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
      gate: which transistors of `wires.select` are on, `[rows]` or `[rows, cols]`; `None` for those of rows that are
        not at zero volts.
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
    wanted = _dtype(dtype, g, v)
    arrays: list[Any] = [a if hasattr(a, "dtype") else np.asarray(a, np.float64) for a in (g, v, bit_voltage)]
    check_kinds(wires, conduction)
    arguments = (arrays, wires, conduction, scores)
    with jax.enable_x64(True) if wanted == "float64" else contextlib.nullcontext():
        (cells, drive, sink), wires, conduction, scores = jax.tree.map(lambda a: jnp.asarray(a, wanted), arguments)
        check_arguments(cells, drive, sink, scores, conduction)
        grid = wires.grid(*cells.shape)  # here, where values are known and can be checked
        law = Ohmic() if conduction is None else conduction
        if not (law.linear or isinstance(wires.method, str)):
            raise ValueError(f"Wires.method={wires.method}, sweeps, is for ohmic cells; got {conduction}")
        limit = (tolerance or TOLERANCE[wanted]) if wires.method == "exact" else math.inf
        on = switched_on(wires, drive, cells.shape, gate)
        return solved(_solve(grid, cells, drive, sink, law, scores, on, wires.method, limit))


def effective_matrix(g: ArrayLike, wires: Wires, *, dtype: Any = None, tolerance: float | None = None) -> Array:
    """Return the matrix [S] from word-line voltages to bit-line currents of an array of ohmic cells, `[rows, cols]`.

    `v @ effective_matrix(g, wires)` are the currents of `solve(g, v, wires)`: one matrix for all inputs, at the
    cost of solving for as many inputs as the shorter side of the array has lines. Arguments and errors as there.

    Example:
      >>> from anajax.arrays import Wires, effective_matrix
      >>> effective_matrix([[1e-3, 1e-3]], Wires(word_line=100.0, bit_line=0.0)).round(5)
      Array([[0.00084, 0.00076]], dtype=float32)
    """
    wanted = _dtype(dtype, g)
    check_kinds(wires, None)
    g = g if hasattr(g, "dtype") else np.asarray(g, np.float64)
    with jax.enable_x64(True) if wanted == "float64" else contextlib.nullcontext():
        cells, wires = jax.tree.map(lambda a: jnp.asarray(a, wanted), (g, wires))
        check_arguments(cells, jnp.zeros(cells.shape[:1]), jnp.zeros(()), None)
        if wires.select is not None:
            raise ValueError(
                "Wires.select must be None for an effective matrix: transistors cut off rows at zero volts"
            )
        matrix = matrix_of(wires, cells, tolerance or TOLERANCE[wanted])
        if _check.is_concrete(matrix) and not bool(jnp.all(jnp.isfinite(matrix))):
            raise FloatingPointError(f"the circuit was not solved to a residual of {tolerance or TOLERANCE[wanted]:g}")
        return matrix


def matrix_of(wires: Wires, g: Array, tolerance: float | None = None) -> Array:
    """Return the effective matrix of cells `g [rows, cols]`, without checks; NaN where it was not solved."""
    return _matrix(wires.grid(*g.shape), g[::-1, :, None], wires.method, tolerance or TOLERANCE[str(g.dtype)])[::-1]


def currents_of(wires: Wires, law: Conduction, g: Array, scores: Scores, v: Array) -> Array:
    """Return the currents `[n, cols]` of cells `g [rows, cols]` at `v [n, rows]`, without checks; see `matrix_of`."""
    grid, tolerance = wires.grid(*g.shape), TOLERANCE[str(g.dtype)] if wires.method == "exact" else math.inf
    sink, on = jnp.zeros((), g.dtype), switched_on(wires, v, g.shape)
    return _solve(grid, g, v, sink, law, scores, on, wires.method, tolerance).currents


def switched_on(wires: Wires, v: Array, shape: tuple[int, ...], gate: ArrayLike | None = None) -> Array | None:
    """Return 1 for cells whose transistor is on, 0 for others, `[..., rows, cols]` or broadcast; `None` without any.

    Args:
      wires: resistances.
      v: voltages of the word lines, `[..., rows]`.
      shape: `(rows, cols)`.
      gate: as in `solve`.
    """
    if wires.select is None:
        if gate is not None:
            raise ValueError("gate switches transistors, and Wires.select is None: there are none")
        return None
    if gate is None:
        return (v != 0)[..., None].astype(v.dtype)
    on = (jnp.asarray(gate) != 0).astype(v.dtype)
    if on.shape not in (shape[:1], shape):
        raise ValueError(f"gate must have shape {shape[:1]} or {shape}; got shape {on.shape}")
    return on[:, None] if on.ndim == 1 else on


@functools.partial(jax.jit, static_argnames=("method", "tolerance"))
def _matrix(grid: Grid, cells: Array, method: str | int, tolerance: float) -> Array:
    """Return the effective matrix `[rows, cols]` of cells `[rows, cols, 1]`, rows from the sensed end."""
    if method == "first-order":
        return (cells * (1 - grid.drop(cells)))[..., 0]
    rows, cols, _ = cells.shape
    if cols < rows:  # by reciprocity the same array, driven from its bit lines
        return _matrix(grid.transposed, cells.swapaxes(0, 1), method, tolerance).T

    def some(driven: Array) -> Array:
        e = jnp.broadcast_to((jnp.arange(rows)[:, None] == driven)[:, None, :], (rows, cols, driven.shape[0]))
        return jnp.sum(cells * _voltages(grid, cells, e.astype(cells.dtype), method, tolerance)[0], axis=0)

    return in_lanes(some, rows).T


def _voltages(grid: Grid, g: Array, e: Array, method: str | int, tolerance: float) -> tuple[Array, Report]:
    """Return the voltages across ohmic cells, by the method of the wires."""
    if method == "exact":
        return solve_linear(grid, g, e, tolerance, _ITERATIONS)
    y = e - grid.drop(g * e) if method == "first-order" else sweeps(grid, g, e, int(method))
    return y, unsolved(e, y, grid.drop(g * y))


@functools.partial(jax.jit, static_argnames=("method", "tolerance"))
def _solve(
    grid: Grid,
    g: Array,
    v: Array,
    bit_voltage: Array,
    conduction: Conduction,
    scores: Scores | None,
    on: Array | None,
    method: str | int,
    tolerance: float,
) -> Solution:
    rows, cols = g.shape
    lead = v.shape[:-1]
    v = jax.lax.optimization_barrier(v)  # XLA would fold what follows from constant voltages, for seconds
    drive = v.reshape(-1, rows).T[::-1, None, :]  # rows from the sensed end, [rows, 1, n]
    sink = jnp.broadcast_to(bit_voltage, (cols,))[None, :, None]
    g, scores = jax.tree.map(lambda a: a[::-1, :, None], (g, scores))
    on = jnp.ones((1, 1), g.dtype) if on is None else on
    on = jnp.moveaxis(on.reshape(-1, *on.shape[-2:])[:, ::-1], 0, -1)  # [rows or 1, cols or 1, n or 1]

    def some(inputs: Array) -> tuple[Array, Array, Report]:
        e = jnp.broadcast_to(drive[..., inputs] - sink, (rows, cols, inputs.shape[0]))
        switched = on if on.shape[-1] == 1 else on[..., inputs]
        cells = conduction, g, scores, switched
        if conduction.linear:
            slope = switched * conduction.small_signal(g, jnp.zeros_like(g), scores)
            y, report = _voltages(grid, slope, e, method, tolerance)
        elif method == "exact":
            y, report = solve_nonlinear(grid, cells, e, tolerance, _ITERATIONS)
        else:
            y = e - grid.drop(current(cells, e))
            report = unsolved(e, y, grid.drop(current(cells, y)))
        return current(cells, y), switched * y, report

    i, y, report = in_lanes(some, drive.shape[-1])
    word, bit = drive - grid.word_drop(i), sink + grid.bit_drop(i)

    def outwards(field: Array) -> Array:
        return jnp.moveaxis(field[::-1], -1, 0).reshape(*lead, rows, cols)

    return Solution(
        currents=jnp.sum(i, axis=0).T.reshape(*lead, cols),
        cell_currents=outwards(i),
        device_voltages=outwards(y),
        word_voltages=outwards(word),
        bit_voltages=outwards(bit),
        residual=report.residual.reshape(lead),
        iterations=report.iterations.reshape(lead),
        tolerance=tolerance,
    )


def _dtype(wanted: Any, *arrays: ArrayLike) -> str:
    given = [a for a in arrays if hasattr(a, "dtype")]
    name = str(jnp.result_type(*given, float) if wanted is None else jnp.dtype(wanted))
    if name not in TOLERANCE:
        raise ValueError(f"dtype must be 'float32' or 'float64'; got {name!r}")
    return name


def check_kinds(wires: Any, conduction: Any) -> None:
    """Raise for what is no `Wires`, and what is no law of conduction."""
    from anajax.arrays.wires import Wires  # which solves

    if not isinstance(wires, Wires):
        raise TypeError(f"wires must be Wires(...), resistances in ohm; got {wires!r}")
    if conduction is None or isinstance(conduction, Conduction):
        if jax.tree_util.all_leaves([conduction]) and conduction is not None:
            raise TypeError(f"{type(conduction).__name__} must be decorated with @anajax.devices.record")
        return
    hint = ". Cells given by their states: ByState(model=...)" if isinstance(conduction, Memristor) else ""
    raise TypeError(f"conduction must be a law such as Sinh(...), or None for Ohm's; got {conduction!r}{hint}")


def check_arguments(
    g: Array, v: Array, bit_voltage: Array, scores: Scores | None, conduction: Conduction | None = None
) -> None:
    """Raise for arguments of `solve` that have the wrong shape or range."""
    _check.shape(g, "g", "rows cols")
    rows, cols = g.shape
    _check.shape(v, "v", "... rows", f"g has shape {g.shape}", rows=rows)
    for name, values in (("g", g), ("v", v), ("bit_voltage", bit_voltage)):
        _check.finite(values, name)
    if conduction is None or conduction.by_conductance:
        _check_conductances(g)
    if bit_voltage.shape not in ((), (cols,)):
        raise ValueError(f"bit_voltage must be a number or have shape ({cols},); got shape {bit_voltage.shape}")
    for name, score in (scores or {}).items():
        _check.shape(score, f"scores[{name!r}]", "rows cols", rows=rows, cols=cols)


def _check_conductances(g: Array) -> None:
    _check.in_range(g, "g", ge=0)
    if _check.is_concrete(g) and (largest := float(np.max(np.asarray(g), initial=0.0))) > _SIEMENS:
        warnings.warn(f"g has a cell of {largest:g} S: conductances are in siemens", stacklevel=4)


def solved(solution: Solution) -> Solution:
    """Return `solution`; raise if values are known and the solve did not converge."""
    if _check.is_concrete(solution.residual) and not bool(np.all(solution.converged)):
        raise FloatingPointError(
            f"the circuit was not solved to a residual of {solution.tolerance:g}: {float(jnp.max(solution.residual)):g}"
            f" is left after {int(jnp.max(solution.iterations))} iterations. A cell whose current falls as its"
            " voltage rises has no unique solution; a larger tolerance, or dtype='float64', may help otherwise"
        )
    return solution
