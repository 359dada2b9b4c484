"""What all step-response devices share, without noise: many pulses, symmetry, time, wear, mapping, transformations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pulsers import JUMPS, KINDS, SPREAD, TABLE, cells_at, make, noise, trace

from anajax.devices import (
    Arrhenius,
    ConstantStep,
    Drift,
    Endurance,
    Leak,
    LinearStep,
    Polynomial,
    Reference,
    SoftBounds,
    StepResponse,
    record,
)
from anajax.devices.linear_steps import LineResponse

COUNTS = np.asarray([7.0, -7.0, 0.0, 40.0, -40.0, 1.0])
START = np.asarray([0.0, 0.1, 0.6, 0.5, 0.7, 0.3])
FULL = {"rest": 0.1, "reset_noise": 0.01, "write_noise": 2.0, "read_curve": Polynomial(coefficients=(1e-7, 1e-6))}


def spread_cells(device, key, x=START):
    """Cells of various sizes in the states `x`."""
    return device.at(device.fabricate(key, x.shape), x)


@functools.partial(jax.jit, static_argnames="n")
def single_calls(device, cells, counts, n):
    """`n` calls of one pulse each, for cells as long as they have pulses left."""
    ways = jnp.where(jnp.arange(n)[:, None] < jnp.abs(counts), jnp.sign(counts), 0.0)
    return jax.lax.scan(lambda cells, way: (device.pulse(None, cells, way), None), cells, ways)[0].state["x"]


# -- many pulses -----------------------------------------------------------------------------------------------------


def one_call_is_many(device, key):
    cells = spread_cells(device, key)
    at_once = jax.jit(lambda d, c: d.pulse(None, c, COUNTS))(device, cells).state["x"]
    np.testing.assert_allclose(at_once, single_calls(device, cells, COUNTS, 40), rtol=1e-9, atol=1e-12)
    assert at_once[2] == cells.state["x"][2]
    moved = np.sign(at_once - cells.state["x"])
    np.testing.assert_array_equal(moved, np.sign(COUNTS))


@pytest.mark.parametrize("kind", KINDS)
def test_n_pulses_in_one_call_are_n_calls(kind, key, x64):
    spread = {"dx_d2d": 0.2, "up_down_d2d": 0.05} if kind == "growing" else SPREAD
    one_call_is_many(make(kind, **spread), key)


@record
class Summed(SoftBounds):
    def _many(self, key, cell, x, n, up):
        return x + n * self.response(cell, x, up)


@record
class Backwards(SoftBounds):
    def line(self, cell, up):
        return super().line(cell, ~up)


@pytest.mark.parametrize("wrong", [Summed, Backwards])
def test_wrong_sums_are_rejected(wrong, key, x64):
    with pytest.raises(AssertionError):
        one_call_is_many(wrong(dx=0.03), key)


@pytest.mark.parametrize("kind", JUMPS)
def test_jumps_are_single_pulses(kind, key, x64):
    jump, single = (make(kind, **SPREAD, one_by_one=choice) for choice in (False, True))
    cells = spread_cells(jump, key)
    found = [device.pulse(None, cells, COUNTS).state["x"] for device in (jump, single)]
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_pulse_does_half(kind, x64):
    device = make(kind)
    cells = cells_at(device, [0.2, 0.2, 0.3])
    half, whole = (device.pulse(None, cells, jnp.asarray([n, -n, n])).state["x"] - cells.state["x"] for n in (0.5, 1.0))
    # half a jump is half of it but for its slope, |s| / 4 of it; and two halves are exactly one
    np.testing.assert_allclose(half, whole / 2, rtol=0.03 if kind in JUMPS else 1e-9)
    if kind in JUMPS:
        twice = device.pulse(None, device.pulse(None, cells, 0.5), 0.5).state["x"]
        np.testing.assert_allclose(twice, device.pulse(None, cells, 1.0).state["x"], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_slope_by_count_is_the_step(kind, x64):
    """The derivative by the number of pulses, of the last that was begun."""
    device = make(kind)
    cells = cells_at(device, [0.2, 0.2])
    counts = jnp.asarray([3.5, -3.5])
    slope = jax.grad(lambda n: device.pulse(None, cells, n).state["x"].sum())(counts)
    before = device.pulse(None, cells, jnp.asarray([3.0, -3.0]))
    wanted = jnp.sign(counts) * device.step(before, counts)
    np.testing.assert_allclose(slope, wanted, rtol=0.06 if kind in JUMPS else 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_step_is_one_pulse(kind, key, x64):
    device = make(kind, **SPREAD)
    cells = spread_cells(device, key, jnp.asarray([-0.9, -0.2, 0.0, 0.4, 0.9, 2.0]))
    for way in (1.0, -1.0):
        after = device.pulse(None, cells, way).state["x"]
        np.testing.assert_allclose(device.step(cells, way), after - device.state(cells), rtol=1e-9, atol=1e-15)


def test_steps_that_grow_or_shrink_to_nothing_never_overflow(key):
    growing = LinearStep(dx=0.1, gamma_up=-0.5, gamma_down=-0.5, c2c=0.01)
    tight = SoftBounds(dx=0.001, c2c=0.3)

    def end(device, x, counts):
        cells = device.at(device.fabricate(None, (3,)).replace(scores={"x_max": jnp.asarray([0.0, -1.0, 2.0])}), x)
        return device.state(device.pulse(key, cells, counts)).sum()

    for device in (growing, tight.replace(x_max_d2d=1.0), growing.replace(noise="additive", one_by_one=False)):
        assert not device._apart
        for n in (3.0, 20.0, 1e4, -1e6, 1e9):
            found = jax.jit(jax.value_and_grad(end, (0, 1, 2)))(device, jnp.asarray([0.0, 0.2, -0.3]), jnp.full(3, n))
            for path, x in jax.tree_util.tree_leaves_with_path(found):
                assert jnp.isfinite(x).all(), f"{n} pulses: {jax.tree_util.keystr(path)} is {x}"


def test_a_replaced_field_decides_anew_how_pulses_go():
    fine, coarse = SoftBounds(dx=0.001, c2c=0.3), SoftBounds(dx=0.3, c2c=1.0)
    assert not fine._apart
    assert coarse._apart
    assert fine.replace(dx=0.3, c2c=1.0)._apart
    assert not coarse.replace(dx=0.001, c2c=0.3)._apart
    assert not fine.replace(one_by_one=False).replace(dx=0.3, c2c=1.0)._apart
    assert fine.replace(one_by_one=True).replace(dx=0.002)._apart


# -- the symmetry point ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope_at", ["mean", "own"])
def test_symmetry_point_of_soft_bounds(slope_at, key, x64):
    """(up - down) / (up / high - down / low), and of lines with slope; by formula and by bisection."""
    soft = SoftBounds(dx=0.01, up_down=0.2, x_min=-0.7, **SPREAD)
    cells = soft.fabricate(key, (50,))
    c = soft.realise(cells)
    wanted = (c["up"] - c["down"]) / (c["up"] / c["high"] - c["down"] / c["low"])
    np.testing.assert_allclose(soft.symmetry_point(cells), wanted, rtol=1e-9)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(soft.replace(up_down=0.21).symmetry_point(cells), wanted, rtol=1e-9)
    line = LinearStep(dx=0.01, up_down=0.1, gamma_up=0.7, gamma_down=0.4, slope_at=slope_at, gamma_d2d=0.1, **SPREAD)
    for device in (soft, line):
        cells = device.fabricate(key, (50,))
        bisected = StepResponse.symmetry_point(device, cells)
        np.testing.assert_allclose(bisected, device.symmetry_point(cells), atol=1e-9)


def test_symmetry_point_of_constant_steps_is_the_bound_they_lead_to(key):
    device = ConstantStep(dx=0.01, x_min_d2d=0.2, x_max_d2d=0.2, up_down=0.1)
    cells, c = device.fabricate(key, (5,)), device.realise(device.fabricate(key, (5,)))
    for find in (LineResponse.symmetry_point, StepResponse.symmetry_point):
        np.testing.assert_allclose(find(device, cells), c["high"], rtol=1e-6)
        np.testing.assert_allclose(find(device.replace(up_down=-0.1), cells), c["low"], rtol=1e-6)


FINE = {
    "pmax": {"p_max": 400, "alpha": 0.005},
    "neurosim": {"p_up": 320, "p_down": 400},
    "table": {name: np.asarray(column) / 10 for name, column in TABLE.items() if name != "x"},
    "exp": {"dx": 0.02},  # nearly flat in the middle
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("constant", "growing")])
def test_alternating_pulses_lead_to_the_symmetry_point(kind, key, x64):
    """From any start, the middle of the last pair is within half a step; a reference there makes it read as zero."""
    device = make(kind, **SPREAD | FINE.get(kind, {"dx": 0.003}))
    cells = spread_cells(device, key, np.linspace(-0.8, 0.8, 6))
    wanted = device.symmetry_point(cells)
    last = trace(device, cells, jnp.tile(jnp.asarray([1.0, -1.0]), 4000)).state["x"][-2:]
    size = device.step(device.at(cells, wanted), 1)
    assert (size < 0.03).all()
    np.testing.assert_array_less(jnp.abs(last.mean(axis=0) - wanted), 0.51 * size)

    seen = device.replace(reference=Reference(symmetry=True))
    np.testing.assert_allclose(seen.state(device.at(cells, wanted)), 0.0, atol=1e-12)
    offset = device.replace(reference=Reference(symmetry=True, mean=0.05))
    np.testing.assert_allclose(offset.state(device.at(cells, wanted)), -0.05, atol=1e-12)
    if kind not in ("pmax", "neurosim"):  # a symmetry point that lies elsewhere would not pass
        other = device.replace(up_down=0.1).symmetry_point(cells)
        assert (jnp.abs(last.mean(axis=0) - other) > 0.51 * size).all()


# -- time ------------------------------------------------------------------------------------------------------------

S = np.asarray([0.95, 0.28, 0.33, 0.12])  # decay per second


def fixture_of_aihwkit(device, rest):
    """gamma (a - b) + c - d of four cells after two seconds."""
    cells = cells_at(device, [0.47, 0.21, 0.64, 0.12])
    for _ in range(2):
        cells = device.wait(None, cells, 1.0)
    a, b, c, d = device.state(cells)
    wanted = {0.3: 0.055666, -0.3: 0.161812}[rest]
    np.testing.assert_allclose(0.1 * (a - b) + c - d, wanted, atol=6e-7)


@pytest.mark.parametrize("rest", [0.3, -0.3])
def test_decay_to_the_rest_level(rest, x64):
    device = ConstantStep(rest=rest, leak=Leak(lifetime=-1 / np.log(S)))
    fixture_of_aihwkit(device, rest)
    for wrong in (
        device.replace(rest=0.0),
        device.replace(**{"leak.lifetime": 1 / (1 - S)}),
        device.replace(**{"leak.lifetime": -2 / np.log(S)}),
    ):
        with pytest.raises(AssertionError):
            fixture_of_aihwkit(wrong, rest)
    cells = cells_at(device, [0.47, 0.21, 0.64, 0.12])
    np.testing.assert_allclose(device.wait(None, cells, 1e9).state["x"], rest, rtol=1e-12)
    np.testing.assert_allclose(device.wait(None, cells, 0.0).state["x"], cells.state["x"], rtol=1e-14)


def test_heat_speeds_decay_up(x64):
    """exp(-0.6 eV / k (1 / 300 K - 1 / 350 K)) = 28 times less time."""
    hot = Leak(lifetime=100.0, thermal=Arrhenius(activation=0.6, temperature=350.0))
    device = ConstantStep(leak=hot)
    left = device.wait(None, cells_at(device, [0.8]), 2.0).state["x"] / 0.8
    faster = np.exp(0.6 / 8.617333262e-5 * (1 / 300 - 1 / 350))
    np.testing.assert_allclose(faster, 27.54, rtol=1e-3)
    np.testing.assert_allclose(left, np.exp(-2 * faster / 100), rtol=1e-9)
    np.testing.assert_allclose(Arrhenius(activation=0.6).stretch, 1.0)


def drifts(device):
    """Drift begins at t_0, goes by 2**-nu from t_0 to 2 t_0, by the age since the last touch."""
    t_0 = float(device.drift.t_0)
    cells = cells_at(device, [0.2, 0.2, -0.4])
    g = device.conductance(cells)

    def left(cells, time=0.0):
        return np.asarray(device.conductance(cells, time) / device.replace(drift=None).conductance(cells))

    np.testing.assert_allclose(left(cells, 2 * t_0), 0.933033, atol=6e-7)
    np.testing.assert_allclose(left(cells, t_0), 1.0)
    np.testing.assert_allclose(left(cells, 0.0), 1.0)
    older = device.wait(None, cells, 2 * t_0)
    np.testing.assert_allclose(device.conductance(older), 2**-0.1 * g, rtol=1e-9)
    np.testing.assert_allclose(left(device.wait(None, older, t_0), t_0), 4**-0.1, rtol=1e-9)
    touched = device.pulse(None, older, jnp.asarray([0.0, 1.0, -1.0]))
    np.testing.assert_allclose(touched.state["age"], [2 * t_0, 0.0, 0.0])
    np.testing.assert_allclose(left(touched, 2 * t_0), [4**-0.1, 2**-0.1, 2**-0.1], rtol=1e-9)
    erased = device.reset(None, older, jnp.asarray([False, True, False]))
    np.testing.assert_allclose(left(erased), [2**-0.1, 1.0, 2**-0.1], rtol=1e-9)
    np.testing.assert_allclose(device.state(older), device.state(cells))  # the state itself does not drift
    written = device.program(None, older, jnp.full(3, 10e-6))
    np.testing.assert_allclose(device.conductance(written, 2 * t_0), 2**-0.1 * 10e-6, rtol=1e-9)
    np.testing.assert_allclose(device.conductance(device.wait(None, written, 2 * t_0)), 2**-0.1 * 10e-6, rtol=1e-9)


@record
class NeverYoung(SoftBounds):
    """Pulses do not restart the clock."""

    def _touched(self, key, cells, counts, x):
        age = (cells.state or {}).get("age", 0.0)
        after = super()._touched(key, cells, counts, x)
        return after.replace(state=after.state | {"age": age + jnp.zeros_like(x)})


@record
class AllYoung(SoftBounds):
    """Pulses restart the clocks of all cells."""

    def _touched(self, key, cells, counts, x):
        after = super()._touched(key, cells, counts, x)
        return after.replace(state=after.state | {"age": jnp.zeros_like(x)})


@pytest.mark.parametrize("t_0", [1.0, 20.0])
def test_drift(t_0, x64):
    drift = Drift(nu=0.1, t_0=t_0)
    drifts(SoftBounds(drift=drift))
    for wrong in (
        NeverYoung(drift=drift),
        AllYoung(drift=drift),
        SoftBounds(drift=Drift(nu=-0.1, t_0=t_0)),
        SoftBounds(drift=Drift(nu=0.101, t_0=t_0)),
        SoftBounds(drift=Drift(nu=0.1, nu_slope=0.01, t_0=t_0)),
    ):
        with pytest.raises(AssertionError):
            drifts(wrong)


def test_drift_exponent_of_each_cell_and_of_its_state(x64):
    """The exponent nu (1 + nu_d2d xi) - nu_slope ln(g / g_max)."""
    device = SoftBounds(drift=Drift(nu=0.1, nu_d2d=0.3, nu_slope=0.02))
    cells = cells_at(device, [0.0, 0.0, -0.5], drift=[0.0, 1.5, -1.0])
    wanted = 7 ** -(0.1 * (1 + 0.3 * np.asarray([0, 1.5, -1])) - 0.02 * np.log([0.5, 0.5, 0.25]))
    np.testing.assert_allclose(device.conductance(cells, 7.0) / device.conductance(cells), wanted, rtol=1e-9)


def test_exponents_that_change_from_read_to_read_are_read_noise(x64):
    """By hand g nu_noise |nu (1 + nu_d2d xi)| ln(t / t_0), with that of the curve; none before t_0."""
    drift = Drift(nu=-0.1, nu_d2d=0.3, nu_slope=0.02, nu_noise=0.2, t_0=2.0)
    device = SoftBounds(drift=drift, read_curve=Polynomial(coefficients=(1e-7,)))
    cells = device.wait(None, cells_at(device, [0.0, 0.0], drift=[0.0, 1.5]), 6.0)
    g = device.conductance(cells, 8.0)
    wanted = np.hypot(1e-7, g * 0.2 * np.asarray([0.1, 0.145]) * np.log(7.0))
    np.testing.assert_allclose(device.read_noise(cells, 8.0), wanted, rtol=1e-9)
    early = cells_at(device, [0.3, 0.3])
    np.testing.assert_allclose(device.read_noise(early, 1.9), 1e-7, rtol=1e-9)
    silent = device.replace(read_curve=None)
    slope = jax.grad(lambda t: silent.read_noise(early, t).sum())
    assert slope(1.0) == 0
    assert slope(3.0) > 0


def wears(device):
    """High bound (N / N_0)**-0.1, low bound (N / N_0)**-0.2, beyond N_0 = 100 at 300 K."""
    for n, factor in ((50, 1.0), (100, 1.0), (800, 8.0)):
        cells = cells_at(device, [0.0, 0.0])
        half = device.pulse(None, cells, jnp.asarray([1.0, -1.0]) * n)  # worn where pulsed only
        ends = device.state(device.pulse(None, half, jnp.asarray([0.0, 0.0])))
        np.testing.assert_allclose(half.state["cycles"], n)
        np.testing.assert_allclose(ends, [0.8 * factor**-0.1, -0.9 * factor**-0.2], rtol=1e-9)


def test_endurance(x64, key):
    wear = Endurance(cycles=100.0, high_exponent=0.1, low_exponent=0.2)
    device = ConstantStep(dx=0.1, x_max=0.8, x_min=-0.9, endurance=wear)
    wears(device)
    for wrong in ({"cycles": 101.0}, {"high_exponent": 0.2}, {"low_exponent": 0.1}):
        with pytest.raises(AssertionError):
            wears(device.replace(endurance=wear.replace(**wrong)))
    # heat lowers the threshold
    hot = wear.replace(thermal=Arrhenius(activation=0.2, temperature=350.0))
    cells = device.pulse(None, cells_at(device, [0.0]), 400)
    threshold = 100 * float(hot.thermal.stretch)
    assert threshold < 40
    high = device.replace(endurance=hot).realise(cells)["high"]
    np.testing.assert_allclose(high, 0.8 * (400 / threshold) ** -0.1, rtol=1e-9)
    # cells that rest do not wear; programming does not heal
    rested = device.pulse(None, cells, 0)
    np.testing.assert_array_equal(rested.state["cycles"], cells.state["cycles"])
    again = device.program(key, cells, jnp.full(1, 25e-6))
    np.testing.assert_allclose(device.state(again), 0.8 * 4**-0.1, rtol=1e-9)
    np.testing.assert_allclose(device.pulse(None, again, 400).state["cycles"], 800)


def fails(device):
    """Before and after the 100 exp(0.5 xi) pulses of their lives: stuck for good, whatever is done."""
    cells = cells_at(device, np.full(4, 0.1), failure=[0.0, 0.0, 0.2, -2.0])
    cells = device.pulse(None, cells, jnp.asarray([99.0, -100.0, 100.0, 36.0]))
    lives = [True, False, True, True]  # 100 exp(0.1) = 110.5; 100 exp(-1) = 36.79
    assert ((device.state(cells) == 0.3) != np.asarray(lives)).all()
    cells = device.pulse(None, cells, 1.0)
    lives = np.asarray([False, False, True, False])
    for after in (
        cells,
        device.pulse(None, cells, -4.0),
        device.wait(None, cells, 3.0),
        device.reset(None, cells),
        device.program(None, cells, jnp.full(4, 5e-6)),
    ):
        np.testing.assert_array_equal(device.state(after, 2.0) == 0.3, ~lives)
    np.testing.assert_array_equal(device.step(cells, -1) == 0, ~lives)


def failing(kind):
    wear = Endurance(failure=100.0, failure_d2d=0.5, stuck=0.3)
    return make(kind, endurance=wear, leak=Leak(lifetime=10.0), rest=0.1)


@pytest.mark.parametrize("wrong", [{"failure": 101.5}, {"failure_d2d": 0.4}, {"failure_d2d": None}, {"stuck": 0.2}])
def test_wrong_failures_are_rejected(wrong, x64):
    with pytest.raises(AssertionError):
        fails(failing("constant").replace(**{f"endurance.{name}": value for name, value in wrong.items()}))


@pytest.mark.parametrize(
    "kind", [k if k in ("soft", "exp") else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_sudden_failure(kind, x64, key):
    device = failing(kind)
    fails(device)
    if kind == "exp":  # steps that grow with the state
        device = device.replace(a_up=-1.18, gamma_up=5.0)
    noisy = device.replace(**noise(kind), **{"endurance.stuck": -0.2})
    cells = noisy.pulse(key, noisy.fabricate(key, (9,)), 1e4)

    def end(device, counts):
        return device.state(device.pulse(key, cells, counts)).sum()

    value, slopes = jax.value_and_grad(end, (0, 1))(noisy, jnp.full(9, -7.0))
    np.testing.assert_allclose(value, -1.8)
    np.testing.assert_allclose(slopes[0].endurance.stuck, 9.0)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(slopes))


def test_wear_of_both_kinds_and_heat(x64):
    wear = Endurance(cycles=100.0, failure=1000.0, stuck=0.0, thermal=Arrhenius(activation=0.2, temperature=350.0))
    stretch = float(wear.thermal.stretch)
    device = ConstantStep(dx=0.1, endurance=wear)
    for n, wanted in ((500, (500 / 100) ** -0.1), (1001, 0.0)):
        high = device.realise(device.pulse(None, cells_at(device, [0.0]), n * stretch))["high"]
        np.testing.assert_allclose(high, wanted, rtol=1e-9)


def test_references_do_not_wear(x64):
    """A reference set to a cell's symmetry point, 0.2 / 2, stays there when the cell wears out."""
    wear = Endurance(failure=10.0, stuck=-0.5)
    device = SoftBounds(dx=0.01, up_down=0.1, reference=Reference(symmetry=True), endurance=wear)
    np.testing.assert_allclose(device.state(device.pulse(None, cells_at(device, [0.0]), 20.0)), -0.6, rtol=1e-9)


