"""The curves of step-response devices without noise: closed forms, published figures, and twins that must not pass.

Expected numbers are those of AIHWKit 1.1.0, run noise-free, and of the published formulas.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pulsers import TABLE, cells_at, trace, walk

from anajax.devices import (
    ConstantStep,
    ExpStep,
    LinearStep,
    LineResponse,
    NeuroSim,
    PiecewiseStep,
    PowStep,
    SoftBounds,
    SoftBoundsPmax,
    TableStep,
    leaf,
    record,
)
from anajax.devices.curved_steps import nonlinearity_label, nonlinearity_rate

# -- closed forms, and twins that must not pass ----------------------------------------------------------------------


@record
class Unclipped(ConstantStep):
    def realise(self, cells):
        return super().realise(cells) | {"low": -jnp.inf, "high": jnp.inf}


@record
class Summed(SoftBounds):
    """n pulses as n times the first."""

    def _many(self, key, cell, x, n, up):
        return x + n * self.response(cell, x, up)


@record
class Swapped(SoftBounds):
    """Slopes at the bound behind."""

    def line(self, cell, up):
        a = jnp.where(up, cell["up"], -cell["down"])
        return a, -jnp.abs(a) / jnp.where(up, -2 * cell["low"], cell["high"])


@record
class OneSided(ConstantStep):
    """The asymmetry as AIHWKit codes it, against its own documentation."""

    def realise(self, cells):
        cut = jnp.abs(self.up_down)
        return super().realise(cells) | {
            "up": self.dx * (1 - jnp.where(self.up_down < 0, cut, 0.0)),
            "down": self.dx * (1 - jnp.where(self.up_down > 0, cut, 0.0)),
        }


@record
class AIHWKitPmax(LineResponse):
    """AIHWKit's defect: the parameters of SoftBoundsPmax put into soft bounds with a one-sided asymmetry."""

    p_max: jax.Array | float = leaf(default=1000.0)
    alpha: jax.Array | float = leaf(default=0.0005)

    def line(self, cell, up):
        reach = (self.x_max - self.x_min) / -jnp.expm1(-self.alpha * self.p_max)
        skew = 1 + 2 * self.x_min / reach
        a = reach * self.alpha * jnp.where(up, 1 + jnp.minimum(skew, 0), -(1 - jnp.maximum(skew, 0)))
        return a, -a / jnp.where(up, self.x_min + reach, self.x_min)

    def realise(self, cells):
        reach = (self.x_max - self.x_min) / -jnp.expm1(-self.alpha * self.p_max)
        return super().realise(cells) | {"high": self.x_min + reach}


