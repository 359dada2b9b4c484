"""Writing one cell of a passive array: who sees which voltage, and what that does to the others."""

import jax.numpy as jnp
import numpy as np
import pytest

from anajax.arrays import Wires, half_select, write_pulse
from anajax.devices.memristor import VTEAM, Sampled, simulate

SHAPE, CELL = (4, 3), (1, 2)


def seen(scheme):
    word, bit = half_select(SHAPE, CELL, 0.9, scheme)
    return np.asarray(word[:, None] - bit)


def test_half_of_the_voltage_on_the_lines_of_the_selected_cell():
    wanted = np.zeros(SHAPE)
    wanted[1], wanted[:, 2], wanted[1, 2] = 0.45, 0.45, 0.9
    np.testing.assert_allclose(seen("V/2"), wanted, atol=1e-7)


def test_a_third_of_the_voltage_everywhere_else():
    wanted = np.full(SHAPE, -0.3)
    wanted[1], wanted[:, 2], wanted[1, 2] = 0.3, 0.3, 0.9
    np.testing.assert_allclose(seen("V/3"), wanted, atol=1e-7)


def sole(model, x, v, width):
    """Return the state of a cell of its own after `width` at `v`."""
    times = np.array([0.0, width])
    return float(simulate(model, Sampled(times=times, volts=[v, v]), times, x).state[-1])


@pytest.mark.parametrize(("scheme", "disturbed"), [("V/2", [(1, 0), (1, 1), (0, 2), (2, 2), (3, 2)]), ("V/3", [])])
def test_cells_move_as_they_would_alone_at_their_voltage(scheme, disturbed, x64):
    """Between a third and a half of the write voltage lies the threshold: V/2 disturbs its lines, V/3 nothing."""
    model = VTEAM()
    v = 2.5 * float(model.v_off)
    start = 0.5 * (float(model.bounds[0]) + float(model.bounds[1])) * np.ones(SHAPE)
    width = 1e-10
    word, bit = half_select(SHAPE, CELL, v, scheme)
    after, solution = write_pulse(model, start, Wires(word_line=0.0, bit_line=0.0), word, bit, width, steps=1)
    for index in np.ndindex(SHAPE):
        alone = sole(model, start[index], float(word[index[0]] - bit[index[1]]), width)
        np.testing.assert_allclose(after[index], alone, rtol=1e-6)
    moved = {tuple(int(k) for k in i) for i in np.argwhere(np.abs(after / start - 1) > 1e-9)}
    assert moved == {CELL, *disturbed}
    assert bool(solution.converged)


@pytest.mark.slow
def test_wires_leave_less_for_the_far_cell(x64):
    model = VTEAM()
    middle = 0.5 * (float(model.bounds[0]) + float(model.bounds[1]))
    start = jnp.full((6, 6), middle)
    wires = Wires(word_line=2.0, bit_line=2.0)
    shifts = []
    for cell in ((5, 0), (0, 5)):  # nearest to both terminals, and farthest
        word, bit = half_select((6, 6), cell, 2.5 * float(model.v_off))
        after, solution = write_pulse(model, start, wires, word, bit, 1e-10, steps=2)
        shifts.append(float(jnp.abs(after[cell] - middle)))
        assert solution.cell_voltages[cell] < word[cell[0]]
    assert shifts[1] < 0.99 * shifts[0]


@pytest.mark.slow
def test_transistors_take_their_share_and_protect_what_they_cut_off(x64):
    model = VTEAM()
    start = np.full((2, 2), 0.5 * (float(model.bounds[0]) + float(model.bounds[1])))
    resistance = 0.05 / float(model.current(start[0, 0], 0.05))
    width, v = 1e-10, 2.5 * float(model.v_off)
    wires = Wires(word_line=0.0, bit_line=0.0, select=resistance)
    after, solution = write_pulse(model, start, wires, [0.0, v], [v, 0.0], width, steps=1)
    half = float(solution.device_voltages[1, 1])
    np.testing.assert_allclose(half, v / 2, rtol=1e-9)
    np.testing.assert_allclose(solution.device_voltages, [[0, 0], [0, half]], atol=1e-12)
    np.testing.assert_allclose(after[1, 1], sole(model, start[1, 1], half, width), rtol=1e-9)
    np.testing.assert_array_equal(after[0], start[0])  # one of them with v across cell and transistor
    # the other polarity: its word line at zero volts, its gate on
    back = -4 * float(model.v_on)
    after, solution = write_pulse(model, start, wires, [0.0, 0.0], [back, 0.0], width, gate=[True, False], steps=1)
    np.testing.assert_allclose(solution.device_voltages, [[-back / 2, 0], [0, 0]], atol=1e-12)
    assert after[0, 0] != start[0, 0]
    np.testing.assert_array_equal(after[1], start[1])


@pytest.mark.slow
def test_more_steps_come_to_the_same(x64):
    """The circuit changes as the cells do: halving the steps halves the error."""
    model = VTEAM()
    start = jnp.full((3, 3), 0.5 * (float(model.bounds[0]) + float(model.bounds[1])))
    word, bit = half_select((3, 3), (1, 1), 2.5 * float(model.v_off))
    ends = [
        float(write_pulse(model, start, Wires(word_line=20.0, bit_line=20.0), word, bit, 1e-10, steps=n)[0][1, 1])
        for n in (2, 4, 32)
    ]
    assert 1.5 < (ends[0] - ends[2]) / (ends[1] - ends[2]) < 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": "V/4"}, "scheme must be one of 'V/2', 'V/3'; got 'V/4'"),
        ({"cell": (4, 0)}, r"cell\[0\] must lie within \[0, 4\)"),
    ],
)
def test_errors(change, message):
    with pytest.raises(ValueError, match=message):
        half_select(**({"shape": SHAPE, "cell": CELL, "v": 1.0} | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": jnp.full((2, 2), 1.5)}, ValueError, r"x must lie within the bounds of VTEAM, .* got 1\.5 in 4 of 4"),
        ({"word": jnp.ones(3)}, ValueError, r"word must have shape \(rows\) with rows=2; got \(3,\)"),
        ({"bit": jnp.ones(3)}, ValueError, r"bit must have shape \(cols\)"),
        ({"model": 2.0}, TypeError, "model must be one of anajax.devices.memristor"),
        ({"wires": None}, TypeError, r"wires must be Wires\(\.\.\.\), resistances in ohm; got None"),
        ({"gate": [1, 0]}, ValueError, "gate switches transistors, and Wires.select is None"),
        ({"steps": 0}, ValueError, "steps must be a positive integer; got 0"),
    ],
)
def test_errors_of_pulses(change, error, message):
    arguments = {
        "model": VTEAM(),
        "x": jnp.full((2, 2), 1e-9),
        "wires": Wires(word_line=0.0, bit_line=0.0),
        "word": jnp.ones(2),
        "bit": jnp.zeros(2),
        "width": 1e-12,
    }
    with pytest.raises(error, match=message):
        write_pulse(**(arguments | change))