def test_reset(x64, key):
    device = make("linear", rest=0.1, rest_d2d=0.02, x_max=0.11, **{k: v for k, v in FULL.items() if k != "rest"})
    cells = cells_at(device, [-0.5, -0.5, -0.5, -0.5], rest=[0.0, -1.0, 3.0, 0.0])
    erased = device.reset(None, cells, jnp.asarray([True, True, True, False]))
    np.testing.assert_allclose(erased.state["x"], [0.1, 0.08, 0.11, -0.5], rtol=1e-9)
    np.testing.assert_allclose(device.reset(None, cells).state["x"], [0.1, 0.08, 0.11, 0.1], rtol=1e-9)


def test_another_spec_takes_the_cells_as_they_are(key):
    plain = ConstantStep(dx=0.01)
    cells = plain.pulse(key, plain.fabricate(key, (3,)), jnp.asarray([5.0, 0.0, -5.0]))
    full = plain.replace(drift=Drift(nu=0.1), endurance=Endurance(cycles=3.0), reference=Reference(mean=0.01), **FULL)
    np.testing.assert_allclose(full.state(cells), plain.state(cells) - 0.01, atol=1e-7)
    for after in (full.pulse(key, cells, 1.0), full.wait(key, cells, 5.0), full.reset(key, cells)):
        assert jnp.isfinite(full.conductance(after, 2.0)).all()
        assert set(after.state) == {"x", "age", "cycles"}
