"""Selection: voltages that write one cell of a passive array, and what the pulse does to all the others."""

from __future__ import annotations

import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax._record import leaf, record
from anajax.arrays.circuits.solve import Solution, solve, solved
from anajax.arrays.wires import Wires
from anajax.devices.conduction import Conduction, Scores
from anajax.devices.memristor import Memristor, Sampled, simulate

#: voltages of the word and of the bit lines that are not selected, as parts of the write voltage
_SCHEMES = {"V/2": (1 / 2, 1 / 2), "V/3": (1 / 3, 2 / 3)}


def half_select(
    shape: tuple[int, int], cell: tuple[int, int], v: ArrayLike, scheme: str = "V/2"
) -> tuple[Array, Array]:
    """Return the voltages of the word lines `[rows]` and of the bit lines `[cols]` [V] that put `v` over one cell.

    `"V/2"`: all other lines are at v / 2, so that cells on the lines of the selected one see v / 2, and others nothing.
    `"V/3"`: other word lines are at v / 3, other bit lines at 2 v / 3: every other cell sees v / 3, of either sign.

    Args:
      shape: `(rows, cols)` of the array.
      cell: `(row, col)` of the cell.
      v: voltage of the selected word line; the selected bit line is at 0 V.
      scheme: `"V/2"` or `"V/3"`.

    Example:
      >>> word, bit = half_select((3, 2), (1, 0), 0.6)
      >>> word[:, None] - bit
      Array([[0.3, 0. ],
             [0.6, 0.3],
             [0.3, 0. ]], dtype=float32)
    """
    _check.choice(scheme, "scheme", tuple(_SCHEMES))
    for k, (n, size) in enumerate(zip(cell, shape, strict=True)):
        if operator.index(n) not in range(size):
            raise ValueError(f"cell[{k}] must lie within [0, {size}) for an array of shape {shape}; got {n}")
    volts = _check.floating(v, "v")
    _check.finite(volts, "v")
    word, bit = (share * volts * jnp.ones(n) for share, n in zip(_SCHEMES[scheme], shape, strict=True))
    return word.at[cell[0]].set(volts), bit.at[cell[1]].set(0.0)


@record
class ByState(Conduction):
    """The current of memristors, for `solve`: in the place of a conductance, cells are given by their states.

    Attributes:
      model: what the cells are.
    """

    model: Memristor = leaf()

    by_conductance = False

    def current(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the current [A] of cells in the states `g` at `v` [V]."""
        return self.model.current(jnp.asarray(g), jnp.asarray(v))


def write_pulse(
    model: Memristor,
    x: ArrayLike,
    wires: Wires,
    word: ArrayLike,
    bit: ArrayLike,
    width: ArrayLike,
    *,
    gate: ArrayLike | None = None,
    steps: int = 4,
    throw: bool = True,
) -> tuple[Array, Solution]:
    """Apply one rectangular pulse to a whole array; return the states of all cells after it.

    The pulse is cut into equal steps. At the beginning of each the circuit is solved for the cells as they stand,
    currents through all sneak paths included; then every cell moves on at its own voltage, selected or not.

    Args:
      model: the cells.
      x: their states before, `[rows, cols]`, in the unit of the model and within its bounds.
      wires: resistances.
      word: voltages of the word lines [V], `[rows]`; for one cell, with `bit`, from `half_select`.
      bit: voltages of the bit lines [V], `[cols]`.
      width: duration of the pulse [s].
      gate: as in `solve`: which transistors are on, where `wires` has any.
      steps: how often the circuit is solved.
      throw: as in `anajax.devices.memristor.simulate`.

    Returns:
      `(x, solution)`: states after the pulse, and the circuit at its last step.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive integer; got {steps!r}")
    if not isinstance(model, Memristor):
        raise TypeError(f"model must be one of anajax.devices.memristor, such as VTEAM(); got {model!r}")
    states, word, bit = _check.floating(x, "x"), _check.floating(word, "word"), _check.floating(bit, "bit")
    _check.shape(states, "x", "rows cols")
    rows, cols = states.shape
    _check.shape(word, "word", "rows", f"x has shape {states.shape}", rows=rows)
    _check.shape(bit, "bit", "cols", f"x has shape {states.shape}", cols=cols)
    _check.in_range(width, "width", gt=0)
    if all(_check.is_concrete(b) for b in (states, *model.bounds)):
        low, high = (np.broadcast_to(b, states.shape) for b in model.bounds)
        outside = ~((low <= np.asarray(states)) & (np.asarray(states) <= high))
        if outside.any():
            raise ValueError(
                f"x must lie within the bounds of {type(model).__name__}, {low[outside][0]:g} to {high[outside][0]:g};"
                f" got {np.asarray(states)[outside][0]:g} in {int(outside.sum())} of {states.size} places"
            )
    times = jnp.stack([jnp.zeros(()), jnp.asarray(width) / steps])

    def moved(x: Array, y: Array) -> Array:
        return simulate(model, Sampled(times=times, volts=jnp.stack([y, y])), times, x, throw=throw).state[-1]

    def step(states: Array, _: None) -> tuple[Array, Solution]:
        solution = solve(states, word, wires, ByState(model=model), bit_voltage=bit, gate=gate)
        return jax.vmap(jax.vmap(moved))(states, solution.device_voltages), solution

    states, solutions = jax.lax.scan(step, states, None, length=steps)
    return states, solved(jax.tree.map(lambda a: a[-1], solutions))
