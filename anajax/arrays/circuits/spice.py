"""SPICE: an array with resistive wires as a netlist, for a second opinion or as part of a larger circuit."""

from __future__ import annotations

import functools
import string
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax.arrays.circuits.solve import check_arguments, check_kinds, switched_on
from anajax.arrays.wires import Wires
from anajax.devices.conduction import Conduction, Ohmic, Scores

# what the last step of Newton's iteration may still change, of a voltage or a current
_ACCURACY = 1e-11


def to_spice(
    g: ArrayLike,
    v: ArrayLike,
    wires: Wires,
    conduction: Conduction | None = None,
    *,
    scores: Scores | None = None,
    bit_voltage: ArrayLike = 0.0,
    gate: ArrayLike | None = None,
    title: str = "crossbar",
) -> str:
    """Return the netlist of an array; `ngspice -b FILE` finds its operating point and prints the output currents.

    The circuit is that of `solve`. The current out of bit line j is that through the source `voutj`, `i(voutj)` [A];
    word line i is driven by `vini`. Cell (i, j) is `celli_j` between the nodes `wi_j` and `bi_j`: a resistor, or a
    behavioural source `bcelli_j` where the law is not linear. Absent cells are left out, and those of transistors
    that are off; node `si_j` is between a transistor and its cell. Nodes that no resistance separates are one, with
    the name of the one nearest to the terminal, `ini` or `outj`.

    ngspice 39 agrees with `solve` in float64 to 1e-11 of the largest current where cells are linear, and to 1e-10
    elsewhere: of numbers in behavioural sources it reads eleven digits. Wires are exact, whatever `wires.method`.

    Args:
      g: conductances [S], `[rows, cols]`; 0 where a cell is absent.
      v: voltages of the word lines [V], `[rows]`.
      wires: resistances.
      conduction: law of the cells; `None` for Ohm's. A law of your own that is not linear needs `spice`.
      scores: standard scores of the cells for the law, each `[rows, cols]`.
      bit_voltage: voltages that the bit lines are held at [V], a number or `[cols]`.
      gate: which transistors are on, as in `solve`.
      title: first line of the netlist.

    Raises:
      ValueError: arguments of wrong shape or range, or wires that cannot be solved.
      NotImplementedError: a law without `spice`.

    Example:
      >>> from anajax.arrays import Wires
      >>> print(to_spice([[1e-3]], [0.5], Wires(word_line=2.0, bit_line=0.0)).partition(".options")[0])
      crossbar
      vin0 in0 0 0.5
      vout0 out0 0 0.0
      rw0_0 in0 w0_0 2.0
      rcell0_0 w0_0 out0 1000.0
      <BLANKLINE>
    """
    if not title.strip() or len(title.splitlines()) > 1:
        raise ValueError(f"title must be one line of text; got {title!r}")
    check_kinds(wires, conduction)
    with jax.enable_x64(True):
        wide = functools.partial(jax.tree.map, lambda a: jnp.asarray(a, jnp.float64))
        cells, drive, sink = (wide(np.asarray(a)) for a in (g, v, bit_voltage))
        law, wires, scores = wide((Ohmic() if conduction is None else conduction, wires, scores))
        check_arguments(cells, drive, sink, scores, conduction)
        rows, cols = cells.shape
        _check.shape(drive, "v", "rows", "A netlist has one vector of voltages", rows=rows)
        sink = jnp.broadcast_to(sink, (cols,))
        lines = _lines(wires, rows, cols)
        nodes = {node: at for line in lines for node, at in line.nodes.items()}
        on = switched_on(wires, drive, cells.shape, gate)
        there = cells > 0 if on is None else (cells > 0) & (on != 0)
        elements = _cells(law, cells, scores, np.asarray(there), float(wires.select or 0.0), nodes)
        volts = jnp.maximum(jnp.abs(drive).max(), jnp.abs(sink).max())
        amps = jnp.abs(law.current(cells, drive[:, None] - sink, scores)).max()
    return "\n".join(
        [
            title,
            *(f"vin{i} in{i} 0 {x}" for i, x in enumerate(drive.tolist())),
            *(f"vout{j} out{j} 0 {x}" for j, x in enumerate(sink.tolist())),
            *(resistor for line in lines for resistor in line.resistors),
            *elements,
            f".options reltol={_ACCURACY} vntol={_share(volts)} abstol={_share(amps)} gmin=1e-18 itl1=1000",
            ".control",
            "set numdgt=17",
            "op",
            *(f"print i(vout{j})" for j in range(cols)),
            "quit 0",
            ".endc",
            ".end\n",
        ]
    )


class _Line(NamedTuple):
    """A line: its resistors, and the node of the circuit that each node of a cell is."""

    resistors: list[str]
    nodes: dict[str, str]


def _lines(wires: Wires, rows: int, cols: int) -> list[_Line]:
    grid = wires.grid(rows, cols)
    segments, far = np.asarray(grid.word.segment).T[::-1].tolist(), np.asarray(grid.word.far)[::-1].tolist()
    words = [_line(f"in{i}", [f"w{i}_{j}" for j in range(cols)], segments[i], far[i]) for i in range(rows)]
    segments, far = np.asarray(grid.bit.segment).T.tolist(), np.asarray(grid.bit.far).tolist()
    down = range(rows)[::-1]  # from the sensed end
    return words + [_line(f"out{j}", [f"b{i}_{j}" for i in down], segments[j], far[j]) for j in range(cols)]


def _line(terminal: str, nodes: list[str], segments: list[float], far: float) -> _Line:
    """Return a line from its terminal outwards, through `segments` [ohm], and by `far` [S] back to the terminal."""
    at, resistors, where = terminal, [], {}
    for node, r in zip(nodes, segments, strict=True):
        if r > 0:
            resistors.append(f"r{node} {at} {node} {r}")
            at = node
        where[node] = at
    if far > 0 and at != terminal:
        resistors.append(f"rfar_{terminal} {at} {terminal} {1 / far}")
    return _Line(resistors, where)


def _cells(
    law: Conduction, g: Array, scores: Scores | None, there: np.ndarray, select: float, nodes: dict[str, str]
) -> list[str]:
    """Return the elements of the cells that are there, each between its two nodes, with `select` [ohm] in series."""
    if law.linear:
        kind, expression, numbers = "rcell", "{r}", {"r": 1 / law.small_signal(g, 0.0, scores)}
    else:
        kind, (expression, numbers) = "bcell", law.spice(g, scores)
        expression = f"i={expression}"
    owner = f"{type(law).__name__}.spice()"
    if missing := {name for _, name, *_ in string.Formatter().parse(expression) if name} - {"v", *numbers}:
        raise ValueError(f"{owner} must give each number that {expression!r} names; {sorted(missing)} are missing")
    table = {name: np.broadcast_to(np.asarray(x), there.shape) for name, x in numbers.items()}
    for name, x in table.items():
        _check.finite(x[there], f"{owner}[{name!r}]")
    elements = []
    for i, j in np.argwhere(there):
        a, b = nodes[f"w{i}_{j}"], nodes[f"b{i}_{j}"]
        if select > 0:
            elements.append(f"rselect{i}_{j} {a} s{i}_{j} {select}")
            a = f"s{i}_{j}"
        current = expression.format(v=f"v({a},{b})", **{name: float(x[i, j]) for name, x in table.items()})
        elements.append(f"{kind}{i}_{j} {a} {b} {current}")
    return elements


def _share(size: Array) -> float:
    return _ACCURACY * float(size) or _ACCURACY
