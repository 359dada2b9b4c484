"""Step-response devices in use: conductances and targets, transformations, random keys, a user's own device, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pulsers import JUMPS, KINDS, SPREAD, TABLE, Tanh, cells_at, make, noise

from anajax.devices import (
    Arrhenius,
    Cells,
    ConstantStep,
    Drift,
    Endurance,
    ExpStep,
    Leak,
    LinearStep,
    NeuroSim,
    PiecewiseStep,
    Polynomial,
    PowStep,
    Reference,
    SoftBounds,
    SoftBoundsPmax,
    StepResponse,
    TableStep,
)

EVERYTHING = {
    "write_noise": 2.0,
    "rest": 0.1,
    "rest_d2d": 0.02,
    "reset_noise": 0.01,
    "reference": Reference(mean=0.05, spread=0.1, symmetry=True),
    "leak": Leak(lifetime=10.0, lifetime_d2d=0.2, diffusion=0.01, diffusion_d2d=0.2),
    "drift": Drift(nu=0.05, nu_d2d=0.3, nu_slope=0.01, nu_noise=0.1),
    "endurance": Endurance(cycles=5.0),
    "read_curve": Polynomial(coefficients=(1e-7, 1e-6)),
    "g_min": 5e-6,
}
COUNTS = jnp.asarray([3.0, -2.0, 0.0, 5.0])


def equipped(kind, **more):
    return make(kind, **SPREAD | noise(kind) | EVERYTHING | more)


def life(device, key, counts=COUNTS):
    """All that can happen to cells, and what is seen of them."""
    made, pulsed, waited, erased = (None,) * 4 if key is None else jax.random.split(key, 4)
    cells = device.pulse(pulsed, device.fabricate(made, (4,)), counts)
    older = device.wait(waited, cells, 3.0)
    erased = device.reset(erased, older, jnp.arange(4) < 2)
    written = device.program(pulsed, cells, device.g_min + device.window * jnp.linspace(0.1, 0.9, 4))
    seen = [device.conductance(c, 2.0) for c in (cells, older, erased, written)]
    return cells, older, erased, written, seen, device.read_noise(cells, 2.0) * 1e6, device.symmetry_point(cells)


def same(a, b, rtol=0.0, atol=0.0):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, atol), a, b)


# -- conductance and target ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [-1.0, -0.6])
def test_the_window_is_that_of_the_mean_cell(low):
    device = ConstantStep(x_min=low, x_max=1.4, g_min=5e-6, g_max=25e-6, x_max_d2d=0.3, x_min_d2d=0.3)
    x = jnp.asarray([low, (low + 1.4) / 2, 1.4, 1.4 * 1.3, 2 * low])
    g = device.conductance(cells_at(device, x, x_max=np.ones(5), x_min=np.full(5, 5.0)))
    wanted = [5e-6, 15e-6, 25e-6, 5e-6 + 20e-6 * (1.82 - low) / (1.4 - low), max(5e-6 + 20e-6 * low / (1.4 - low), 0)]
    np.testing.assert_allclose(g, wanted, rtol=1e-5, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_program_reaches_what_the_cell_can_hold(kind, key):
    """Within the cell's own bounds, against its own reference; and pulses go on from there."""
    reference = Reference(mean=0.05, spread=0.02, symmetry=True)
    device = make(kind, g_min=5e-6, reference=reference, **SPREAD)
    target = device.g_min + device.window * jnp.linspace(0.0, 1.0, 50)
    cells = device.program(key, device.fabricate(key, (50,)), target)
    c, away = device.realise(cells), device._reference(cells)
    low, high = (
        jnp.maximum(device.g_min + device.window * (c[n] - away - device.x_min) / (device.x_max - device.x_min), 0.0)
        for n in ("low", "high")
    )
    g = device.conductance(cells)
    np.testing.assert_allclose(g, jnp.clip(target, low, high), rtol=3e-6)
    assert (jnp.abs(g - target) < 1e-11).sum() >= 10
    assert (jnp.abs(g - target) > 1e-8).any()
    x = (target - device.g_min) / device.window * (device.x_max - device.x_min) + device.x_min + away
    direct = device.at(cells, jnp.clip(x, c["low"], c["high"]))
    for n in (3.0, -3.0):
        same(device.pulse(None, cells, n).state["x"], device.pulse(None, direct, n).state["x"], atol=1e-6)
    np.testing.assert_allclose(device.wait(None, cells, 1.0).state["x"], direct.state["x"], atol=1e-6)


