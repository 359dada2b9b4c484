"""Pictures of solved arrays: what is drawn is the solution, with units."""

import jax
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection

from anajax import plot
from anajax.arrays import Wires, segment_currents, solve

WIRES = Wires(word_line=20.0, bit_line=10.0)
BOTH = WIRES.replace(far_driver=5.0, far_sense=5.0)


def solved(rows=4, cols=6, wires=WIRES, low=0.1):
    rng = np.random.default_rng(0)
    v = rng.uniform(low, 0.5, rows)
    return solve(rng.uniform(1e-4, 1e-3, (rows, cols)), v, wires), v


def maps(figure):
    """Return title -> `(values, unit by the colour bar, label of x, label of y)` of every map."""
    panels = [axes for axes in figure.axes if axes.images]
    return {
        axes.get_title(): (
            np.asarray(axes.images[0].get_array()),
            axes.images[0].colorbar.ax.get_ylabel(),
            axes.get_xlabel(),
            axes.get_ylabel(),
        )
        for axes in panels
    }


def lines_and_cells(figure):
    """Return the coloured collections of a drawing: bit lines, word lines, cells."""
    found = [c for c in figure.axes[0].collections if c.get_array() is not None]
    bits, words, cells = found
    assert isinstance(bits, LineCollection)
    assert isinstance(words, LineCollection)
    assert isinstance(cells, PolyCollection)
    return bits, words, cells


# -- maps --------------------------------------------------------------------------------------------------------------


def test_maps_of_node_voltages():
    s, _ = solved()
    found = maps(plot.node_voltages(s))
    assert list(found) == ["nodes of word lines", "nodes of bit lines"]
    for (values, *labels), right in zip(found.values(), (s.word_voltages, s.bit_voltages), strict=True):
        np.testing.assert_allclose(values, 1e3 * right, rtol=1e-6)
        assert labels == ["voltage (mV)", "bit line", "word line"]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_voltage_that_cells_lose(sign):
    wires = Wires(word_line=20.0, bit_line=10.0, sense=5.0)
    rng = np.random.default_rng(1)
    v, sink = sign * rng.uniform(0.4, 0.5, 3), sign * np.array([0.0, 0.1])
    s = solve(rng.uniform(1e-4, 1e-3, (3, 2)), v, wires, bit_voltage=sink)
    ((values, *labels),) = maps(plot.ir_drop(s, v, bit_voltage=sink)).values()
    applied = v[:, None] - sink
    np.testing.assert_allclose(values, 1e3 * sign * (applied - s.cell_voltages), rtol=1e-4)
    assert (values > 0).all()
    assert labels == ["voltage (mV)", "bit line", "word line"]
    ((values, label, *_),) = maps(plot.ir_drop(s, v, bit_voltage=sink, relative=True)).values()
    np.testing.assert_allclose(values, 100 * np.abs(applied - s.cell_voltages) / np.abs(applied).max(), rtol=1e-4)
    assert label == "share of the largest voltage (%)"


def test_rows_at_nothing_do_not_dominate_the_map():
    v = np.array([0.5, 0.0, 1e-5])
    s = solve(np.full((3, 2), 1e-3), v, WIRES)
    ((values, *_),) = maps(plot.ir_drop(s, v, relative=True)).values()
    assert np.abs(values).max() < 100  # of 10 uV, the crosstalk is many times as much
    nothing = solve(np.full((3, 2), 1e-3), np.zeros(3), WIRES)
    ((values, *_),) = maps(plot.ir_drop(nothing, np.zeros(3), relative=True)).values()
    assert (values == 0).all()


def test_maps_of_currents():
    s, _ = solved(wires=BOTH)
    ((values, *labels),) = maps(plot.branch_currents(s)).values()
    np.testing.assert_allclose(values, 1e6 * s.cell_currents, rtol=1e-6)
    assert labels == ["current (µA)", "bit line", "word line"]
    found = maps(plot.branch_currents(s, BOTH))
    assert list(found) == ["cells", "segments of word lines", "segments of bit lines"]
    word, bit = segment_currents(s, BOTH)
    np.testing.assert_allclose(found["segments of word lines"][0], 1e6 * word, rtol=1e-6)
    np.testing.assert_allclose(found["segments of bit lines"][0], 1e6 * bit, rtol=1e-6)
    assert found["segments of word lines"][1:] == ("current (µA)", "segment, from the left", "word line")
    assert found["segments of bit lines"][1:] == ("current (µA)", "bit line", "segment, from the top")


def test_colours_meet_at_zero_where_signs_differ():
    s, _ = solved(low=-0.5)
    image = plot.node_voltages(s).axes[0].images[0]
    assert (image.cmap.name, image.norm.vmin) == ("coolwarm", -image.norm.vmax)
    image = plot.node_voltages(solved()[0]).axes[0].images[0]
    assert image.cmap.name == "viridis"
    np.testing.assert_allclose(image.norm.vmax, 1e3 * solved()[0].word_voltages.max(), rtol=1e-6)


# -- the drawing -------------------------------------------------------------------------------------------------------