# kind: start, right device, {pulses in turns: state}, falsified devices
CURVES = {
    "constant": (
        0.0,
        lambda: ConstantStep(dx=0.01),
        {(50,): 0.5, (150,): 1.0, (-150,): -1.0, (150, -10): 0.9, (-150, 10): -0.9},
        {
            "no clip": lambda: Unclipped(dx=0.01),
            "step x 1.01": lambda: ConstantStep(dx=0.0101),
            "bound of 0.99": lambda: ConstantStep(dx=0.01, x_max=0.99),
        },
    ),
    "soft": (
        0.0,
        lambda: SoftBounds(dx=0.01),
        {(1,): 0.01, (100,): 0.633968, (200,): 0.866020, (200, -100): -0.316976},
        {
            "n times the first": lambda: Summed(dx=0.01),
            "slope at the other bound": lambda: Swapped(dx=0.01),
            "constant": lambda: ConstantStep(dx=0.01),
        },
    ),
    "linear": (
        0.0,
        lambda: LinearStep(dx=0.01, gamma_up=0.5, gamma_down=0.5),
        {(100,): 0.788459, (-100,): -0.788459},
        {
            "down ignored": lambda: LinearStep(dx=0.01, gamma_up=0.5),
            "wrong sign": lambda: LinearStep(dx=0.01, gamma_up=-0.5, gamma_down=-0.5),
        },
    ),
    "linear, no slope": (
        0.0,
        lambda: LinearStep(dx=0.01),
        {(50,): 0.5, (150,): 1.0},
        {"slope": lambda: LinearStep(dx=0.01, gamma_up=0.01)},
    ),
    "linear, slope 1": (
        0.0,
        lambda: LinearStep(dx=0.01, gamma_up=1.0, gamma_down=1.0),
        {(100,): 0.633968, (200, -100): -0.316976},
        {"slope 0.99": lambda: LinearStep(dx=0.01, gamma_up=0.99, gamma_down=1.0)},
    ),
    "pow 1": (
        0.0,
        lambda: PowStep(dx=0.01, gamma=1.0),
        {(100,): 0.394230, (-100,): -0.394230},
        {"whole step": lambda: SoftBounds(dx=0.01)},
    ),
    "pow 2": (
        0.0,
        lambda: PowStep(dx=0.01, gamma=2.0),
        {(1,): 0.0025, (100,): 0.200358, (300,): 0.429029},
        {"exponents differ": lambda: PowStep(dx=0.01, gamma=2.0, gamma_up_down=0.01)},
    ),
    "exp": (
        0.0,
        lambda: ExpStep(dx=0.01),
        {(1,): 0.00983432, (100,): 0.907464, (300,): 1.0},
        {
            "offset forgotten": lambda: ExpStep(dx=0.01, offset=0.0),
            "slope not doubled": lambda: ExpStep(dx=0.01, slope=0.122),
        },
    ),
    "piecewise": (
        0.0,
        lambda: PiecewiseStep(dx=0.01, nodes_up=[1.5, 1.0, 0.5], nodes_down=[0.5, 1.0, 1.5]),
        {(1,): 0.01, (100,): 0.788459, (-100,): -0.788459},
        {"nodes reversed": lambda: PiecewiseStep(dx=0.01, nodes_up=[0.5, 1.0, 1.5], nodes_down=[1.5, 1.0, 0.5])},
    ),
    "pmax": (
        -1.0,
        SoftBoundsPmax,
        {(1,): -0.997459, (500,): 0.124353, (1000,): 1.0, (1000, -1000): -1.0, (1000, -500): -0.124353},
        {
            "AIHWKit": AIHWKitPmax,
            "alpha x 1.01": lambda: SoftBoundsPmax(alpha=0.000505),
            "p_max of 990": lambda: SoftBoundsPmax(p_max=990),
        },
    ),
    "up and down": (
        0.0,
        lambda: ConstantStep(dx=0.01, up_down=0.5),
        {(1,): 0.015, (-1,): -0.005},
        {"one-sided": lambda: OneSided(dx=0.01, up_down=0.5), "sign": lambda: ConstantStep(dx=0.01, up_down=-0.5)},
    ),
    "table": (
        -0.7,
        lambda: TableStep(**TABLE),
        {(1,): -0.655, (-1,): -0.7125, (1, -1): -0.668625},
        {"up for down": lambda: TableStep(**TABLE | {"down_mean": [-0.05, -0.04, -0.03, -0.025, -0.01]})},
    ),
}


def follows(kind, device):
    start, _, points, _ = CURVES[kind]
    for counts, wanted in points.items():
        np.testing.assert_allclose(walk(device, *counts, x=start), wanted, atol=6e-7, err_msg=f"{kind}: {counts}")


@pytest.mark.parametrize("kind", CURVES)
def test_curve(kind, x64):
    follows(kind, CURVES[kind][1]())


@pytest.mark.parametrize(("kind", "wrong"), [(kind, wrong) for kind, c in CURVES.items() for wrong in c[3]])
def test_wrong_curve_is_rejected(kind, wrong, x64):
    with pytest.raises(AssertionError):
        follows(kind, CURVES[kind][3][wrong]())


def test_the_defect_of_aihwkit_is_the_one_that_was_measured(x64):
    device = AIHWKitPmax()
    found = [walk(device, 1000, x=-1.0), walk(device, 1000, -1000, x=-1.0)]
    np.testing.assert_allclose(found, [1.3559, -0.1338], atol=1e-3)  # AIHWKit ran in float32
    # its asymmetry is ours with another mean: dx (1 + up_down) = 0.010, dx (1 - up_down) = 0.005
    steps = [walk(ConstantStep(dx=0.0075, up_down=1 / 3), n) for n in (1, -1)]
    np.testing.assert_allclose(steps, [walk(OneSided(dx=0.01, up_down=0.5), n) for n in (1, -1)], rtol=1e-12)


