"""Transfers: rows read in turn, what buffers hold back, choppers, references that follow, and both orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax import Hardware
from anajax.arrays import (
    ADC,
    Examples,
    OutputNoise,
    PulseTrain,
    Signed,
    Transfer,
    in_conductances,
    memory_of,
    sums,
    transferred,
)
from anajax.devices import ConstantStep, ReferencePair, Residual, SoftBounds

WINDOW = {"g_min": 50e-6, "g_max": 100e-6}
FINE = ConstantStep(dx=1e-4, **WINDOW)
MID = ConstantStep(**WINDOW)


def pair(device=FINE):
    return ReferencePair(device=device, reference=MID)


def hardware(slow=FINE, fast=FINE, gamma=0.0, **fields):
    fields = {"pulses": PulseTrain(kind="deterministic", length=10_000)} | fields
    return Hardware(
        device=Residual(slow=pair(slow), fast=pair(fast), gamma=gamma), mapping=Signed(scale_by="none"), **fields
    )


def start(hw, transfer, key=None, shape=(3, 2), weights=0.0):
    crossbar = in_conductances(key, hw, jnp.full(shape, weights))
    return crossbar, memory_of(hw, transfer, crossbar)


def part(hw, crossbar, name):
    """The weights that one cell of each holds, `[rows, cols]`."""
    device = getattr(hw.device, name)
    return device.conductance(crossbar.cells.parts[name])[0, 0, 0] / device.g_max


def told(x, d, order="aggregate"):
    x, d = jnp.atleast_2d(jnp.asarray(x)), jnp.atleast_2d(jnp.asarray(d))
    if order == "sequential":
        return Examples(x=x, d=d)
    return jax.tree.map(lambda a: a[None, None], sums(x, d))


def examples(key, n, rows=3, cols=2):
    k_x, k_d = jax.random.split(key)
    return jax.random.uniform(k_x, (n, rows), minval=-1.0), jax.random.uniform(k_d, (n, cols), minval=-1.0)


# -- what is read when -------------------------------------------------------------------------------------------------


def test_rows_are_read_in_turn_after_so_many_examples(key):
    """Fast cells hold -fast_rate x d; each reading adds rate times them to its row of the slow ones."""
    rule = Transfer(every=(2,), fast_rate=0.1, rate=0.5, buffered=False)
    hw = hardware()
    crossbar, memory = start(hw, rule)
    x, d = examples(key, 5)
    fast = -0.1 * x.T @ d
    crossbar, memory = transferred(None, hw, rule, crossbar, told(x, d), memory, 1.0)
    np.testing.assert_allclose(part(hw, crossbar, "fast"), fast, atol=2e-4)
    np.testing.assert_allclose(part(hw, crossbar, "slow")[:2], 0.5 * fast[:2], atol=2e-4)
    np.testing.assert_array_equal(part(hw, crossbar, "slow")[2], 0.0)
    assert (memory.waiting, memory.reads) == (1, 2)
    crossbar, memory = transferred(None, hw, rule, crossbar, told(x[:1], 0 * d[:1]), memory, 1.0)
    np.testing.assert_allclose(part(hw, crossbar, "slow"), 0.5 * fast, atol=3e-4)
    assert (memory.waiting, memory.reads) == (0, 3)


@pytest.mark.parametrize("order", ["aggregate", "sequential"])
def test_orders_agree_on_what_is_even(order, key):
    """By hand, in numbers: after each example, or after the mini-batch, one row is carried over."""
    rule = Transfer(every=(1,), fast_rate=0.1, rate=0.5, buffered=False)
    hw = hardware()
    crossbar, memory = start(hw, rule)
    x, d = examples(key, 4)
    crossbar, _ = transferred(None, hw, rule, crossbar, told(x, d, order), memory, 1.0)
    fast, slow = np.zeros((3, 2)), np.zeros((3, 2))
    for k in range(4):
        if order == "sequential":
            fast -= 0.1 * np.outer(x[k], d[k])
        else:
            fast = -0.1 * np.asarray(x.T @ d)
        slow[k % 3] += 0.5 * fast[k % 3]
    np.testing.assert_allclose(part(hw, crossbar, "fast"), fast, atol=1e-3)
    np.testing.assert_allclose(part(hw, crossbar, "slow"), slow, atol=1e-3)


def test_a_mini_batch_is_its_examples_one_after_the_other(key):
    """Every part of the state, choppers and references that follow included."""
    rule = Transfer(every=(1,), fast_rate=0.05, rate=0.5, chop=0.5, chop_order="regular", follow=0.5, horizon=50.0)
    soft = SoftBounds(dx=0.02, up_down=0.3, **WINDOW)
    hw = hardware(soft, soft)
    whole = by_one = start(hw, rule, weights=0.1)
    x, d = examples(key, 12)
    step = jax.jit(
        lambda crossbar, memory, x, d: transferred(None, hw, rule, crossbar, Examples(x=x, d=d), memory, 1.0)
    )
    whole = step(*whole, x, d)
    for k in range(12):
        by_one = step(*by_one, x[k : k + 1], d[k : k + 1])
    drop = [(c.cells, m._replace(largest=None)) for c, m in (whole, by_one)]  # which counts mini-batches
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *drop)
    assert float(jnp.abs(part(hw, whole[0], "slow") - 0.1).max()) > 0.01


def test_the_learning_rate_is_that_of_the_weights(key):
    """A horizon of 1, and fast cells that keep all: a sweep later slow ones moved by -lr times the summed gradient."""
    rule = Transfer(every=(2,), horizon=1.0, fast_rate=0.01, buffered=False)
    hw = hardware()
    crossbar, memory = start(hw, rule)
    x, d = examples(key, 6)  # a sweep of three rows
    crossbar, _ = transferred(None, hw, rule, crossbar, told(x, d), memory, 0.01)
    np.testing.assert_allclose(part(hw, crossbar, "slow"), -0.01 * 6 * x.T @ d, atol=3e-3)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_fast_rates_adapt_to_the_size_of_gradients(scale, key):
    """The busiest cell of the usual example is due five pulses, whatever the size of errors."""
    rule = Transfer(every=(100,))
    hw = hardware(fast=ConstantStep(dx=0.01, **WINDOW))
    crossbar, memory = start(hw, rule)
    _, memory = transferred(None, hw, rule, crossbar, told([1.0, 0.5, 0.0], [scale, 0.1 * scale]), memory, 1.0)
    np.testing.assert_allclose(memory.pulses[0][0, 0, 0], [5.0, 0.5], rtol=1e-4)


# -- buffers -----------------------------------------------------------------------------------------------------------


def test_a_buffer_holds_back_less_than_a_pulse_and_forgets_after_one():
    rule = Transfer(every=(1,), fast_rate=0.0, rate=1.0, momentum=0.25)
    hw = hardware(slow=ConstantStep(dx=0.1, **WINDOW))
    crossbar, memory = start(hw, rule, shape=(1, 1))
    fast = hw.device.fast
    cells = fast.wait(
        None, fast.program(None, crossbar.cells.parts["fast"], jnp.full((1, 1, 1, 1, 1), 0.04) * fast.g_max), 0.0
    )
    crossbar = crossbar.replace(cells=crossbar.cells.replace(parts=crossbar.cells.parts | {"fast": cells}))
    buffers, weights = [], []
    for _ in range(6):
        crossbar, memory = transferred(None, hw, rule, crossbar, told([1.0], [1.0]), memory, 1.0)
        buffers.append(float(memory.buffer.squeeze()))
        weights.append(float(part(hw, crossbar, "slow").squeeze()))
    np.testing.assert_allclose(buffers, [0.4, 0.8, 0.3, 0.7, 0.275, 0.675], atol=2e-3)  # 1.2 and 1.1, a quarter of each
    np.testing.assert_allclose(weights, [0, 0, 0.1, 0.1, 0.2, 0.2], atol=1e-5)
    assert float(memory.pulses[1].sum()) == 2


def test_one_reading_sends_no_more_pulses_than_allowed():
    for longest, wanted in ((1.0, 0.1), (3.0, 0.3)):
        rule = Transfer(every=(1,), fast_rate=0.5, rate=1.0, longest=longest)
        hw = hardware(slow=ConstantStep(dx=0.1, **WINDOW))
        crossbar, memory = start(hw, rule, shape=(1, 1))
        crossbar, memory = transferred(None, hw, rule, crossbar, told([1.0], [-1.0]), memory, 1.0)
        np.testing.assert_allclose(part(hw, crossbar, "slow"), wanted, atol=1e-5)


def test_what_waits_in_a_buffer_has_its_derivative_once():
    """A hundred readings of -0.1: slow weights go by -10 times the rate, whatever a pulse is."""
    hw = hardware(slow=ConstantStep(dx=0.01, **WINDOW))

    def moved(rate):
        rule = Transfer(every=(1,), fast_rate=0.0, rate=rate)
        crossbar, memory = start(hw, rule, shape=(1, 1))
        crossbar = offset(hw, crossbar, 0.1)
        seen = Examples(x=jnp.ones((100, 1)), d=jnp.zeros((100, 1)))
        return part(hw, transferred(None, hw, rule, crossbar, seen, memory, 1.0)[0], "slow")[0, 0]

    np.testing.assert_allclose(jax.grad(moved)(0.003), -10.0, rtol=0.05)


def test_the_size_of_gradients_is_a_running_mean_over_mini_batches():
    rule = Transfer(every=(100,))
    hw = hardware()
    crossbar, memory = start(hw, rule)
    for size in (1.0, 3.0):
        crossbar, memory = transferred(None, hw, rule, crossbar, told([1.0, 0.5, 0.0], [size, 0.1 * size]), memory, 1.0)
    np.testing.assert_allclose(memory.largest.squeeze(), [0.99 * 0.01 * 1 + 0.01 * 3, 0.99 * 0.01 + 0.01], rtol=1e-5)


# -- choppers and references -------------------------------------------------------------------------------------------


def offset(hw, crossbar, by):
    """Fast cells whose references are wrong by `by`, of the window's half."""
    fast, parts = hw.device.fast, crossbar.cells.parts
    reference = fast.reference.at(
        parts["fast"].parts["reference"], jnp.full(parts["fast"].parts["reference"].state["x"].shape, by)
    )
    moved = parts["fast"].replace(parts=parts["fast"].parts | {"reference": reference})
    return crossbar.replace(cells=crossbar.cells.replace(parts=parts | {"fast": moved}))


