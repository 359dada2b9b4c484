"""Populations of step-response devices: what spreads from device to device, and that wide spreads stay physical.

With fixed keys a test always passes or always fails; a right model fails a z-test for 7e-6 of the keys, a test of
its distribution for 1e-5. Falsified twins, such as a spread x 1.1, must not pass.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pulsers import KINDS, TABLE, make, noise

from anajax.devices import ConstantStep, ExpStep, LinearStep, Reference, SoftBounds, record
from anajax.testing import check_distribution, check_moments

N = 40_000
normal = jax.scipy.stats.norm.cdf


def population(device, key):
    """Steps ~ normal of 20 %, asymmetry 0.1 +- 0.05, each apart; bounds ~ folded normal of 60 % and 10 %."""
    cells = device.fabricate(key, (N,))
    c = device.realise(cells)
    gain, skew = (c["up"] + c["down"]) / 2, (c["up"] - c["down"]) / 2
    check_moments(gain, 0.01, 0.002, name="gain")
    check_distribution(gain, lambda x: normal(x, 0.01, 0.002), name="gain")
    check_moments(skew, 0.001, 0.0005, name="asymmetry")
    check_moments((gain / 0.01 - 1) / 0.2 * (skew / 0.01 - 0.1) / 0.05, 0.0, 1.0, name="product of gain and asymmetry")
    check_distribution(c["high"], lambda x: normal(x, 1.4, 0.84) - normal(-x, 1.4, 0.84), name="upper bound")
    check_distribution(-c["low"], lambda x: normal(x, 0.7, 0.07), name="lower bound")
    check_moments((c["high"] - 1.4) / 0.84 * (c["low"] + 0.7) / -0.07 * (c["high"] < 1.3), 0.0, 0.52, z=20)
    assert float(c["high"].min()) >= 0


POPULATION = {"dx": 0.01, "up_down": 0.1, "x_max": 1.4, "x_min": -0.7, "dx_d2d": 0.2, "up_down_d2d": 0.05}
POPULATION |= {"x_max_d2d": 0.6, "x_min_d2d": 0.1}


@record
class Unfolded(SoftBounds):
    def realise(self, cells):
        return super().realise(cells) | {"high": self.x_max * (1 + self.x_max_d2d * cells.score("x_max"))}


@record
class OneScore(SoftBounds):
    """Gain and asymmetry drawn as one."""

    def fabricate(self, key, shape):
        cells = super().fabricate(key, shape)
        return cells.replace(scores=cells.scores | {"up_down": cells.scores["dx"]})


@pytest.mark.parametrize("law", [SoftBounds, ConstantStep, LinearStep, ExpStep])
def test_population(law, key):
    population(law(**POPULATION), key)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SoftBounds(**POPULATION | {"dx_d2d": 0.22}),
        lambda: SoftBounds(**POPULATION | {"up_down_d2d": 0.055}),
        lambda: SoftBounds(**POPULATION | {"x_max_d2d": 0.66}),
        lambda: SoftBounds(**POPULATION | {"x_min_d2d": 0.11}),
        lambda: SoftBounds(**POPULATION | {"up_down": -0.1}),
        lambda: SoftBounds(**POPULATION | {"dx_law": "lognormal"}),
        lambda: Unfolded(**POPULATION),
        lambda: OneScore(**POPULATION),
    ],
)
def test_wrong_populations_are_rejected(wrong, key):
    with pytest.raises(AssertionError):
        population(wrong(), key)


def test_lognormal_steps_have_the_nominal_median(key):
    """ln(up / dx) ~ N(0, 0.78); and not the nominal mean."""
    device = SoftBounds(dx=0.01, dx_law="lognormal", dx_d2d=0.78)
    up = device.realise(device.fabricate(key, (N,)))["up"]
    check_distribution(jnp.log(up / 0.01) / 0.78, normal)
    check_moments(jnp.log(up / 0.01), 0.0, 0.78)
    check_moments(up, 0.01 * math.exp(0.78**2 / 2), 0.01 * math.sqrt(math.expm1(0.78**2)) * math.exp(0.78**2 / 2))
    with pytest.raises(AssertionError):
        check_moments(jnp.log(up / 0.01) - 0.78**2 / 2, 0.0, 0.78)


def test_slopes_exponents_and_labels_spread_apart(key):
    line = make("linear", gamma_d2d=0.05)
    c = line.realise(line.fabricate(key, (N,)))
    check_moments(c["bend_up"], 0.5, 0.05)
    check_moments(-c["bend_down"], 0.3, 0.05)
    check_moments((c["bend_up"] - 0.5) * (-c["bend_down"] - 0.3) / 0.05**2, 0.0, 1.0)
    power = make("pow", gamma_d2d=0.1, gamma_up_down_d2d=0.1)
    c = power.realise(power.fabricate(key, (N,)))
    check_moments((c["gamma_up"] + c["gamma_down"]) / 2, 1.5, 0.15)
    check_moments((c["gamma_up"] - c["gamma_down"]) / 2, 0.2, 0.1)


WIDE = {"x_min_d2d": 0.3, "x_max_d2d": 0.3, "dx_d2d": 0.78, "dx_law": "lognormal", "up_down_d2d": 0.3}
WIDEST = {
    "pmax": {"p_max": 3, "alpha": 0.5},
    "neurosim": {"p_up": 2, "p_down": 3, "nl_d2d": 2.0},
    "table": {name: 5 * np.asarray(column) for name, column in TABLE.items() if name != "x"},
}


# one kind for each path through the code; the others take the same ones
PATHS = [k if k in ("soft", "exp") else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]


@pytest.mark.parametrize("kind", PATHS)
def test_wide_spreads_stay_physical(kind, key):
    """100,000 cells, steps of up to half the window: states within each cell's own bounds, all slopes finite."""
    device = make(kind, g_min=5e-6, **noise(kind), **WIDE | WIDEST.get(kind, {"dx": 1.0}))
    device = device.replace(reference=Reference(symmetry=True), write_noise=0.3)
    cells = device.fabricate(key, (100_000,))
    counts = jnp.asarray([1.0, -1.0, 0.0, 12.0, -12.0] * 20_000)

    def end(device, cells, counts):
        after = device.pulse(key, cells, counts)
        after = device.pulse(key, after, -0.4 * counts)
        g = device.conductance(after)
        return g.sum() / device.g_max, (after.state["x"], g)

    run = jax.jit(jax.value_and_grad(end, (0, 1, 2), has_aux=True))
    (_, (x, g)), slopes = run(device, cells, counts)
    c = device.realise(cells)
    assert ((x >= c["low"] - 1e-6) & (x <= c["high"] + 1e-6)).all()
    assert (jnp.isfinite(g) & (g >= 0)).all()
    assert float((x != 0).mean()) > 0.6
    for path, slope in jax.tree_util.tree_leaves_with_path(slopes):
        assert jnp.isfinite(slope).all(), f"{kind}: {jax.tree_util.keystr(path)}"