def test_time_since_the_last_touch_may_be_given_or_waited(key):
    device = SoftBounds(drift=Drift(nu=0.1, nu_d2d=0.3, t_0=3.0), read_curve=Polynomial(coefficients=(0.0, 1e-6)))
    cells = device.pulse(None, device.fabricate(key, (5,)), 100)
    for time in (1.0, 10.0, 1e5):
        same(device.conductance(cells, time), device.conductance(device.wait(None, cells, time)), rtol=1e-6)
        same(device.conductance(cells, time + 7.0), device.conductance(device.wait(None, cells, 7.0), time), rtol=1e-6)
        relative = device.read_noise(cells, time) / device.conductance(cells, time)
        np.testing.assert_allclose(relative, 1e-6 / 25e-6, rtol=1e-6)
    steady = device.replace(drift=None)
    same(steady.conductance(cells, 1e9), steady.conductance(cells))


@pytest.mark.parametrize("kind", KINDS)
def test_programming_noise_is_in_siemens(kind, key):
    """`write_noise` steps of the state, on the scale of the window."""
    device = make(kind, write_noise=0.5, g_min=5e-6)
    cells = device.program(key, device.fabricate(key, (1000,)), jnp.full(1000, 15e-6))
    deviation = (device.conductance(cells) - 15e-6) / cells.scores["write"]
    wanted = 0.5 * device.dx * 20e-6 / (device.x_max - device.x_min)
    np.testing.assert_allclose(device.programming_noise(jnp.zeros(3)), jnp.full(3, wanted), rtol=1e-6)
    big = jnp.abs(cells.scores["write"]) > 1.0
    inside = big & (device.conductance(cells) > 0)
    assert inside.sum() > 100
    np.testing.assert_allclose(deviation[inside], wanted, rtol=2e-3)
    assert (make(kind).programming_noise(jnp.ones(3)) == 0).all()


# -- transformations and keys ----------------------------------------------------------------------------------------


compiled = jax.jit(life)
by_chips = jax.jit(jax.vmap(life, (None, 0, 0)))
# one kind for each path through the code; the others take the same ones
PATHS = [k if k == "linear" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]