def drifted(rule, sweeps=60, error=0.2):
    """What slow cells make of fast ones that are told nothing, and whose references are wrong."""
    hw = hardware(slow=ConstantStep(dx=1e-3, **WINDOW))
    crossbar, memory = start(hw, rule, shape=(2, 1))
    crossbar = offset(hw, crossbar, error)
    step = jax.jit(lambda c, m: transferred(None, hw, rule, c, told([1.0, 1.0], [0.0]), m, 1.0))
    path = []
    for _ in range(2 * sweeps):
        crossbar, memory = step(crossbar, memory)
        path.append(part(hw, crossbar, "slow")[0, 0])
    return np.asarray(path), memory


def test_choppers_undo_an_offset_and_references_that_follow_see_none():
    rule = {"every": (1,), "fast_rate": 0.1, "rate": 0.0525, "longest": 100.0}  # 10.5 pulses
    plain, _ = drifted(Transfer(**rule))
    chopped, memory = drifted(Transfer(chop=0.1, chop_order="regular", **rule))
    follows, _ = drifted(Transfer(chop=0.1, chop_order="regular", follow=0.5, **rule))
    np.testing.assert_allclose(plain[-1], -0.6, rtol=1e-3)
    np.testing.assert_allclose(chopped.min(), -0.1, rtol=1e-3)  # there and back, ten sweeps each
    assert abs(chopped[-1]) < 0.01
    assert np.abs(follows).max() < 0.002
    assert memory.reads == 120