@pytest.mark.parametrize("d", [0.4, -0.4])
def test_asymmetries_of_aihwkit_converted(d, x64):
    """Up gamma (1 + min(d, 0) + s xi + s' xi'), down gamma (1 - max(d, 0) + s xi - s' xi'), steps likewise."""
    m = 1 - abs(d) / 2
    device = PowStep(
        dx=0.01 * m,
        up_down=d / 2 / m,
        dx_d2d=0.3 / m,
        up_down_d2d=0.05 / m,
        gamma=1.5 * m,
        gamma_up_down=1.5 * d / 2,
        gamma_d2d=0.2 / m,
        gamma_up_down_d2d=1.5 * 0.1,
    )
    names = ("dx", "up_down", "gamma", "gamma_up_down")
    scores = dict(zip(names, np.asarray([[0.7, -0.3], [-1.2, 0.4], [0.5, -1.0], [0.9, -0.2]]), strict=True))
    cell = device.realise(cells_at(device, [0.0, 0.0], **scores))
    gain, skew = 1 + 0.3 * scores["dx"], 0.05 * scores["up_down"]
    np.testing.assert_allclose(cell["up"], 0.01 * (gain + min(d, 0) + skew), rtol=1e-9)
    np.testing.assert_allclose(cell["down"], 0.01 * (gain - max(d, 0) - skew), rtol=1e-9)
    gain, skew = 1 + 0.2 * scores["gamma"], 0.1 * scores["gamma_up_down"]
    np.testing.assert_allclose(cell["gamma_up"], 1.5 * (gain + min(d, 0) + skew), rtol=1e-9)
    np.testing.assert_allclose(cell["gamma_down"], 1.5 * (gain - max(d, 0) - skew), rtol=1e-9)


def test_reversed_slopes_of_aihwkit_converted(x64):
    """Up dx (1 + 0.6 x / (0.8 + 0.01)): steps grow away from the lower bound, where they nearly vanish."""
    device = LinearStep(dx=0.01, x_min=-0.8, x_max=1.2, gamma_up=-0.6 * 1.2 / 0.81, gamma_down=-0.6 * 0.8 / 1.21)
    x = np.asarray([-0.8, 0.0, 0.5])
    np.testing.assert_allclose(device.step(cells_at(device, x), 1), 0.01 * (1 + 0.6 * x / 0.81), rtol=1e-9)
    x = np.asarray([1.2, 0.0, -0.5])
    np.testing.assert_allclose(device.step(cells_at(device, x), -1), -0.01 * (1 - 0.6 * x / 1.21), rtol=1e-9)


