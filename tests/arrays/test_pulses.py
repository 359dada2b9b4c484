"""The parallel update: what rows and columns send, what cells count, and what both orders of a mini-batch do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from anajax import Hardware
from anajax.arrays import (
    Differential,
    Offset,
    PulseTrain,
    Signed,
    aggregate_update,
    coincidences,
    granularity,
    sequential_update,
    sums,
)
from anajax.arrays.pulses import _numbers
from anajax.devices import ConstantStep, ExpStep, OneSidedPair, ReferencePair, SoftBounds, Vector
from anajax.testing import check_moments

PLAIN = PulseTrain(update_management=False, length_management=False)


def repeated(key, train, x, d, rate, n=40_000):
    keys = jax.random.split(key, n)
    return jax.vmap(lambda k: coincidences(k, train, jnp.asarray(x), jnp.asarray(d), rate))(keys)


# -- trains ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learning_rate", "x", "d", "slots", "p", "q"),
    [
        (0.01, 1.0, 1.0, 10, 1.0, 1.0),
        (0.1, 1.0, 1.0, 31, 1.0, 1.0),  # 3.226 before saturation
        (0.01, 0.5, 0.5, 3, 0.9129, 0.9129),
        (0.01, 0.5, 0.05, 1, 0.5, 0.5),
        (0.01, 0.0, 1.0, 1, 0.0, 1.0),  # no row fires
    ],
)
def test_trains_are_as_long_as_the_busiest_cell_needs(learning_rate, x, d, slots, p, q):
    """Numbers 16 and 17 of AIHWKit's documented rules, for steps of 0.001."""
    found_p, found_q, found = PulseTrain().probabilities(jnp.array([x]), jnp.array([d]), learning_rate / 0.001)
    assert found == slots
    np.testing.assert_allclose([found_p[0], found_q[0]], [p, q], rtol=1e-4)