@pytest.mark.parametrize("order", ["aggregate", "sequential"])
@pytest.mark.parametrize("follow", [None, 0.3])
def test_choppers_and_references_by_hand(order, follow, key):
    """Each example is pulsed by the signs of its rows; a row is read by its own, which then turns every other time."""
    rule = Transfer(
        every=(1,), fast_rate=0.05, rate=0.5, chop=0.5, chop_order="regular", follow=follow, longest=1e4, momentum=0.0
    )
    hw = hardware()
    crossbar, memory = start(hw, rule)
    x, d = (np.asarray(a) for a in examples(key, 14))
    step = jax.jit(lambda c, m, x, d: transferred(None, hw, rule, c, told(x, d, order), m, 1.0))
    fast, slow, mean, past = np.zeros((4, 3, 2))
    sign, started = np.ones(3), np.zeros(3)
    for k in range(14):
        crossbar, memory = step(crossbar, memory, x[k], d[k])
        fast -= 0.05 * sign[:, None] * np.outer(x[k], d[k])
        row, y = k % 3, fast[k % 3].copy()
        slow[row] += 0.5 * sign[row] * (y if follow is None else started[row] * (y - past[row]))
        mean[row] += 0 if follow is None else follow * (y - mean[row])
        if (k // 3 + 1) % 2 == 0:
            sign[row], past[row], started[row] = -sign[row], mean[row], 1
    np.testing.assert_allclose(part(hw, crossbar, "fast"), fast, atol=1e-3)
    np.testing.assert_allclose(part(hw, crossbar, "slow"), slow, atol=2e-3)
    assert np.abs(slow).max() > 0.02


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("follow", [None, 0.5])
def test_choppers_keep_their_signal_over_many_readings_in_one_mini_batch(rows, follow):
    """A patch of an image is an example: of a constant gradient, 120 in one jump move as far as one by one."""
    rule = Transfer(
        every=(1,), fast_rate=0.002, rate=0.05, chop=0.1, chop_order="regular", follow=follow, longest=100.0
    )
    hw = hardware(pulses=PulseTrain(kind="deterministic"), slow=ConstantStep(dx=1e-4, **WINDOW))
    found = {}
    for order in ("aggregate", "sequential"):
        crossbar, memory = start(hw, rule, shape=(rows, 1))
        seen = told(jnp.ones((120, rows)), jnp.ones((120, 1)), order)
        crossbar, memory = transferred(None, hw, rule, crossbar, seen, memory, 1.0)
        found[order] = part(hw, crossbar, "slow")[:, 0]
        assert (memory.waiting, memory.reads) == (0, 120)
    np.testing.assert_allclose(found["aggregate"], found["sequential"], rtol=0.1, atol=5e-4)
    assert (found["sequential"] < -0.005).all()


def test_choppers_turn_pulses_and_readings(key):
    """A gradient is followed whatever the sign of its row; regular choppers change after every second sweep."""
    rule = Transfer(every=(1,), fast_rate=0.01, rate=0.5, chop=0.5, chop_order="regular", buffered=False)
    hw = hardware()
    crossbar, memory = start(hw, rule, shape=(2, 1))
    signs = []
    for _ in range(8):
        crossbar, memory = transferred(None, hw, rule, crossbar, told([1.0, -1.0], [1.0]), memory, 1.0)
        signs.append(crossbar.cells.state["chopper"][0, 0, 0, :, 0].tolist())
    assert signs == [[1, 1], [1, 1], [-1, 1], [-1, -1], [-1, -1], [-1, -1], [1, -1], [1, 1]]
    # row 0: what its sign has gathered, in units of 0.01: 1 and 3 read by a plus; of 3 then 1 back, 1 read by a minus
    np.testing.assert_allclose(part(hw, crossbar, "fast").ravel(), [-0.0, 0.0], atol=0.021)
    assert float(part(hw, crossbar, "slow")[0, 0]) < 0 < float(part(hw, crossbar, "slow")[1, 0])


def test_random_choppers_change_as_often_as_asked(key):
    rule = Transfer(every=(1,), fast_rate=0.0, rate=0.0, chop=0.3)
    hw = hardware(pulses=PulseTrain())
    crossbar, memory = start(hw, rule, shape=(2000, 1))
    seen = told(jnp.ones((2000, 2000)), jnp.ones((2000, 1)))
    crossbar, _ = transferred(key, hw, rule, crossbar, seen, memory, 1.0)
    flipped = float((crossbar.cells.state["chopper"] < 0).mean())
    assert abs(flipped - 0.3) < 5 * np.sqrt(0.21 / 2000)


def test_the_visible_weight_has_the_fast_one_with_its_chopper():
    """slow + gamma c fast: 0.4 and 0.2, gamma = 0.1, for both signs: 0.42 and 0.38."""
    hw = hardware(gamma=0.1)
    device = hw.device
    cells = device.fabricate(None, (2,))
    parts = {
        name: getattr(device, name).wait(
            None, getattr(device, name).program(None, c, jnp.full(2, w) * device.g_max), 0.0
        )
        for (name, c), w in zip(cells.parts.items(), (0.4, 0.2), strict=True)
    }
    cells = cells.replace(parts=parts, state={"chopper": jnp.array([1.0, -1.0])})
    np.testing.assert_allclose(device.conductance(cells) / device.g_max, [0.42, 0.38], rtol=1e-5)
    moved = device.pulse(None, cells, jnp.full(2, 100.0))
    np.testing.assert_allclose(device.conductance(moved) / device.g_max, [0.421, 0.381], rtol=1e-4)


# -- readings ----------------------------------------------------------------------------------------------------------


def test_readings_go_through_converters_and_noise(key):
    rule = Transfer(every=(1,), fast_rate=0.0, rate=0.5, buffered=False)
    errors = {}
    for name, fields in (
        ("ideal", {}),
        ("noisy", {"output_noise": OutputNoise(sigma=0.05)}),
        ("coarse", {"adc": ADC(bits=3, bound=1.0)}),
    ):
        hw = hardware(**fields)
        crossbar, memory = start(hw, rule, shape=(1, 3000))
        crossbar = offset(hw, crossbar, -0.3)
        crossbar, _ = transferred(key, hw, rule, crossbar, told([0.0], jnp.zeros(3000)), memory, 1.0)
        errors[name] = np.asarray(part(hw, crossbar, "slow"))[0] - 0.15
    assert np.abs(errors["ideal"]).max() < 2e-4
    np.testing.assert_allclose(errors["noisy"].std(), 0.5 * 0.05, rtol=0.07)
    np.testing.assert_allclose(errors["coarse"], 0.5 * 1 / 3 - 0.15, atol=2e-4)  # seven levels within 1


# -- chains, chips, nothing to learn -----------------------------------------------------------------------------------


def test_nested_cells_hand_on_what_they_gather(key):
    rule = Transfer(every=(1, 2), fast_rate=0.1, rate=0.5, buffered=False)
    inner = Residual(slow=pair(), fast=pair(), gamma=0.1)
    hw = hardware().replace(device=Residual(slow=pair(), fast=inner, gamma=0.1))
    crossbar, memory = start(hw, rule, shape=(1, 2))
    for _ in range(4):
        crossbar, memory = transferred(None, hw, rule, crossbar, told([1.0], [1.0, -0.5]), memory, 1.0)
    d = np.array([1.0, -0.5])
    fast = -0.1 * 4 * d
    middle = -0.5 * 0.1 * (1 + 2 + 3 + 4) * d
    slow = -0.25 * 0.1 * ((1 + 2) + (1 + 2 + 3 + 4)) * d
    found = [
        crossbar.cells.parts["fast"].parts["fast"],
        crossbar.cells.parts["fast"].parts["slow"],
        crossbar.cells.parts["slow"],
    ]
    for cells, wanted in zip(found, (fast, middle, slow), strict=True):
        np.testing.assert_allclose(pair().conductance(cells).ravel() / pair().g_max, wanted, atol=1e-3)
    assert memory.reads.tolist() == [4, 2]
    assert [float(p.sum()) > 0 for p in memory.pulses] == [True] * 3


@pytest.mark.parametrize("fields", [{"buffered": True}, {"buffered": False, "chop": 0.5}])
def test_nested_cells_take_neither_buffers_nor_choppers(fields):
    inner = Residual(slow=pair(), fast=pair(), gamma=0.1)
    hw = hardware().replace(device=Residual(slow=pair(), fast=inner, gamma=0.1))
    with pytest.raises(ValueError, match=r"nested Residual cells take Transfer\(buffered=False, chop=None\); got"):
        start(hw, Transfer(every=(1, 2), **fields))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["aggregate", "sequential"])
