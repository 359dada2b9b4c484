"""Stuck cells: how many, for how long, at what value, seen by whom; the declared gradient; falsified twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax import Hardware, arrays
from anajax._record import record
from anajax.devices import Polynomial, SoftBounds, Table, faults, presets, telegraph
from anajax.devices.faults import Faulty, Uniform, Wrapper, stuck_values
from anajax.testing import check_device, check_distribution, check_moments

uS = 1e-6
IDEAL = presets.ideal(g_max=25e-6, g_min=2.5e-6)
VALUES = Uniform(low=5e-6, high=15e-6)
ALL = {"unformed": 0.02, "low": 0.05, "high": 0.03, "drawn": 0.04, "values": VALUES}


def programmed(device, key, shape, fraction=0.5):
    made, written = jax.random.split(key)
    cells = device.fabricate(made, shape)
    return device.program(written, cells, jnp.full(shape, device.g_min + fraction * device.window))


# checks that right models pass and falsified ones must not


def shares(cls, key, n=200_000):
    """Each kind has its probability, and no cell is of two. False alarm: 7e-6 for each of 4 z-tests."""
    masks = cls(device=IDEAL, **ALL).fault(cls(device=IDEAL, **ALL).fabricate(key, (n,)))
    assert set(masks) == {"unformed", "low", "high", "drawn"}
    assert float(sum(m.astype(float) for m in masks.values()).max()) == 1.0
    for kind, mask in masks.items():
        p = ALL[kind]
        check_moments(mask, p, np.sqrt(p * (1 - p)), name=kind)


def for_life(cls, key):
    """What is stuck stays where it is, to the bit: when read, programmed, pulsed, reset, and in a year."""
    device = cls(device=SoftBounds(dx=0.02, dx_d2d=0.3, c2c=0.3, g_min=1e-6), **ALL)
    cells = programmed(device, key, (20, 50))
    stuck = ~np.isclose(device.conductance(cells), 13e-6, rtol=1e-3)
    assert 80 < stuck.sum() < 210  # 140 +- 11
    level = np.asarray(device.conductance(cells))[stuck]
    keys = jax.random.split(jax.random.fold_in(key, 1), 5)
    pulsed = device.pulse(keys[0], cells, jnp.full((20, 50), 30.0))
    histories = {
        "read": cells,
        "programmed": device.program(keys[1], cells, jnp.full((20, 50), 5e-6)),
        "pulsed": pulsed,
        "waited": device.wait(keys[2], pulsed, 1e6),
        "reset": device.reset(keys[3], pulsed),
    }
    for name, after in histories.items():
        for time in (0.0, 3.2e7):
            np.testing.assert_array_equal(np.asarray(device.conductance(after, time))[stuck], level, err_msg=name)
            np.testing.assert_array_equal(np.asarray(device.read(keys[4], after, time))[stuck], level, err_msg=name)
    assert (np.asarray(device.conductance(pulsed)) != np.asarray(device.conductance(cells)))[~stuck].all()
    assert (np.asarray(device.step(cells, 1.0))[stuck] == 0).all()
    assert (np.asarray(device.step(cells, 1.0))[~stuck] > 0).all()


def _expected(p, h, x, t):
    """E of sum_j (y_j - t) and of sum_j (y_j - t)**2, y = x @ g, in closed form: mean, and mean**2 + variance."""
    stuck = {"unformed": 0.0, "low": IDEAL.g_min, "high": IDEAL.g_max}
    rest = 1 - sum(p.values())
    mean = sum(p[k] * s for k, s in stuck.items()) + rest * h
    second = sum(p[k] * s**2 for k, s in stuck.items()) + rest * h**2
    y = jnp.sum(x * mean, axis=0) - t
    return {"linear": jnp.sum(y), "quadratic": jnp.sum(y**2 + jnp.sum(x**2 * (second - mean**2), axis=0))}


def slopes(cls, key, function, chips=2000, rows=20, cols=3):
    """The declared derivative, in the mean over chips, is that of the expectation. False alarm: 7e-6 for each of 6."""
    with jax.enable_x64(True):
        p = {"unformed": 0.05, "low": 0.1, "high": 0.15}
        h = jnp.linspace(4e-6, 22e-6, rows * cols).reshape(rows, cols)
        x, t = jnp.cos(jnp.arange(rows))[:, None] * 1e5, 1.5

        def one(p, key):
            device = cls(device=IDEAL, **p)
            y = jnp.sum(x * device.conductance(device.fabricate(key, h.shape).replace(target=h)), axis=0) - t
            return jnp.sum(y if function == "linear" else y**2)

        keys = jax.random.split(key, chips)
        run = jax.jit(jax.vmap(jax.value_and_grad(one), in_axes=(None, 0)))
        _, found = run(p, keys)
        wanted = jax.jit(jax.grad(lambda p: _expected(p, h, x, t)[function]))(p)
        for kind in p:
            # the closed form itself, by a difference between the same chips at two probabilities
            (ahead, _), (behind, _) = (run({**p, kind: p[kind] + e}, keys) for e in (0.02, -0.02))
            for name, samples in (("difference", (ahead - behind) / 0.04), ("gradient", found[kind])):
                error = float(np.std(samples)) / np.sqrt(chips) + 1e-9 * abs(float(wanted[kind]))
                distance = abs(float(np.mean(samples)) - float(wanted[kind])) / error
                assert distance < 4.5, f"{name} by {kind}, {function}: {distance:.1f} standard errors from expected"


@record
class TooMany(Faulty):
    def _probabilities(self):
        return {kind: 1.1 * p for kind, p in super()._probabilities().items()}


@record
class Restless(Faulty):
    """Faults that move about: other cells at each read."""

    def _seen(self, cells, g):
        moved = jnp.roll(cells.score("fault"), jnp.sum(g * 1e9).astype(int), axis=-1)
        return super()._seen(cells.replace(scores=cells.scores | {"fault": moved}), g)


@record
class Forgetful(Faulty):
    """Faults drawn anew at each programming."""

    def program(self, key, cells, target):
        cells = super().program(key, cells, target)
        return cells.replace(scores=cells.scores | self.fabricate(key, target.shape).scores)


def straight(event, probability, other=None, rest=None):
    """The first order: derivative 1 in every cell."""
    return event + (probability - jax.lax.stop_gradient(probability))


def healthy_only(event, probability, other=None, rest=None):
    """Derivative 1 in cells that are not yet faulty."""
    return event + (~event if other is None else other) * (probability - jax.lax.stop_gradient(probability))


def test_shares(key):
    shares(Faulty, key)


def test_for_life(key):
    for_life(Faulty, key)


@pytest.mark.parametrize("function", ["linear", "quadratic"])
def test_slopes(function, key):
    slopes(Faulty, key, function)


@pytest.mark.parametrize(
    ("check", "twin"), [(shares, TooMany), (for_life, Restless), (for_life, Forgetful)], ids=lambda x: x.__name__
)
def test_twins_are_rejected(check, twin, key):
    with pytest.raises(AssertionError):
        check(twin, key)


@pytest.mark.parametrize(
    ("estimator", "function"), [(healthy_only, "linear"), (straight, "quadratic")], ids=["healthy only", "straight"]
)
def test_other_estimators_are_rejected(estimator, function, key, monkeypatch):
    monkeypatch.setattr(faults, "straight_through", estimator)
    with pytest.raises(AssertionError, match="gradient by"):
        slopes(Faulty, key, function)


# what a cell is stuck at


def test_levels(key):
    device = Faulty(device=IDEAL, **ALL)
    cells = programmed(device, key, (300, 300))
    g = np.asarray(device.conductance(cells))
    masks = {kind: np.asarray(mask) for kind, mask in device.fault(cells).items()}
    for kind, level in (("unformed", 0.0), ("low", 2.5e-6), ("high", 25e-6)):
        np.testing.assert_array_equal(g[masks[kind]], np.float32(level))
    check_distribution(g[masks["drawn"]], lambda x: jnp.clip((x - 5e-6) / 10e-6, 0, 1))
    np.testing.assert_array_equal(g[~np.any(list(masks.values()), axis=0)], np.float32(13.75e-6))


def test_every_cell_or_none(key):
    assert float(programmed_g(Faulty(device=IDEAL, unformed=1.0), key).max()) == 0.0
    certain = Faulty(device=IDEAL, low=0.1, high=0.2, unformed=0.7)  # in float32 the sum is not quite 1
    cells = certain.fabricate(key, (100_000,))
    assert bool(sum(m.astype(int) for m in certain.fault(cells).values()).all())
    np.testing.assert_array_equal(programmed_g(Faulty(device=IDEAL, low=0.0), key), np.float32(13.75e-6))
    np.testing.assert_array_equal(programmed_g(Faulty(device=IDEAL), key), np.float32(13.75e-6))


def programmed_g(device, key):
    return device.conductance(programmed(device, key, (1000,)))


def test_faults_grow_with_probability(key):
    few, many = Faulty(device=IDEAL, low=0.02), Faulty(device=IDEAL, low=0.05)
    cells = few.fabricate(key, (50_000,))
    one, other = np.asarray(few.fault(cells)["low"]), np.asarray(many.fault(cells)["low"])
    assert (one <= other).all()
    assert one.sum() < other.sum()


def test_mean_cell_is_healthy(key):
    device = Faulty(device=IDEAL, unformed=0.6)  # even where most cells are faulty
    cells = programmed(device, key, (4,))
    cells = device.program(None, device.fabricate(None, (4,)), cells.target)
    np.testing.assert_array_equal(device.conductance(cells), cells.target)
    assert not device.fault(cells)["unformed"].any()
    assert float(jax.grad(lambda d: d.conductance(cells).sum())(device).unformed) == 0.0


def test_a_stuck_cell_has_no_read_noise(key):
    device = Faulty(device=presets.pcm(), unformed=0.2, high=0.2)
    cells = programmed(device, key, (40, 50))
    faulty = np.any(list(device.fault(cells).values()), axis=0)
    noise = np.asarray(device.read_noise(cells, 60.0))
    assert (noise[faulty] == 0).all()
    np.testing.assert_array_equal(noise[~faulty], np.asarray(presets.pcm().read_noise(cells, 60.0))[~faulty])


def test_healthy_cells_are_those_of_the_inner_device(key):
    inner = presets.pcm()
    device = Faulty(device=inner, **ALL)
    cells, bare = programmed(device, key, (30, 30)), programmed(inner, key, (30, 30))
    healthy = ~np.any(list(device.fault(cells).values()), axis=0)
    for time in (0.0, 1e6):
        for name in ("conductance", "read_noise"):
            seen, alone = getattr(device, name)(cells, time), getattr(inner, name)(bare, time)
            np.testing.assert_array_equal(np.asarray(seen)[healthy], np.asarray(alone)[healthy])
        seen, alone = device.read(key, cells, time), inner.read(key, bare, time)
        np.testing.assert_array_equal(np.asarray(seen)[healthy], np.asarray(alone)[healthy])


def test_window_is_the_inner_devices():
    device = Faulty(device=IDEAL, low=0.1)
    assert (float(device.g_min), float(device.g_max)) == (float(IDEAL.g_min), float(IDEAL.g_max))
    wider = device.replace(**{"device.g_max": 50e-6})
    assert float(wider.g_max) == pytest.approx(50e-6)
    assert float(wider.stuck(wider.fabricate(None, (2,)))["low"]) == pytest.approx(2.5e-6)
    assert len(jax.tree.leaves(device)) == 3  # the window, and one probability


# measured stuck values


def test_stuck_values_of_many_samples_are_their_distribution(key):
    samples = 5e-6 + 1e-6 * jax.random.normal(key, (4000,))
    values = stuck_values(samples)
    u = jnp.asarray([0.02, 0.16, 0.5, 0.84, 0.98])
    # a normal of 1 uS, broadened by Scott's 4000**-0.2 of it: 1.0179 uS; errors of quantiles up to 0.05 uS
    wanted = 5 + 1.0179 * np.asarray(jax.scipy.stats.norm.ppf(u))
    np.testing.assert_allclose(values(u) / uS, wanted, atol=0.1)


def test_stuck_values_have_scotts_bandwidth():
    values = stuck_values([4e-6, 6e-6], low=0.0, high=50e-6)
    # std sqrt(2) uS, times 2**-0.2: 1.23114 uS around each; the mixture's median is 5, its variance 1 + 1.23114**2
    u = jnp.linspace(0.5 / 20_000, 1 - 0.5 / 20_000, 20_000)
    g = np.asarray(values(u), np.float64) / uS
    np.testing.assert_allclose([g.mean(), np.median(g)], [5.0, 5.0], atol=2e-3)
    np.testing.assert_allclose(g.std(), np.sqrt(1 + 1.23114**2), rtol=3e-3)
    # a fifth below 3.3: 0.5 (Phi(-0.7 / 1.23114) + Phi(-2.7 / 1.23114)) = 0.14920
    np.testing.assert_allclose(np.mean(g < 3.3), 0.14920, atol=1e-3)


def test_stuck_values_are_reflected():
    values = stuck_values([0.2e-6, 0.4e-6, 9.9e-6], low=0.0, high=10e-6)
    g = np.asarray(values(jnp.linspace(0.0, 1.0, 1001)))
    assert (g >= 0).all()
    assert (g <= 10e-6).all()
    # reflection keeps each sample's weight inside: the two near zero hold two thirds of the mass below the middle
    width = np.std([0.2, 0.4, 9.9], ddof=1) * 3**-0.2
    phi = lambda z: float(jax.scipy.stats.norm.cdf(z))  # noqa: E731
    below = 0.0
    for c in (0.2, 0.4, 9.9):
        for image in (c, -c, 20 - c, c - 20, c + 20, -20 - c):
            below += phi((5 - image) / width) - phi((0 - image) / width)
    np.testing.assert_allclose(np.mean(g < 5e-6), below / 3, atol=2e-3)


# arrays of cells


def test_hardware_reads_through_faults(key):
    device = Faulty(device=presets.ideal(g_max=25e-6), unformed=0.05)
    hardware = Hardware(device=device)
    w = jnp.ones((200, 150))
    tile = arrays.program(key, hardware, w)
    effective = arrays.settle(None, hardware, tile, w, 10.0)
    weights = np.asarray(effective.weights).ravel()
    assert set(np.unique(weights)) == {0.0, 1.0}
    check_moments(weights, 0.95, np.sqrt(0.95 * 0.05))
    y = arrays.mvm(None, hardware, effective, jnp.ones(200))
    np.testing.assert_allclose(y, np.asarray(effective.weights)[0, 0].sum(0), rtol=1e-5)
    np.testing.assert_array_equal(arrays.settle(None, hardware, tile, w, 1e7).weights, effective.weights)
    whole = arrays.settle(None, hardware, arrays.program(None, hardware, w), w)
    np.testing.assert_array_equal(whole.weights, np.ones_like(effective.weights))


def test_gradient_through_a_network_is_right_within_its_noise(key):
    """Of the overlap with the ideal output of a 16-8-3 tanh network, over 2,000 chips; the guide has larger runs."""
    keys = jax.random.split(jax.random.key(3), 3)
    w = [jax.random.normal(keys[0], (16, 8)) / 4, jax.random.normal(keys[1], (8, 3)) / 3]
    x = jax.random.normal(keys[2], (10, 16))
    ideal = jnp.tanh(x @ w[0]) @ w[1]

    def overlap(p, key):
        hardware = Hardware(device=Faulty(device=IDEAL, high=p))
        h = x
        for i, k in enumerate(jax.random.split(key, 2)):
            effective = arrays.settle(None, hardware, arrays.program(k, hardware, w[i]), w[i])
            h = arrays.mvm(None, hardware, effective, jnp.tanh(h) if i else h)
        return jnp.mean(h * ideal)

    run = jax.jit(jax.vmap(jax.value_and_grad(overlap), in_axes=(None, 0)))
    keys = jax.random.split(key, 2000)
    (ahead, _), (_, found), (behind, _) = (run(p, keys) for p in (0.13, 0.1, 0.07))
    wanted = (ahead - behind) / 0.06
    error = np.hypot(np.std(found), np.std(wanted)) / np.sqrt(found.size)
    assert error < 0.1 * abs(float(wanted.mean()))
    assert abs(float(found.mean() - wanted.mean())) < 4.5 * error


def test_masks_do_not_depend_on_how_work_is_cut(key):
    device = Faulty(device=IDEAL, **ALL)
    keys = jax.random.split(key, 5)

    def masks(key):
        return device.fault(device.fabricate(key, (40, 50)))

    one_by_one = [masks(k) for k in keys]
    for chips in (jax.jit(jax.vmap(masks))(keys), jax.jit(lambda k: jax.lax.map(masks, k, batch_size=2))(keys)):
        for kind, mask in chips.items():
            np.testing.assert_array_equal(mask, np.stack([chip[kind] for chip in one_by_one]))


def test_each_chip_has_its_own_faults(key):
    device = Faulty(device=IDEAL, low=0.3)
    one, other = (device.fault(device.fabricate(k, (50_000,)))["low"] for k in jax.random.split(key))
    check_moments((one - 0.3) * (other - 0.3), 0.0, 0.21)


def test_a_probability_can_be_swept(key):
    device = Faulty(device=IDEAL, low=0.0)
    cells = programmed(device, key, (20_000,))
    swept = jax.vmap(lambda p: device.replace(low=p).fault(cells)["low"].mean())(jnp.asarray([0.0, 0.1, 1.0]))
    np.testing.assert_allclose(swept, [0.0, 0.1, 1.0], atol=0.01)


# the contract


@pytest.fixture
def held(monkeypatch):
    """Hold events fixed, so that finite differences see the same derivatives."""
    for module in (faults, telegraph):
        monkeypatch.setattr(module, "straight_through", lambda event, *_: event * 1.0)


WRAPPED = {
    "pcm": lambda: Faulty(device=presets.pcm().replace(g_min=1e-6), **ALL),
    "soft bounds": lambda: Faulty(
        device=SoftBounds(dx=0.03, dx_d2d=0.2, x_max_d2d=0.1, g_min=1e-6, read_curve=Polynomial(coefficients=[1e-8])),
        **ALL | {"values": Table(u=[0.0, 0.3, 1.0], values=[1e-6, 4e-6, 20e-6])},
    ),
    "without faults": lambda: Faulty(device=IDEAL),
    "telegraph": lambda: Faulty(
        device=telegraph.Telegraph(device=presets.pcm().replace(g_min=1e-6), probability=0.4, size=0.2, size_sigma=0.3),
        low=0.25,
    ),
}


@pytest.mark.parametrize("name", [n if n == "pcm" else pytest.param(n, marks=pytest.mark.slow) for n in WRAPPED])
@pytest.mark.usefixtures("held")
def test_contract(name, key):
    check_device(WRAPPED[name](), key)


def test_slopes_are_finite_at_the_ends(key):
    for p in (0.0, 1.0):
        device = Faulty(device=IDEAL, low=p)
        cells = programmed(device, key, (100,))
        slope = jax.grad(lambda d, cells=cells: d.conductance(cells).sum())(device).low
        np.testing.assert_allclose(slope, 100 * (2.5e-6 - 13.75e-6), rtol=1e-4)


def test_nested_wrappers(key):
    inner = telegraph.Telegraph(device=presets.pcm(), probability=1.0, size=1.0)
    device = Faulty(device=inner, high=0.3)
    assert set(device.life_scores) == {"fault", "rtn", "drift"}
    assert device.program_scores == ("program",)
    cells = programmed(device, key, (3000,))
    assert set(cells.scores) == {"fault", "rtn", "drift", "program"}
    stuck = np.asarray(device.fault(cells)["high"])
    reads = np.stack([device.read(k, cells, 1.0) for k in jax.random.split(key, 3)])
    np.testing.assert_array_equal(reads[:, stuck], np.float32(25e-6))
    alone = np.asarray(presets.pcm().conductance(cells, 1.0))[~stuck]
    mean, std = float(np.mean(reads[0][~stuck] / alone)), float(np.std(reads[0][~stuck] / alone))
    assert abs(mean - 0.75) < 0.05
    assert 0.24 < std < 0.35  # two levels, 1 and 1/2, and PCM's own noise


def test_scores_survive_a_device_that_drops_them(key):
    @record
    class Careless(type(IDEAL)):
        def program(self, key, cells, target):
            return self.fabricate(None, target.shape).replace(target=target)

    device = Faulty(device=Careless(g_max=25e-6), unformed=0.5)
    assert set(programmed(device, key, (10,)).scores) == {"fault"}


def test_what_the_inner_device_lacks_is_missing(key):
    device = Faulty(device=presets.pcm(), low=0.1)
    cells = programmed(device, key, (3,))
    for call in (
        lambda: device.pulse(None, cells, jnp.ones(3)),
        lambda: device.step(cells, 1.0),
        lambda: device.reset(None, cells),
        lambda: device.wait(None, cells, 1.0),
        lambda: device.symmetry_point(cells),
    ):
        with pytest.raises(NotImplementedError, match=r"PCM has no "):
            call()
    soft = SoftBounds(x_min=-0.5, g_min=1e-6)
    wrapped = Wrapper(device=soft)
    cells = wrapped.fabricate(None, (3,))
    np.testing.assert_array_equal(wrapped.symmetry_point(cells), soft.symmetry_point(cells))


@pytest.mark.parametrize(
    ("make", "error", "parts"),
    [
        (lambda: Faulty(device=IDEAL, low=1.2), ValueError, ("Faulty.low", "1.2", "at most 1")),
        (lambda: Faulty(device=IDEAL, high=-0.1), ValueError, ("Faulty.high", "-0.1", "at least 0")),
        (lambda: Faulty(device=IDEAL, low=0.7, high=0.6), ValueError, ("low + high", "1.3", "at most 1")),
        (lambda: Faulty(device=IDEAL, drawn=0.1), ValueError, ("Faulty.drawn", "values=None", "together")),
        (lambda: Faulty(device=IDEAL, values=VALUES), ValueError, ("Faulty.values", "drawn=None", "together")),
        (lambda: Faulty(device=IDEAL, drawn=0.1, values=[1e-6]), TypeError, ("Faulty.values", "a curve")),
        (lambda: Faulty(device=3.0, low=0.1), TypeError, ("Faulty.device", "3.", "must be a Device")),
        (
            lambda: Faulty(device=Faulty(device=IDEAL, low=0.1), high=0.1),
            ValueError,
            ("Faulty.device", "'fault'", "none of the scores"),
        ),
        (lambda: stuck_values([1e-6]), ValueError, ("samples", "1.e-06", "at least two")),
        (lambda: stuck_values([1e-6, 1e-6]), ValueError, ("samples", "at least two values that differ")),
        (lambda: stuck_values([1e-6, float("nan")]), ValueError, ("samples", "nan")),
        (lambda: stuck_values([1e-6, -2e-6]), ValueError, ("samples", "-2e-06", "at least 0")),
        (lambda: stuck_values([1e-6, 5e-6], high=4e-6), ValueError, ("samples", "5e-06", "at most 4e-06")),
        (lambda: stuck_values([1e-6, 5e-6], low=2e-6, high=1e-6), ValueError, ("high", "1e-06", "greater than 2e-06")),
    ],
)
def test_impossible_settings_are_refused(make, error, parts):
    with pytest.raises(error) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)
