"""Currents along wires: Kirchhoff's laws at every node and along every line, and Ohm's law in every segment."""

import jax
import numpy as np
import pytest

from anajax.arrays import Wires, segment_currents, solve

pytestmark = pytest.mark.usefixtures("x64")

ENDS = {
    "single": {},
    "double": {"far_driver": np.linspace(1, 9, 5), "far_sense": 3.0, "driver": 2.0, "sense": np.linspace(0, 7, 4)},
    "far words": {"far_driver": 0.0, "sense": 4.0},
}


def solved(ends, zero=False):
    rng = np.random.default_rng(0)
    rows, cols = 5, 4
    g, v = rng.uniform(1e-4, 1e-3, (rows, cols)), rng.uniform(-0.5, 0.5, rows)
    wires = Wires(
        word_line=rng.uniform(5, 9, (rows, cols + ("far_driver" in ends))) * (not zero),
        bit_line=rng.uniform(5, 9, (rows + ("far_sense" in ends), cols)) * (not zero),
        **ends,
    )
    return solve(g, v, wires), wires, v


@pytest.mark.parametrize("ends", ENDS)
def test_segments_obey_ohm(ends):
    """Current times resistance is the difference of the voltages at both ends of each segment."""
    ends = ENDS[ends]
    s, wires, v = solved(ends)
    word, bit = segment_currents(s, wires)
    top, bottom = np.asarray(s.word_voltages), np.asarray(s.bit_voltages)
    r_word, r_bit = np.array(wires.word_line), np.array(wires.bit_line)
    r_word[:, 0] += wires.driver
    r_bit[-1] += wires.sense
    nodes = [v[:, None], top]
    if "far_driver" in ends:
        r_word[:, -1] += wires.far_driver
        nodes.append(v[:, None])
    np.testing.assert_allclose(word * r_word, -np.diff(np.hstack(nodes)), rtol=1e-9, atol=1e-14)
    nodes = [bottom, np.zeros((1, 4))]
    if "far_sense" in ends:
        r_bit[0] += wires.far_sense
        nodes.insert(0, np.zeros((1, 4)))
    np.testing.assert_allclose(bit * r_bit, -np.diff(np.vstack(nodes), axis=0), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("zero", [False, True])
def test_nodes_obey_kirchhoff(zero):
    s, wires, _ = solved({"driver": 2.0, "far_driver": 1.0, "far_sense": 3.0}, zero)
    word, bit = segment_currents(s, wires)
    np.testing.assert_allclose(-np.diff(word), s.cell_currents, rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(np.diff(bit, axis=0), s.cell_currents, rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(bit[-1] - bit[0], s.currents, rtol=1e-12)


def test_ideal_lines_share_the_current_by_their_terminals():
    wires = Wires(word_line=0.0, bit_line=0.0, driver=1.0, far_driver=3.0)
    word, _ = segment_currents(solve([[1e-3, 2e-3]], [0.1], wires), wires)
    np.testing.assert_allclose(word[0, 0] / -word[0, -1], 3.0, rtol=1e-12)


def test_many_inputs_and_the_precision_of_the_session():
    wires = Wires(word_line=5.0, bit_line=3.0, far_sense=1.0)
    g, v = np.full((3, 2), 1e-3), np.arange(12.0).reshape(4, 3)
    word, bit = segment_currents(solve(g, v, wires), wires)
    assert (word.shape, bit.shape) == ((4, 3, 2), (4, 4, 2))
    with jax.enable_x64(False):
        right = segment_currents(solve(g, v[2], wires, dtype="float64"), wires)
        assert right[0].dtype == np.float64
    np.testing.assert_allclose(word[2], right[0], rtol=1e-12)
    np.testing.assert_allclose(bit[2], right[1], rtol=1e-12)