def test_chips_side_by_side_are_chips_one_by_one(order, key):
    rough = SoftBounds(dx=0.01, dx_d2d=0.3, c2c=0.3, x_max_d2d=0.3, **WINDOW)
    rule = Transfer(every=(2,), chop=0.5, follow=0.5, horizon=20.0)
    hw = hardware(rough, rough, pulses=PulseTrain())
    x, d = examples(key, 5)

    def run(key):
        crossbar, memory = start(hw, rule, key)

        def step(carry, k):
            return transferred(k, hw, rule, carry[0], told(x, d, order), carry[1], 0.5), None

        return part(hw, jax.lax.scan(step, (crossbar, memory), jax.random.split(key, 6))[0][0], "slow")

    keys = jax.random.split(key, 3)
    together = jax.jit(jax.vmap(run))(keys)
    for k in range(3):
        np.testing.assert_allclose(together[k], jax.jit(run)(keys[k]), rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(together[0] - together[1]).max()) > 1e-3


@pytest.mark.parametrize("order", ["aggregate", "sequential"])
@pytest.mark.parametrize(("x", "d", "rate"), [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0)])
def test_nothing_to_learn_sends_no_pulse(order, x, d, rate, key):
    rule = Transfer(every=(1,))
    soft = SoftBounds(dx=0.01, c2c=0.3, **WINDOW)
    hw = hardware(soft, soft, pulses=PulseTrain())
    crossbar, memory = start(hw, rule, key, weights=0.1)
    seen = told(jnp.full((4, 3), x), jnp.full((4, 2), d), order)
    after, memory = transferred(key, hw, rule, crossbar, seen, memory, rate)
    assert float(memory.pulses[0].sum()) == 0
    np.testing.assert_array_equal(part(hw, after, "slow"), part(hw, crossbar, "slow"))