@pytest.mark.parametrize("kind", PATHS)
def test_jit_is_eager_and_vmap_is_a_loop(kind, key):
    """A key has its bits; compiled or not; chips by `vmap` are chips one by one."""
    device, keys = equipped(kind), jax.random.split(key, 2)
    counts = jnp.stack([COUNTS, 3 * COUNTS])
    first, second = (compiled(device, k, n) for k, n in zip(keys, counts, strict=True))
    same(compiled(device, keys[0], COUNTS), first)
    assert (first[0].state["x"] != compiled(device, keys[1], COUNTS)[0].state["x"])[COUNTS != 0].all()
    chips = by_chips(device, keys, counts)
    same(jax.tree.map(lambda a: a[0], chips), first, rtol=1e-4, atol=2e-6)
    same(jax.tree.map(lambda a: a[1], chips), second, rtol=1e-4, atol=2e-6)
    same(life(device, keys[0]), first, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", PATHS)
def test_no_key_is_the_mean_cell_without_noise(kind):
    full = equipped(kind)
    quiet = {"up_std": None, "down_std": None} if kind == "table" else {"c2c": None}
    mean = compiled(full, None)
    assert all((score == 0).all() for cells in mean[:4] for score in cells.scores.values())
    silent = compiled(full.replace(write_noise=None, reset_noise=None, **{"leak.diffusion": None}, **quiet), None)
    same([c.state for c in mean[:3]], [c.state for c in silent[:3]], atol=1e-6)
    same(mean[4], silent[4], rtol=1e-6)


@pytest.mark.parametrize("kind", ["soft", "neurosim", "exp"])
def test_without_a_key_touched_cells_lose_their_write_noise(kind, key):
    device = make(kind, write_noise=3.0)
    cells = device.pulse(key, device.fabricate(key, (4,)), 2.0)
    assert (cells.scores["write"] != 0).all()
    for after in (
        device.pulse(None, cells, jnp.asarray([1.0, 0, 0, -1])),
        device.reset(None, cells, jnp.arange(4) % 3 == 0),
    ):
        np.testing.assert_array_equal(after.scores["write"], cells.scores["write"] * jnp.asarray([0, 1, 1, 0]))


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_of_a_cell_does_not_depend_on_the_counts_of_others(kind, single, key):
    """The loop runs to the busiest cell, and that is no cell's business but its own."""
    if single and kind not in JUMPS:
        pytest.skip("goes one by one already")
    device = make(kind, **noise(kind), **({"one_by_one": single} if kind in JUMPS else {}))
    cells = device.at(device.fabricate(None, (6,)), jnp.full(6, 0.4))
    run = jax.jit(lambda counts: device.pulse(key, cells, counts).state["x"])
    alone, among = run(jnp.asarray([3.0, -2, 1, 0, 0, 0])), run(jnp.asarray([3.0, -2, 1, 70, -50, 4]))
    np.testing.assert_array_equal(alone[:3], among[:3])
    assert (alone[:3] != 0.4).all()
    np.testing.assert_array_equal(alone[3:], cells.state["x"][3:])


def test_each_pulse_and_each_cell_has_noise_of_its_own(key):
    device = ConstantStep(dx=0.01, c2c=0.3, one_by_one=True)
    cells = device.fabricate(None, (4,))
    path = jnp.stack([device.pulse(key, cells, n).state["x"] for n in (0.0, 1.0, 2.0, 3.0)])
    steps = jnp.diff(path, axis=0)
    assert len(np.unique(np.asarray(steps).round(7))) == steps.size


def test_counts_are_broadcast_to_the_cells(key):
    device = SoftBounds(dx=0.01, c2c=0.3)
    cells = device.fabricate(key, (2, 3))
    same(device.pulse(key, cells, 4), device.pulse(key, cells, jnp.full((2, 3), 4.0)))
    same(device.pulse(key, cells, np.asarray([1, 2, 0])), device.pulse(key, cells, jnp.asarray([[1.0, 2, 0]] * 2)))


@pytest.mark.parametrize("kind", PATHS)
def test_pulses_in_a_scan_find_what_they_leave(kind, key):
    device = equipped(kind)

    def call(cells, key):
        cells = device.reset(key, device.wait(key, device.pulse(key, cells, COUNTS), 1.0), jnp.arange(4) < 1)
        return cells, device.conductance(cells)

    for cells in (device.fabricate(key, (4,)), device.fabricate(None, (4,))):
        assert jnp.isfinite(jax.lax.scan(call, cells, jax.random.split(key, 3))[1]).all()


def test_sweeps_of_fields_and_populations_of_parameters(key):
    """A field with a value for each cell, and `vmap` over a field."""
    sizes = jnp.asarray([0.01, 0.02, 0.03, 0.04])
    device = SoftBounds(dx=sizes, c2c=0.1)
    np.testing.assert_allclose(device.pulse(None, device.fabricate(None, (4,)), 1.0).state["x"], sizes, rtol=1e-6)
    one = SoftBounds(dx=0.01)
    swept = jax.vmap(lambda dx: one.replace(dx=dx).pulse(None, one.fabricate(None, ()), 2.0).state["x"])(sizes)
    np.testing.assert_allclose(swept, 1 - (1 - sizes) ** 2, rtol=1e-5)


# -- a device of the user's own --------------------------------------------------------------------------------------


def test_a_device_of_ten_lines(key):
    device = Tanh(dx=0.01, up_down=0.1, c2c=0.3)
    x = device.pulse(None, device.fabricate(None, (2,)), jnp.asarray([1, -1])).state["x"]
    np.testing.assert_allclose(x, [0.011, -0.009], rtol=1e-5)
    # steps cancel where (1.1) (1 - tanh x) = (0.9) (1 + tanh x)
    np.testing.assert_allclose(device.symmetry_point(device.fabricate(None, (1,))), np.arctanh(0.1), rtol=1e-5)
    ends = jax.vmap(lambda k: device.pulse(k, device.fabricate(None, (3,)), 50).state["x"])(jax.random.split(key, 5))
    assert ends.shape == (5, 3)
    assert len(np.unique(ends)) == 15

    def end(device, counts):
        return device.state(device.pulse(key, device.fabricate(None, (3,)), counts)).sum()

    slope = jax.grad(end, (0, 1))(device, jnp.full(3, 40.5))
    assert all(float(jnp.abs(s).max()) > 0 for s in (slope[0].steep, slope[0].dx, slope[0].c2c, slope[1]))
    quiet = device.replace(c2c=None)
    assert jnp.allclose(quiet.step(quiet.fabricate(None, (1,)), 1), 0.011)


# -- errors ----------------------------------------------------------------------------------------------------------


def virgin(device=None, shape=(3,)):
    device = device or ConstantStep()
    return device, device.fabricate(None, shape)


def pulse(counts):
    device, cells = virgin()
    return device.pulse(None, cells, counts)


def wait(seconds):
    device, cells = virgin()
    return device.wait(None, cells, seconds)


NOTHING = Cells(scores={})
SPREADS = ["x_min_d2d", "x_max_d2d", "dx_d2d", "up_down_d2d", "rest_d2d", "c2c", "write_noise", "reset_noise"]


@pytest.mark.parametrize(
    ("make", "field", "value", "allowed"),
    [
        (lambda: pulse(jnp.asarray([1.0, jnp.nan, 2.0])), "counts", "nan in 1 of 3", "finite"),
        (lambda: pulse(jnp.asarray([1.0, jnp.inf, 2.0])), "counts", "inf in 1 of 3", "finite"),
        (lambda: wait(-1.0), "seconds", "-1", "at least 0"),
        (lambda: wait(float("nan")), "seconds", "nan", "at least 0"),
        (lambda: SoftBounds(x_min=0.0), "SoftBounds.x_min", "0.0", "less than 0"),
        (lambda: LinearStep(x_min=[-1.0, 0.0]), "LinearStep.x_min", "[-1.  0.]", "less than 0"),
        (lambda: ConstantStep(x_min=0.5), "ConstantStep.x_min", "0.5", "at most 0"),
        (lambda: ConstantStep(x_max=0.0), "ConstantStep.x_max", "got 0", "greater than 0"),
        (lambda: ConstantStep(dx=0.0), "ConstantStep.dx", "got 0", "greater than 0"),
        (lambda: ConstantStep(up_down=1.5), "ConstantStep.up_down", "1.5", "at most 1"),
        (lambda: LinearStep(gamma_d2d=-0.1), "LinearStep.gamma_d2d", "-0.1", "at least 0"),
        (lambda: LinearStep(noise="both"), "LinearStep.noise", "'both'", "'multiplicative', 'additive'"),
        (lambda: LinearStep(slope_at="low"), "LinearStep.slope_at", "'low'", "'mean', 'own'"),
        (lambda: SoftBounds(one_by_one="no"), "SoftBounds.one_by_one", "'no'", "None, False, True"),
        (lambda: ExpStep(dx_law="uniform"), "ExpStep.dx_law", "'uniform'", "'normal', 'lognormal'"),
        (lambda: NeuroSim(noise="multiplicative"), "NeuroSim.noise", "'multiplicative'", "'additive'"),
        (lambda: NeuroSim(nl_up=11.0), "NeuroSim.nl_up", "11", "at most 10"),
        (lambda: NeuroSim(nl_down=-10.5), "NeuroSim.nl_down", "-10.5", "at least -10"),
        (lambda: SoftBoundsPmax(p_max=0), "SoftBoundsPmax.p_max", "got 0", "greater than 0"),
        (lambda: PowStep(gamma=-1.0), "PowStep.gamma", "-1", "at least 0"),
        (
            lambda: TableStep(**TABLE | {"up_mean": [0.1, 0.1]}),
            "TableStep.up_mean",
            "got (2,)",
            "shape of TableStep.x, (5,)",
        ),
        (lambda: TableStep(**TABLE | {"up_std": [0.1]}), "TableStep.up_std", "got (1,)", "shape of TableStep.x, (5,)"),
        (lambda: TableStep(**TABLE | {"x": TABLE["x"][::-1]}), "TableStep.x", "-1. ", "ascend"),
        (lambda: PiecewiseStep(nodes_up=[1.0], nodes_down=[1.0, 1.0]), "PiecewiseStep.nodes_up", "(1,)", "n >= 2"),
        (lambda: PiecewiseStep(nodes_up=[1.0, -1.0], nodes_down=[1.0, 1.0]), "nodes_up", "-1", "at least 0"),
        (lambda: Reference(spread=-0.1), "Reference.spread", "-0.1", "at least 0"),
        (lambda: Reference(symmetry=1.5), "Reference.symmetry", "1.5", "False, True"),
        (lambda: Arrhenius(activation=0.6, temperature=0.0), "Arrhenius.temperature", "got 0", "greater than 0"),
        (lambda: Leak(lifetime=0.0), "Leak.lifetime", "got 0", "greater than 0"),
        (lambda: Leak(diffusion=-1.0), "Leak.diffusion", "-1", "at least 0"),
        (lambda: Drift(nu=0.1, t_0=0.0), "Drift.t_0", "got 0", "greater than 0"),
        (lambda: Drift(nu=0.1, nu_noise=-0.1), "Drift.nu_noise", "-0.1", "at least 0"),
        (lambda: Endurance(cycles=0.0), "Endurance.cycles", "got 0", "greater than 0"),
        (lambda: Endurance(failure=9.0), "Endurance.failure", "stuck=None", "given together"),
        (lambda: Endurance(failure_d2d=0.5), "Endurance.cycles or Endurance.failure", "None", "must be given"),
        (lambda: ConstantStep().conductance(NOTHING), "state", "target", "device.fabricate"),
        *[
            (lambda name=name: ConstantStep(**{name: -0.1}), f"ConstantStep.{name}", "-0.1", "at least 0")
            for name in SPREADS
        ],
    ],
)
def test_impossible_settings_are_refused(make, field, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the message is what is tested)
        make()
    for part in (field, value, allowed):
        assert part in str(error.value)


def test_what_is_no_field_or_no_number_is_refused():
    with pytest.raises(TypeError, match="dx"):
        SoftBoundsPmax(dx=0.1)
    with pytest.raises(TypeError, match=r"TableStep.*c2c"):
        TableStep(**TABLE, c2c=0.1)
    with pytest.raises(TypeError, match="counts must be a real number"):
        pulse("many")
    with pytest.raises(NotImplementedError, match=r"has no response\(\)"):
        StepResponse().step(StepResponse().fabricate(None, (2,)), 1.0)
