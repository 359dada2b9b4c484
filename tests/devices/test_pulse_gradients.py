"""Derivatives of everything a step-response device does, by everything that it depends on, against differences."""

import jax
import jax.numpy as jnp
import pytest
from pulsers import JUMPS, KINDS, make, noise

from anajax.devices import Arrhenius, Cells, Drift, Endurance, Leak, Polynomial, Reference, SoftBounds, record
from anajax.testing import check_gradients

FULL = {
    "up_down": 0.1,
    "x_min_d2d": 0.3,
    "x_max_d2d": 0.3,
    "dx_d2d": 0.2,
    "up_down_d2d": 0.05,
    "write_noise": 2.0,
    "rest": 0.1,
    "rest_d2d": 0.02,
    "reset_noise": 0.01,
    "reference": Reference(mean=0.05, spread=0.1, symmetry=True),
    "leak": Leak(
        lifetime=10.0,
        lifetime_d2d=0.2,
        diffusion=0.01,
        diffusion_d2d=0.2,
        thermal=Arrhenius(activation=0.3, temperature=310.0),
    ),
    "drift": Drift(nu=0.05, nu_d2d=0.3, nu_slope=0.01, nu_noise=0.1, t_0=1.0),
    "endurance": Endurance(
        cycles=5.0, high_exponent=0.2, low_exponent=0.3, thermal=Arrhenius(activation=0.2, temperature=310.0)
    ),
    "read_curve": Polynomial(coefficients=(1e-7, 1e-6)),
    "g_min": 5e-6,
}
COUNTS = jnp.asarray([2.6, -3.3, 4.4, -0.7])


def full(kind, **more):
    """A device with all optional parts, whose references keep all cells inside the window."""
    settings = {**FULL, **noise(kind), **more}
    if kind == "neurosim":
        settings |= {"rest": 0.6, "reference": Reference(mean=-0.35, spread=0.1, symmetry=True)}
    if kind in ("pmax", "neurosim"):
        del settings["up_down"]
    if kind != "neurosim":
        settings["x_min"] = -0.9
    if kind == "exp":
        settings |= {"c2c_floor": 0.01, "c2c_slope": 0.05}
    return make(kind, **settings)


def scores(device):
    """Interior scores, each cell and each name its own."""
    names = (*device.life_scores, *device.program_scores)
    base = jnp.asarray([0.31, -0.62, 0.47, -0.23])
    return {name: jnp.roll(base, k) * (1 - 0.05 * k) for k, name in enumerate(names)}


def state(device):
    x = jnp.asarray([0.13, 0.32, -0.27, 0.21]) + (0.4 if device.x_min == 0 else 0.0)
    return {"x": x, "age": jnp.asarray([2.0, 3.0, 1.5, 4.0]), "cycles": jnp.asarray([20.0, 30.0, 60.0, 15.0])}


def everything(key, device, scores, state, counts, share, seconds):
    """All that is seen of cells that were pulsed, waited, reset, programmed: numbers of order one."""
    k = jax.random.split(key, 5)
    cells = Cells(scores=scores, state=state)
    after = device.pulse(k[0], cells, counts)
    older = device.wait(k[1], after, seconds)
    erased = device.reset(k[2], older, jnp.asarray([True, False, True, False]))
    written = device.program(k[3], cells, device.g_min + device.window * share)
    again = device.pulse(k[4], written, counts * jnp.asarray([-0.8, 0.0, 0.0, 0.8]))
    seen = [device.conductance(c, 1.3 * seconds) / 25e-6 for c in (cells, after, older, erased, written, again)]
    steps = [device.step(after, way) for way in (1.0, -1.0)]
    return seen, steps, device.read_noise(after, seconds) * 1e6, device.symmetry_point(after)


def check(device, key):
    share, seconds = jnp.asarray([0.42, 0.97, 0.03, 0.58]), 2.3  # two of them beyond what worn cells can hold
    arguments = (device, scores(device), state(device), COUNTS, share, seconds)
    return check_gradients(lambda *a: everything(key, *a), *arguments, tolerance=3e-5)


#: what has no effect: the lower bound of NeuroSim is zero, whatever its spread; constant steps, more up than down, have
#: their symmetry point and with it all that is programmed at the upper bound
LOWER = {"0.endurance.low_exponent", "0.x_min_d2d", "1.x_min"}
FLAT = {"neurosim": LOWER, "constant": LOWER}
# one kind for each path through the code; the others take minutes together
PATHS = [k if k == "soft" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]


@pytest.mark.parametrize("kind", PATHS)
def test_gradients(kind, key):
    """By every float field, score, state, count, target and time; and none of them is without effect."""
    slopes = check(full(kind, **({"one_by_one": False} if kind in JUMPS else {})), key)
    flat = {name for name, slope in slopes.items() if slope == 0}
    assert flat == FLAT.get(kind, set()), f"without effect: {sorted(flat)}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "neurosim"])
def test_gradients_of_lines_one_by_one(kind, key):
    check(full(kind, one_by_one=True), key)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("linear", {"noise": "additive"}),
        ("growing", {"noise": "additive", "slope_at": "mean"}),
        ("soft", {"noise": "additive", "dx_law": "lognormal"}),
        ("linear", {"noise": "root", "one_by_one": False}),
    ],
)
def test_gradients_of_other_laws(kind, more, key):
    check(full(kind, **more), key)


@record
class Blind(SoftBounds):
    """A device whose noise has no derivative."""

    def spread(self, cell, x, change, up):
        return jax.lax.stop_gradient(super().spread(cell, x, change, up))


def test_wrong_gradients_are_rejected(key):
    device = Blind(dx=0.03, c2c=0.3, one_by_one=True)
    cells = {"x": jnp.asarray([0.1, 0.3])}

    def end(device, state, counts):
        return device.state(device.pulse(key, Cells(scores={}, state=state), counts))

    check_gradients(end, SoftBounds(dx=0.03, c2c=0.3, one_by_one=True), cells, jnp.asarray([1.4, -1.7]))
    with pytest.raises(AssertionError, match=r"0\.c2c"):
        check_gradients(end, device, cells, jnp.asarray([1.4, -1.7]))


def test_gradients_by_counts_of_cells_that_rest_are_finite(key):
    device = full("soft", one_by_one=True)
    cells = Cells(scores=scores(device), state=state(device))

    def end(counts):
        return device.conductance(device.pulse(key, cells, counts), 1.0).sum() / device.g_max

    slope = jax.jit(jax.grad(end))(jnp.asarray([0.0, 1.0, -2.0, 0.0]))
    assert jnp.isfinite(slope).all()
    assert (slope[1:3] != 0).all()