@pytest.mark.parametrize("order", ["aggregate", "sequential"])
def test_not_a_number_is_not_forgotten(order, key):
    rule = Transfer(every=(1,))
    hw = hardware(pulses=PulseTrain())
    crossbar, memory = start(hw, rule)
    seen = jax.jit(lambda d: told(jnp.ones((1, 3)), d, order))(jnp.array([[jnp.nan, 1.0]]))
    after, _ = transferred(key, hw, rule, crossbar, seen, memory, 1.0)
    assert np.isnan(part(hw, after, "fast")).any()


@pytest.mark.slow
def test_what_is_carried_over_has_derivatives(key, x64):
    """By the steps and their asymmetry, of the slow weights after several readings: finite differences."""
    rule = Transfer(every=(1,), fast_rate=0.3, rate=0.5, buffered=False, chop=0.5, chop_order="regular", follow=0.5)
    base = SoftBounds(dx=0.01, up_down=0.2, **WINDOW)
    x, d = (a.astype(jnp.float64) for a in examples(key, 4))

    def final(device):
        hw = hardware(device, device, pulses=PulseTrain(kind="deterministic", length=100_000))
        crossbar, memory = start(hw, rule, shape=(3, 2), weights=0.1)
        # real-valued pulses: of the fast cells only, as trains are whole
        crossbar, memory = transferred(None, hw, rule, crossbar, told(x, d), memory, 1.0)
        return jnp.sum(part(hw, crossbar, "fast") ** 2)

    slope = jax.grad(final)(base)
    for name in ("up_down", "dx"):
        at = getattr(base, name)
        up, down = (final(base.replace(**{name: at + s * 1e-6})) for s in (1, -1))
        np.testing.assert_allclose(getattr(slope, name), (up - down) / 2e-6, rtol=1e-4, err_msg=name)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_errors():
    with pytest.raises(ValueError, match=r"Residual\.fast must be a cell whose conductance has a sign, such as"):
        Residual(slow=pair(), fast=FINE)
    with pytest.raises(ValueError, match=r"Transfer\.every must be positive integers; got \(0,\)"):
        Transfer(every=(0,))
    with pytest.raises(ValueError, match=r"Transfer\.follow .* needs chop; got None"):
        Transfer(follow=0.5)
    with pytest.raises(ValueError, match=r"Transfer\.chop must be greater than 0 and at most 1; got 2"):
        Transfer(chop=2.0)
    plain = Hardware(device=pair(), mapping=Signed(scale_by="none"))
    with pytest.raises(ValueError, match=r"Hardware\.device must be a Residual.* got ReferencePair"):
        start(plain, Transfer())
    with pytest.raises(ValueError, match=r"Transfer\.every must have 1 numbers, .* got \(1, 2\)"):
        start(hardware(), Transfer(every=(1, 2)))