def test_columns_saturate_before_rows():
    p, q, slots = PulseTrain().probabilities(jnp.array([1.0, 0.5]), jnp.array([1.0, 0.31, 0.1]), 100.0)
    assert slots == 31
    np.testing.assert_allclose(p, [1.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(q, [1.0, 1.0, 0.1 * 100 / 31], rtol=1e-6)


def test_without_management_both_gains_are_one():
    p, q, slots = PLAIN.probabilities(jnp.array([0.5]), jnp.array([0.25]), 10.0)
    assert slots == 31
    np.testing.assert_allclose([p[0] / 0.5, q[0] / 0.25], np.sqrt(10 / 31), rtol=1e-6)


@pytest.mark.parametrize(("train", "pq", "slots"), [(PulseTrain(), 5 / 6, 3), (PLAIN, 2.5 / 31, 31)])
def test_counts_are_binomial(train, pq, slots, key):
    """Mean 2.5 for both, standard deviation 0.6455 and 1.516."""
    counts = -repeated(key, train, [0.5], [0.5], 10.0).ravel()
    check_moments(counts, slots * pq, np.sqrt(slots * pq * (1 - pq)))
    seen = np.bincount(np.asarray(counts, int), minlength=slots + 1)
    wanted = len(counts) * stats.binom(slots, pq).pmf(np.arange(slots + 1))
    common = wanted > 5
    chi = np.sum((seen[common] - wanted[common]) ** 2 / wanted[common])
    assert chi < stats.chi2(common.sum() - 1).isf(1e-5)


def test_the_mean_is_the_outer_product_and_directions_descend(key):
    x, d = np.array([0.3, -0.9, 0.0]), np.array([0.5, -0.2, 1.0, 0.1])
    counts = repeated(key, PulseTrain(), x, d, 8.0)
    spread = np.asarray(counts).std(axis=0) / np.sqrt(len(counts))
    np.testing.assert_array_less(np.abs(counts.mean(axis=0) + 8 * np.outer(x, d)), 5 * spread + 1e-6)
    assert (counts[:, 2] == 0).all()


def test_cells_of_one_row_share_its_draws(key):
    """Covariance of two cells of a row: n p q q' (1 - p); of cells without a common line, none."""
    p, q = 0.4, 0.5
    train = PulseTrain(length=20, update_management=False, length_management=False)
    root = np.sqrt(10.0 / 20)
    counts = np.asarray(repeated(key, train, [p / root] * 2, [q / root] * 2, 10.0), float)
    n = len(counts)
    (a, b), (c, d) = counts.reshape(n, 4).T[:2], counts.reshape(n, 4).T[2:]
    band = 5 * 20 * p * q * (1 - p * q) / np.sqrt(n)
    assert abs(np.cov(a, b)[0, 1] - 20 * p * q * q * (1 - p)) < band
    assert abs(np.cov(a, c)[0, 1] - 20 * p * p * q * (1 - q)) < band
    assert abs(np.cov(a, d)[0, 1]) < band
    assert abs(np.cov(b, c)[0, 1]) < band


@pytest.mark.parametrize("kind", ["mean-count", "deterministic"])
def test_counts_without_chance(kind):
    counts = coincidences(None, PulseTrain(kind=kind), jnp.array([0.5]), jnp.array([0.5]), 10.0)
    assert counts == -3  # of 2.5, with p = q = 0.9129 in three slots
    counts = coincidences(None, PulseTrain(kind=kind), jnp.array([1.0, 0.5]), jnp.array([-1.0, 0.5]), 10.0)
    np.testing.assert_array_equal(counts, [[10, -5], [5, -2]])


def test_probabilities_have_a_resolution(key):
    p, q, _ = PulseTrain(resolution=0.25).probabilities(jnp.array([0.5, 0.1]), jnp.array([0.5, 0.3]), 10.0)
    np.testing.assert_allclose(p, [1.0, 0.25])
    np.testing.assert_allclose(q, [1.0, 0.5])
    counts = repeated(key, PulseTrain(resolution=0.25), [0.5, 0.1], [0.5, 0.3], 10.0, 4000)
    assert (counts[:, 0, 0] == -3).all()


@pytest.mark.parametrize(
    ("x", "d", "rate"), [([0.0, 0.0], [1.0], 5.0), ([1.0, 0.5], [0.0], 5.0), ([1.0, 1.0], [1.0], 0.0)]
)
def test_nothing_to_learn_sends_no_pulse(x, d, rate, key):
    for train in (PulseTrain(), PLAIN, PulseTrain(kind="mean-count"), PulseTrain(length=1)):
        counts, slope = jax.value_and_grad(
            lambda r, t=train: coincidences(key, t, jnp.asarray(x), jnp.asarray(d), r).sum()
        )(rate)
        assert counts == 0
        assert np.isfinite(slope)


def test_one_slot_is_enough_for_a_train(key):
    counts = repeated(key, PulseTrain(length=1), [1.0, 0.5], [-1.0, 0.5], 10.0, 4000)
    assert set(np.unique(counts)) <= {-1.0, 0.0, 1.0}
    assert (counts[:, 0, 0] == 1).all()  # saturated


def test_not_a_number_is_not_forgotten(key):
    counts = coincidences(key, PulseTrain(), jnp.array([1.0, 0.5]), jnp.array([jnp.nan, 0.5]), 1.0)
    assert not np.isfinite(counts).any()
    for device in (SoftBounds(dx=0.01), ExpStep(dx=0.01)):  # by jumps, and one by one
        hardware, cells = crossbar(device, key, 2, 2)
        x, d = jnp.ones((1, 2)), jnp.array([[jnp.nan, 1.0]])
        after = jax.jit(sequential_update)(key, hardware, cells, x, d, 0.1)
        assert np.isnan(state(after)).any()
        after = jax.jit(aggregate_update)(key, hardware, cells, sums(x, d), 0.1)
        assert np.isnan(state(after)).any()


# -- updates -----------------------------------------------------------------------------------------------------------

DEVICES = {
    "constant": ConstantStep(dx=0.01, c2c=0.3, dx_d2d=0.3),
    "soft bounds": SoftBounds(dx=0.02, c2c=0.3, x_max_d2d=0.3),
    "exponential": ExpStep(dx=0.01, c2c=0.2),
}


def crossbar(device, key, rows=4, cols=3, **fields):
    """One array of cells against an ideal reference: weights are states, between -1 and 1."""
    hardware = Hardware(device=device.replace(g_min=50e-6, g_max=100e-6), mapping=Offset(), **fields)
    return hardware, hardware.device.fabricate(key, hardware.mapping.cells(rows, cols))


def state(after):
    return after.cells.state["x"][0, :, :-1]


def examples(key, n=5, rows=4, cols=3):
    k_x, k_d = jax.random.split(key)
    return jax.random.uniform(k_x, (n, rows), minval=-1.0), jax.random.uniform(k_d, (n, cols), minval=-1.0)


ORDERS = {
    "sequential": sequential_update,
    "aggregate": lambda key, hardware, cells, x, d, rate: aggregate_update(key, hardware, cells, sums(x, d), rate),
}


@pytest.mark.parametrize("name", DEVICES)
def test_a_mini_batch_is_its_examples_one_after_the_other(name, key):
    x, d = examples(key)
    hardware, cells = crossbar(DEVICES[name].replace(c2c=None), key, pulses=PulseTrain(kind="deterministic"))
    whole = sequential_update(None, hardware, cells, x, d, 0.2)
    by_one = cells
    for k in range(len(x)):
        by_one = sequential_update(None, hardware, by_one, x[k : k + 1], d[k : k + 1], 0.2).cells
    np.testing.assert_allclose(whole.cells.state["x"], by_one.state["x"], rtol=1e-6, atol=1e-7)
    once = aggregate_update(None, hardware, cells, sums(x, d), 0.2)
    if name != "constant":  # which alone does not notice
        assert np.abs(state(once) - state(whole)).max() > 1e-4


@pytest.mark.parametrize("order", ORDERS)
def test_constant_steps_descend_the_gradient(order, key):
    """Without bounds in reach, a mini-batch moves the mean of many populations by -lr times the summed gradient."""
    x, d = examples(key)
    hardware, cells = crossbar(ConstantStep(dx=0.001, c2c=0.3), None)

    def moved(key):
        after = ORDERS[order](key, hardware, cells, x, d, 0.01)
        return state(after), after.pulses

    found, pulses = jax.vmap(moved)(jax.random.split(key, 4000))
    error = np.asarray(found).std(axis=0) / np.sqrt(4000)
    np.testing.assert_array_less(np.abs(found.mean(axis=0) + 0.01 * x.T @ d), 5 * error)
    np.testing.assert_allclose(pulses.mean(axis=0), 10 * np.abs(x).T @ np.abs(d), rtol=0.05)


@pytest.mark.slow
def test_both_orders_have_the_same_mean_and_variance_where_cells_hardly_move(key):
    """Of many examples: of few, ups may be surer than downs, which the sums do not tell apart."""
    x, d = examples(key, n=40)
    hardware, cells = crossbar(SoftBounds(dx=0.001, c2c=0.3), None)
    start = hardware.device.at(cells, jnp.linspace(-0.5, 0.5, 16).reshape(1, 4, 4))
    found = {
        name: np.asarray(
            jax.vmap(lambda k, f=f: state(f(k, hardware, start, x, d, 0.002)))(jax.random.split(key, 8000))
        )
        for name, f in ORDERS.items()
    }
    mean, std = ({n: f(s, axis=0) for n, s in found.items()} for f in (np.mean, np.std))
    np.testing.assert_allclose(
        mean["aggregate"], mean["sequential"], atol=6 * std["sequential"].max() / np.sqrt(8000) + 1e-4
    )
    np.testing.assert_allclose(std["aggregate"], std["sequential"], rtol=0.15)


def test_nearly_full_trains_hardly_vary_in_one_jump_either(key):
    """Ten slots at one gain for rows and columns, 81 % full: binomial, not Poisson."""
    x, d = 0.9487 * jnp.ones((20, 2)), 0.9487 * jnp.ones((20, 2))
    train = PulseTrain(length=10, update_management=False, length_management=False)
    hardware, cells = crossbar(ConstantStep(dx=0.001), None, rows=2, cols=2, pulses=train)
    keys = jax.random.split(key, 4000)
    std = {
        name: np.asarray(jax.vmap(lambda k, f=f: f(k, hardware, cells, x, d, 0.009).pulses)(keys)).std(axis=0)
        for name, f in ORDERS.items()
    }
    np.testing.assert_allclose(std["sequential"], np.sqrt(20 * 10 * 0.81 * 0.19), rtol=0.06)
    np.testing.assert_allclose(std["aggregate"], std["sequential"], rtol=0.08)


def test_ups_and_downs_of_a_mini_batch_come_evenly():
    """Half of the downs before the ups and half after: as when both alternate, up to second order."""
    hardware, cells = crossbar(SoftBounds(dx=0.02), None, rows=1, cols=1, pulses=PulseTrain(kind="deterministic"))
    cells = hardware.device.at(cells, jnp.full(cells.state["x"].shape, 0.5))
    d = jnp.tile(jnp.array([[1.0], [-1.0]]), (10, 1))
    found = {name: state(f(None, hardware, cells, jnp.ones((20, 1)), d, 0.02)).item() for name, f in ORDERS.items()}
    assert found["sequential"] < 0.35
    np.testing.assert_allclose(found["aggregate"], found["sequential"], atol=0.01)


def test_devices_that_take_turns_share_what_comes_at_once(key):
    """Three by turns: sixty mini-batches leave all of them where the gradient leads."""
    device = ConstantStep(dx=0.001, g_min=50e-6, g_max=100e-6)
    hardware = Hardware(
        device=ReferencePair(device=Vector(device=device, n=3, policy="sequential"), reference=device),
        mapping=Signed(),
        pulses=PulseTrain(kind="deterministic"),
    )
    np.testing.assert_allclose(granularity(hardware), 0.001 / 3, rtol=1e-3)
    x, d = examples(key)
    cells = hardware.device.fabricate(None, hardware.mapping.cells(4, 3))
    for _ in range(10):
        cells = aggregate_update(None, hardware, cells, sums(x, d), 0.01).cells
    for part in cells.parts["device"].parts.values():
        np.testing.assert_allclose(part.state["x"][0], -0.1 * x.T @ d, atol=2e-4)


MAPPINGS = {
    "offset": (Offset(), 0.02, [[-0.1, 0.1]]),
    "midpoint": (Differential(scheme="midpoint"), 0.02, [[-0.1, 0.1]]),
    "one-sided": (Differential(), 0.01, [[-0.05, 0.05]]),
}


@pytest.mark.parametrize("name", MAPPINGS)
def test_every_mapping_has_its_granularity_and_follows_the_gradient(name):
    mapping, step, wanted = MAPPINGS[name]
    device = ConstantStep(dx=0.02, g_min=50e-6, g_max=100e-6)
    hardware = Hardware(device=device, mapping=mapping, pulses=PulseTrain(kind="deterministic"))
    np.testing.assert_allclose(granularity(hardware), step, rtol=1e-5)
    cells = device.fabricate(None, mapping.cells(1, 2))
    after = sequential_update(None, hardware, cells, jnp.array([[1.0]]), jnp.array([[1.0, -1.0]]), 5 * step)
    assert after.pulses.tolist() == [[5, 5]]
    np.testing.assert_allclose(mapping.decode(device, device.conductance(after.cells)), wanted, rtol=1e-4)


def test_the_granularity_is_the_mean_of_up_and_down():
    uneven = ConstantStep(dx=0.02, up_down=0.4, g_min=50e-6, g_max=100e-6)
    np.testing.assert_allclose(granularity(Hardware(device=uneven, mapping=Offset())), 0.02, rtol=1e-4)


def test_compounds_have_a_sign_of_their_own(key):
    pair = OneSidedPair(device=SoftBounds(dx=0.01, x_min=-1e-3, x_max=1.0, g_min=0.0, g_max=20e-6))
    hardware = Hardware(device=pair, mapping=Signed(), pulses=PulseTrain(kind="deterministic"))
    step = float(granularity(hardware))
    np.testing.assert_allclose(step, 0.01, rtol=2e-3)
    x, d = jnp.array([[1.0, 0.5]]), jnp.array([[1.0, -1.0]])
    after = sequential_update(None, hardware, pair.fabricate(key, (1, 2, 2)), x, d, 10 * step)
    assert after.pulses.tolist() == [[10, 10], [5, 5]]
    assert (np.sign(pair.conductance(after.cells)[0]) == [[-1, 1], [-1, 1]]).all()
    with pytest.raises(ValueError, match=r"Hardware\.device must be a cell whose conductance has a sign where"):
        Hardware(device=pair)
    with pytest.raises(ValueError, match=r"Hardware\.device must be a cell whose conductance has a sign where"):
        Hardware(mapping=Signed())


@pytest.mark.parametrize(
    ("mean", "left"), [(0.01, 1.0), (0.3, 0.9), (0.9, 0.5), (2.0, 1.0), (20.0, 0.2), (3.0, 0.0), (0.0, 1.0)]
)
def test_numbers_of_pulses_have_the_mean_and_variance_of_trains(mean, left, key):
    drawn, slope = jax.jvp(lambda m: _numbers(key, m, m * left), (jnp.full(200_000, mean),), (jnp.ones(200_000),))
    assert (drawn >= 0).all()
    std = np.sqrt(mean * left)
    assert abs(drawn.mean() - mean) <= 5 * std / np.sqrt(200_000) + 1e-6
    np.testing.assert_allclose(drawn.std(), std, rtol=0.1 if mean < 0.1 else 0.02, atol=1e-6)
    assert abs(slope.mean() - 1) < 0.05 or mean == 0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("d", [0.02, -0.02])
def test_pulses_that_did_not_come_have_the_derivatives_of_those_due(order, d, key):
    """At x = 0.3 a step down is (1 + x) dx, one up (1 - x) dx; of fifty updates one sends a pulse."""
    hardware, cells = crossbar(SoftBounds(dx=0.02), None, rows=1, cols=1)
    cells = hardware.device.at(cells, jnp.full(cells.state["x"].shape, 0.3))

    def after(rate, key):
        return state(ORDERS[order](key, hardware, cells, jnp.ones((1, 1)), jnp.full((1, 1), d), rate)).squeeze()

    slopes = jax.vmap(jax.grad(after), (None, 0))(0.02, jax.random.split(key, 40_000))
    np.testing.assert_allclose(slopes.mean(), -d * (1.3 if d > 0 else 0.7), rtol=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_updates_have_derivatives_by_the_device(order, key, x64):
    """Finite differences; by what counts depend on, only where these are real, and more than one."""
    (x, d), base = examples(key), SoftBounds(dx=0.02, up_down=0.1, c2c=0.2, one_by_one=False)
    hardware, _ = crossbar(base, None)
    _, cells = crossbar(base.replace(x_max_d2d=0.1), key)

    def loss(device):
        after = ORDERS[order](key, hardware.replace(device=device), cells, x, d, 2.0 if order == "aggregate" else 0.1)
        return jnp.sum(device.state(after.cells) ** 2)

    slope = jax.grad(loss)(hardware.device)
    for name in ("up_down", "c2c") + (("x_max", "dx") if order == "aggregate" else ()):
        at, h = getattr(base, name), 1e-6
        up, down = (loss(hardware.device.replace(**{name: at + s * h})) for s in (1, -1))
        np.testing.assert_allclose(getattr(slope, name), (up - down) / (2 * h), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 0}, "PulseTrain.length must be a positive integer; got 0"),
        ({"update_management": False}, "PulseTrain.length_management needs update_management=True"),
        ({"kind": "random"}, "PulseTrain.kind must be one of 'stochastic', 'mean-count', 'deterministic'"),
        ({"resolution": 2.0}, "PulseTrain.resolution must be greater than 0 and at most 1; got 2"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PulseTrain(**fields)


def test_random_trains_need_a_key():
    with pytest.raises(ValueError, match="need a key; got None"):
        coincidences(None, PulseTrain(), jnp.ones(2), jnp.ones(2), 1.0)