@pytest.mark.parametrize(
    ("p_max", "alpha", "low", "high"), [(40, 0.05, -1, 1), (300, 0.001, -0.4, 1.3), (7, 0.3, 0, 1)]
)
def test_pmax_pulses_lead_from_bound_to_bound(p_max, alpha, low, high, x64):
    device = SoftBoundsPmax(p_max=p_max, alpha=alpha, x_min=low, x_max=high)
    reach = (high - low) / -np.expm1(-alpha * p_max)
    for p in (1, p_max // 2, p_max):
        way = -reach * np.expm1(-alpha * p)
        found = [walk(device, p, x=low), walk(device, -p, x=high)]
        np.testing.assert_allclose(found, [low + way, high - way], atol=1e-12)


def test_soft_bounds_to_unequal_bounds(x64):
    """x <- high - (high - x) (1 - up / high)**n, with the cell's own bound."""
    device = SoftBounds(dx=0.02, x_min=-0.6, x_max=1.4, up_down=0.2, x_max_d2d=0.3, x_min_d2d=0.3)
    cells = cells_at(device, [0.1], x_max=[0.5], x_min=[-1.0])
    found = [float(device.pulse(None, cells, n).state["x"][0]) for n in (30, -30)]
    high, low = 1.4 * 1.15, -0.6 * 0.7
    wanted = [high - (high - 0.1) * (1 - 0.024 / high) ** 30, low - (low - 0.1) * (1 + 0.016 / low) ** 30]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


# -- NeuroSim ------------------------------------------------------------------------------------------------------


def test_neurosim_table_of_labels(x64):
    """A / p_max of the published table of 900 rows."""
    labels = {0.01: 126.27, 1.0: 1.251653, 1.46: 0.848677, 1.75: 0.702081, 5.0: 0.192406, 9.0: 0.02281}
    found = 1 / nonlinearity_rate(jnp.asarray(list(labels)))
    np.testing.assert_allclose(found, list(labels.values()), rtol=1e-4)
    with pytest.raises(AssertionError):  # the rule of thumb for small labels
        np.testing.assert_allclose(1.26 / np.asarray(list(labels)), list(labels.values()), rtol=1e-4)


def test_the_label_is_the_largest_distance_from_a_line(x64):
    w = np.linspace(0, 1, 200_001)
    for k in (0.3, 0.999, 1.001, 3.0, 40.0):
        largest = np.max(np.expm1(-k * w) / np.expm1(-k) - w)
        np.testing.assert_allclose(nonlinearity_label(k), 10.101525 * largest, rtol=2e-7)
    labels = jnp.asarray([0.0, 0.003, 0.1, 1.0, 1.75, 4.88, 6.76, 9.9])
    np.testing.assert_allclose(nonlinearity_label(nonlinearity_rate(labels)), labels, rtol=1e-9, atol=1e-12)


def neurosim(p=32, **labels):
    """Half an on/off ratio of 50 and the FeFET labels, by default."""
    return NeuroSim(g_min=2e-6, g_max=100e-6, p_up=p, p_down=p + 8, **({"nl_up": 1.75, "nl_down": -1.46} | labels))


def follows_neurosim(device, nl_up=1.75, nl_down=1.46, p=32):
    """G_LTP and G_LTD, with A from the label, pulse by pulse."""
    g_min, g_max, rate = 2e-6, 100e-6, {1.75: 0.702081, 1.46: 0.848677, 0.01: 126.27, 5.0: 0.192406, 9.0: 0.02281}
    for nl, n, up in ((nl_up, p, True), (nl_down, p + 8, False)):
        a = n * rate[nl]
        b = (g_max - g_min) / -np.expm1(-n / a)
        pulses = np.arange(n + 1)
        wanted = b * -np.expm1(-pulses / a) + g_min if up else -b * -np.expm1(-pulses / a) + g_max
        cells = cells_at(device, 0.0 if up else 1.0)
        after = trace(device, cells, jnp.full(n, 1.0 if up else -1.0))
        found = np.append(device.conductance(cells), device.conductance(after))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * (g_max - g_min))


@pytest.mark.parametrize(("nl_up", "nl_down"), [(1.75, 1.46), (0.01, 5.0), (9.0, 0.01)])
def test_neurosim_curves(nl_up, nl_down, x64):
    follows_neurosim(neurosim(nl_up=nl_up, nl_down=-nl_down), nl_up, nl_down)


def test_a_positive_label_of_depression_starts_slowly(x64):
    """Down along x(P) = B (1 - exp(-P / A)) + 0 from P = 10, A = 10 a(2.4): after 1, 5, 9, 10 pulses."""
    device = NeuroSim(p_down=10, nl_down=2.4)
    cells = device.pulse(None, cells_at(device, [1.0] * 4), jnp.asarray([-1.0, -5.0, -9.0, -10.0]))
    np.testing.assert_allclose(device.state(cells), [0.965, 0.731, 0.210, 0.0], atol=5.1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nl_up": 1.46, "nl_down": -1.75},
        {"nl_up": 1.76},
        {"nl_down": -1.47},
        {"nl_down": 1.46},
        {"p": 33},
    ],
    ids=str,
)
def test_wrong_neurosim_curves_are_rejected(wrong, x64):
    with pytest.raises(AssertionError):
        follows_neurosim(neurosim(**wrong))


def test_neurosim_retraced_is_rejected(x64):
    """Depression does not go back along the curve of potentiation."""

    @record
    class Retraced(NeuroSim):
        def line(self, cell, up):
            a, s = super().line(cell, jnp.asarray(True))
            back = 1 + s
            return jnp.where(up, a, -a / back), jnp.where(up, s, -s / back)

    wrong = Retraced(g_min=2e-6, g_max=100e-6, p_up=32, p_down=40, nl_up=1.75, nl_down=-1.46)
    with pytest.raises(AssertionError):
        follows_neurosim(wrong)


def test_neurosim_sizes_spread_with_the_step(x64):
    """A gain of 2 makes each pulse twice that of the mean cell, everywhere."""
    device = neurosim(dx_d2d=0.5)
    for x in (0.0, 0.3, 0.6):
        one, two = device.step(cells_at(device, [x, x], dx=[0.0, 2.0]), 1)
        np.testing.assert_allclose(two, 2 * one, rtol=1e-9)
