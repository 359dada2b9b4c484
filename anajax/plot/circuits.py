"""Pictures of solved arrays: voltages and currents along resistive wires, rows from the top as in the circuit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection, LineCollection, PolyCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anajax.arrays.circuits.segments import segment_currents
from anajax.arrays.circuits.solve import Solution
from anajax.arrays.wires import Wires
from anajax.plot._axes import scaled

_LARGEST = 16  # arrays that can be drawn wire by wire
_QUANTITIES = {"V": "voltage", "A": "current", "%": "share of the largest voltage"}
_ASIDE = 0.5  # of a bit line from the word-line nodes of its cells, in the drawing
_PALE = ("YlOrRd", "YlGnBu", "Greys")  # maps whose first colours would be lost on white
_ENDS = 0.7  # of lines beyond the cells
_BOX = np.array([(0.06, 0.18), (0.18, 0.06), (-0.06, -0.18), (-0.18, -0.06)])  # corners of a cell


def node_voltages(solution: Solution) -> Figure:
    """Plot the voltages of the nodes of word lines and of bit lines as maps over the array.

    Args:
      solution: of one vector of voltages.
    """
    figure, (left, right) = _panels(2, _shape(solution))
    _map(left, solution.word_voltages, "V", "nodes of word lines")
    _map(right, solution.bit_voltages, "V", "nodes of bit lines")
    return figure


def ir_drop(solution: Solution, v: ArrayLike, *, bit_voltage: ArrayLike = 0.0, relative: bool = False) -> Figure:
    """Plot the voltage that wires take from each cell: what is applied less what the cell sees.

    It counts in the direction of what is applied; below zero, a cell sees more than that.

    Args:
      solution: of one vector of voltages.
      v: voltages of the word lines [V], `[rows]`, as given to `solve`.
      bit_voltage: voltages of the bit lines [V], as given to `solve`.
      relative: whether to show percents of the largest voltage that is applied to a cell.
    """
    rows, cols = _shape(solution)
    if np.shape(v) != (rows,):
        raise ValueError(f"v must have shape ({rows},), one voltage for each word line; got shape {np.shape(v)}")
    if np.shape(bit_voltage) not in ((), (cols,)):
        raise ValueError(f"bit_voltage must be a number or have shape ({cols},); got shape {np.shape(bit_voltage)}")
    applied = np.asarray(v, float)[:, None] - np.broadcast_to(np.asarray(bit_voltage, float), (rows, cols))
    lost = np.where(applied < 0, -1, 1) * (applied - np.asarray(solution.cell_voltages, float))
    if relative:
        lost = 100 * lost / (np.abs(applied).max() or 1.0)
    figure, (axes,) = _panels(1, (rows, cols))
    _map(axes, lost, "%" if relative else "V", "lost in the wires")
    return figure


def branch_currents(solution: Solution, wires: Wires | None = None) -> Figure:
    """Plot the currents of the cells as a map over the array and, with `wires`, those of the segments of the lines.

    Args:
      solution: of one vector of voltages.
      wires: as given to `solve`. Currents of word lines count to the right, those of bit lines downwards.
    """
    figure, axes = _panels(1 if wires is None else 3, _shape(solution))
    _map(axes[0], solution.cell_currents, "A", "cells")
    if wires is not None:
        word, bit = segment_currents(solution, wires)
        _map(axes[1], word, "A", "segments of word lines", xlabel="segment, from the left")
        _map(axes[2], bit, "A", "segments of bit lines", ylabel="segment, from the top")
    return figure


def crossbar(solution: Solution, wires: Wires | None = None) -> Figure:
    """Draw an array: its wires coloured by voltage, or by current, and its cells by current.

    Word lines are driven at the left. Bit lines are sensed at the bottom, where their currents are written.

    Args:
      solution: of one vector of voltages, for at most 16 x 16 cells.
      wires: as given to `solve`: each segment has the colour of its current, and lines held at both ends have both.
        `None`: wires have the colour of the voltage at the nearest node, and end open on the far side.
    """
    rows, cols = _shape(solution)
    if max(rows, cols) > _LARGEST:
        raise ValueError(
            f"solution must be of at most {_LARGEST} x {_LARGEST} cells to be drawn; got {rows} x {cols}."
            " node_voltages, ir_drop and branch_currents show any size"
        )
    if wires is None:
        word, bit = solution.word_voltages, solution.bit_voltages
        scales = {"word lines": _scale(word, "V", "YlOrRd"), "bit lines": _scale(bit, "V", "YlGnBu")}
    else:
        word, bit = segment_currents(solution, wires)
        scales = {"lines": _scale(np.concatenate([np.ravel(word), np.ravel(bit)]), "A", "YlOrRd")}
    scales["cells"] = _scale(solution.cell_currents, "A", "Greys")
    of_words, *_, of_cells = each = [*scales.values()]
    of_bits = each[-2]  # of words too, where there is one for all lines
    figure, axes = _drawing(rows, cols, scales)
    x, y = _stretches(rows, cols, wires)
    across = [[(a, i), (b, i)] for i in range(rows) for a, b in pairwise(x)]
    down = [[(j + _ASIDE, a), (j + _ASIDE, b)] for a, b in pairwise(y) for j in range(cols)]
    nodes = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1).reshape(-1, 2)
    leads = np.stack([nodes, nodes + _ASIDE], axis=1)
    boxes = leads.mean(axis=1)[:, None] + _BOX
    _add(axes, LineCollection(down, linewidths=4, capstyle="projecting"), bit, of_bits)
    axes.add_collection(LineCollection(across, colors="white", linewidths=9))  # word lines pass over bit lines
    _add(axes, LineCollection(across, linewidths=4, capstyle="projecting"), word, of_words)
    axes.add_collection(LineCollection(list(leads), colors="black", linewidths=1))
    symbols = PolyCollection(list(boxes), edgecolors="black", linewidths=0.8, zorder=3)
    _add(axes, symbols, solution.cell_currents, of_cells)
    axes.plot(*leads.reshape(-1, 2).T, "ko", markersize=3)
    _terminals(axes, solution, x, y)
    return figure


def _drawing(rows: int, cols: int, scales: dict[str, _Scale]) -> tuple[Figure, Axes]:
    """Return a figure with axes for cells half an inch apart, and a bar for each scale."""
    wide, high = max(2.8, 0.5 * (cols + 2)), max(2.8, 0.5 * (rows + 2))
    figure = Figure(figsize=(0.7 + wide + 0.95 * len(scales), 0.8 + high), layout="constrained")
    axes, *bars = figure.subplots(1, 1 + len(scales), width_ratios=[wide] + [0.2] * len(scales))
    for bar, (name, scale) in zip(bars, scales.items(), strict=True):
        figure.colorbar(ScalarMappable(scale.norm, scale.colors), cax=bar, label=f"{name}: {scale.label}")
    return figure, axes


def _stretches(rows: int, cols: int, wires: Wires | None) -> tuple[list[float], list[float]]:
    """Return where the colours of lines change: across the word lines, and down the bit lines."""
    across, down = np.arange(cols, dtype=float), np.arange(rows) + _ASIDE  # nodes
    left, right, top, bottom = -_ENDS, cols - 1 + _ASIDE + _ENDS, -_ENDS, rows - 1 + _ASIDE + _ENDS
    if wires is None:
        return [left, *(across[1:] - 0.5), cols - 1], [_ASIDE, *(down[1:] - 0.5), bottom]
    x = [left, *across] if wires.far_driver is None else [left, *across, right]
    return x, [*down, bottom] if wires.far_sense is None else [top, *down, bottom]


def _terminals(axes: Axes, solution: Solution, x: list[float], y: list[float]) -> None:
    """Draw the ends of lines that are held at a voltage, numbers of word lines, and output currents."""
    rows, cols = _shape(solution)
    amps, unit = scaled(solution.currents, "A")
    word, bit = np.arange(rows), np.arange(cols) + _ASIDE
    for at in {x[0], x[-1]} - {cols - 1}:
        axes.plot(np.full(rows, at), word, "ks", markersize=6, zorder=3)
    for at in {y[0], y[-1]} - {_ASIDE}:
        axes.plot(bit, np.full(cols, at), "ks", markersize=6, zorder=3)
    axes.set(xlabel=f"current out of each bit line ({unit})", ylabel="word line", aspect="equal")
    axes.set_xticks(bit, [f"{amps * i:.3g}".replace("-", "−") for i in np.asarray(solution.currents)], rotation=90)
    axes.set_yticks(word, [str(i) for i in word])
    axes.set_xlim(-_ENDS - 0.3, cols - 1 + _ASIDE + _ENDS + 0.3)
    axes.set_ylim(rows - 1 + _ASIDE + _ENDS + 0.3, -_ENDS - 0.3)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


class _Scale(NamedTuple):
    """How numbers become colours: their factor to a handy unit, its name, and the map."""

    factor: float
    label: str
    norm: Normalize
    colors: Colormap


def _scale(values: Any, unit: str, colors: str) -> _Scale:
    """Return the scale of `values`: `colors` from the lowest to the highest, or blue and red around zero."""
    values = np.asarray(values, float)
    known = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    factor, name = (1.0, unit) if unit == "%" else scaled(known, unit)
    low, high = factor * known.min(), factor * known.max()
    if min(-low, high) > 0.1 * max(-low, high):
        high = max(-low, high)
        low, colors = -high, "coolwarm"
    colormap = matplotlib.colormaps[colors]
    if colors in _PALE:
        colormap = ListedColormap(colormap(np.linspace(0.2, 1, 256)))
    return _Scale(factor, f"{_QUANTITIES[unit]} ({name})", Normalize(low, high), colormap)


def _add(axes: Axes, collection: Collection, values: Any, scale: _Scale) -> None:
    """Add a collection in the colours of `values`, above what there is."""
    collection.set(array=scale.factor * np.ravel(values), norm=scale.norm, cmap=scale.colors)
    axes.add_collection(collection)


def _map(
    axes: Axes, values: Any, unit: str, title: str, *, xlabel: str = "bit line", ylabel: str = "word line"
) -> None:
    values = np.asarray(values, float)
    scale = _scale(values, unit, "viridis")
    shown = scale.factor * values
    image = axes.imshow(shown, norm=scale.norm, cmap=scale.colors, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, label=scale.label)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))


def _panels(count: int, shape: tuple[int, int]) -> tuple[Figure, list[Axes]]:
    rows, cols = shape
    wide = 1.6 + 2.8 * min(max(cols / rows, 0.4), 2.0)
    figure = Figure(figsize=(wide * count, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _shape(solution: Solution) -> tuple[int, int]:
    """Return rows and columns; raise unless the solution is that of one vector of voltages."""
    if len(solution.cell_currents.shape) != 2:
        raise ValueError(
            "solution must be that of one vector of voltages; got leading axes"
            f" {solution.cell_currents.shape[:-2]}: take one, as jax.tree.map(lambda x: x[0], solution)"
        )
    rows, cols = solution.cell_currents.shape
    return rows, cols