def test_a_drawing_by_voltage():
    s, _ = solved()
    figure = plot.crossbar(s)
    axes, *bars = figure.axes
    assert [bar.get_ylabel() for bar in bars] == [
        "word lines: voltage (mV)",
        "bit lines: voltage (mV)",
        "cells: current (µA)",
    ]
    bits, words, cells = lines_and_cells(figure)
    for found, right, scale in (
        (bits, s.bit_voltages, 1e3),
        (words, s.word_voltages, 1e3),
        (cells, s.cell_currents, 1e6),
    ):
        np.testing.assert_allclose(found.get_array(), scale * np.ravel(right), rtol=1e-6)
        assert len(found.get_paths()) == right.size
    assert axes.get_xlabel() == "current out of each bit line (µA)"
    shown = [float(t.get_text()) for t in axes.get_xticklabels()]
    np.testing.assert_allclose(shown, 1e6 * s.currents, rtol=6e-3)
    assert axes.yaxis_inverted()  # row 0 is at the top


def test_every_stretch_of_wire_is_at_its_node_and_every_cell_between_two():
    s, _ = solved(3, 2)
    bits, words, cells = lines_and_cells(plot.crossbar(s))
    for k, (i, j) in enumerate(np.ndindex(3, 2)):
        (a, _), (b, _) = words.get_segments()[k]
        assert words.get_segments()[k][:, 1].tolist() == [i, i]
        assert a < j <= b
        (_, a), (_, b) = bits.get_segments()[k]
        assert bits.get_segments()[k][:, 0].tolist() == [j + 0.5, j + 0.5]
        assert a <= i + 0.5 < b
        np.testing.assert_allclose(cells.get_paths()[k].vertices[:4].mean(axis=0), (j + 0.25, i + 0.25))


@pytest.mark.parametrize(("wires", "more"), [(WIRES, 0), (BOTH, 1)])
def test_a_drawing_by_current(wires, more):
    s, _ = solved(3, 2, wires)
    figure = plot.crossbar(s, wires)
    assert [bar.get_ylabel() for bar in figure.axes[1:]] == ["lines: current (µA)", "cells: current (µA)"]
    bits, words, _ = lines_and_cells(figure)
    word, bit = segment_currents(s, wires)
    np.testing.assert_allclose(words.get_array(), 1e6 * np.ravel(word), rtol=1e-6)
    np.testing.assert_allclose(bits.get_array(), 1e6 * np.ravel(bit), rtol=1e-6)
    assert (len(words.get_segments()), len(bits.get_segments())) == (3 * (2 + more), (3 + more) * 2)
    for segment in words.get_segments()[:2]:  # a segment ends at its node
        assert segment[1, 0] in (0, 1)
    squares = [line for line in figure.axes[0].get_lines() if line.get_marker() == "s"]
    assert sum(len(line.get_xdata()) for line in squares) == 5 * (1 + more)


@pytest.mark.parametrize("size", [(1, 1), (1, 16), (16, 1), (16, 16)])
def test_drawings_of_any_size_save(size, tmp_path):
    s, _ = solved(*size, wires=BOTH)
    for name, figure in (("voltage", plot.crossbar(s)), ("current", plot.crossbar(s, BOTH))):
        figure.savefig(tmp_path / f"{name}.png", dpi=40)


def test_ideal_wires_and_dead_arrays_can_be_drawn(tmp_path):
    ideal = Wires(word_line=0.0, bit_line=0.0)
    for scale in (1e-3, 0.0):
        s = solve(np.full((2, 2), scale), [0.1, 0.2], ideal)
        figures = plot.crossbar(s, ideal), plot.node_voltages(s), plot.branch_currents(s, ideal)
        for figure in (*figures, plot.ir_drop(s, [0.1, 0.2])):
            figure.savefig(tmp_path / "figure.png", dpi=40)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_large_arrays_are_for_maps():
    with pytest.raises(
        ValueError, match=r"at most 16 x 16 cells to be drawn; got 17 x 3.*branch_currents show any size"
    ):
        plot.crossbar(solved(17, 3)[0])


@pytest.mark.parametrize(
    "draw", [plot.node_voltages, plot.branch_currents, plot.crossbar, lambda s: plot.ir_drop(s, np.zeros(2))]
)
def test_one_vector_of_voltages_at_a_time(draw):
    s = solve(np.full((2, 2), 1e-3), np.ones((3, 2)), WIRES)
    with pytest.raises(ValueError, match=r"one vector of voltages; got leading axes \(3,\)"):
        draw(s)
    draw(jax.tree.map(lambda x: x[0], s))


def test_voltages_of_another_array():
    s, v = solved()
    with pytest.raises(ValueError, match=r"v must have shape \(4,\), one voltage for each word line; got shape \(3,\)"):
        plot.ir_drop(s, v[1:])
    with pytest.raises(ValueError, match=r"bit_voltage must be a number or have shape \(6,\); got shape \(2,\)"):
        plot.ir_drop(s, v, bit_voltage=[0.0, 0.1])
