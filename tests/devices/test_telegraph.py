"""Random telegraph noise: who has it, how large, how often; its trace in time; gradients; falsified twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax import Hardware, arrays
from anajax._record import record
from anajax.devices import LogLinear, Polynomial, SoftBounds, faults, presets, telegraph
from anajax.devices.telegraph import Reciprocal, Telegraph, avmco_rtn, pytorx_rtn, ta2o5_rtn
from anajax.testing import check_device, check_distribution, check_moments

uS = 1e-6
IDEAL = presets.ideal(g_max=40e-6)

# probability of telegraph noise over resistance, Joksas et al. 2020
TA2O5 = [(25, 40.6), (50, 43.75), (75, 46.9), (100, 59.4), (125, 62.5), (150, 65.6), (175, 68.75), (200, 71.9)]
AVMCO = [(1.00, 6.67), (1.92, 8.89), (2.84, 8.89), (3.76, 15.6), (4.68, 20), (5.60, 20), (6.52, 24.4), (7.50, 28.9)]


def at(device, key, g, shape):
    made, written = jax.random.split(key)
    return device.program(written, device.fabricate(made, shape), jnp.full(shape, g))


# checks that right models pass and falsified ones must not


def gaussian_and_exact(cls, key, n=200_000):
    """Reads of one cell have the mean `conductance` and the spread `read_noise`. False alarm: 7e-6 for each of 6."""
    device = cls(device=presets.pcm(), probability=0.6, size=0.4, size_sigma=0.2, duty=0.3)
    for score, time in ((-1.0, 1e3), (-0.3, 0.0), (1.0, 1e3)):
        scores = {"rtn": score, "rtn_size": 0.7, "program": 0.4, "drift": -0.6}
        cells = device.fabricate(None, (1,)).replace(target=jnp.full(1, 15e-6))
        one = cells.replace(scores={name: jnp.full(1, x) for name, x in scores.items()})
        many = cells.replace(target=jnp.full(n, 15e-6), scores={name: jnp.full(n, x) for name, x in scores.items()})
        mean, std = float(device.conductance(one, time)[0]) / uS, float(device.read_noise(one, time)[0]) / uS
        check_moments(device.read(key, many, time) / uS, mean, std, rounding=2e-4 * std, name=f"score {score}")


def published(presets, key, n=40_000):
    """The shares of cells with a trap are the printed ones. False alarm: 7e-6 for each of 8 z-tests."""
    make, table = presets
    device = make(IDEAL, size=0.1, size_sigma=None, duty=0.5)
    for i, (resistance, percent) in enumerate(table):
        g = 40e-6 * table[0][0] / resistance
        p = percent / 100
        trap = device.trap(at(device, jax.random.fold_in(key, i), g, (n,)))
        check_moments(trap, p, np.sqrt(p * (1 - p)), name=f"{resistance}")


def sizes(cls, key, n=50_000):
    """Relative changes of the resistance are lognormal of the given median. False alarm: 1e-5."""
    device = cls(device=IDEAL, probability=1.0, size=0.2, size_sigma=0.5, duty=1.0)
    change = 30e-6 / np.asarray(device.read(key, at(device, key, 30e-6, (n,))), np.float64) - 1
    check_distribution(np.log(change / 0.2) / 0.5, jax.scipy.stats.norm.cdf)


def chain(cls, key, cells=4000, capture=3e-3, emission=1e-3):
    """Occupation has its mean, and its correlation exp(-dt (1/capture + 1/emission)), at uneven times.

    False alarm: 7e-6 for each of 2 x 7 z-tests.
    """
    device = cls(device=IDEAL, probability=1.0, size=1.0)
    times = np.cumsum([0.0, 1e-4, 3e-4, 1e-3, 0.0, 2e-3, 1.0])
    made = at(device, key, 30e-6, (cells,))
    g = np.asarray(device.trace(key, made, jnp.asarray(times), capture=capture, emission=emission))
    assert g.shape == (len(times), cells)
    np.testing.assert_allclose(np.unique(g), [15e-6, 30e-6], rtol=1e-6)
    d = emission / (capture + emission)
    s = (g < 20e-6) - d
    for i in range(len(times)):
        check_moments(s[i], 0.0, np.sqrt(d * (1 - d)), name=f"occupation at {times[i]:g} s")
        r = np.exp(-(times[i] - times[2]) * np.sign(i - 2) * (1 / capture + 1 / emission))
        # of the product of two such variables: E[(s_i s_j)**2] by the four joint probabilities
        both, neither = d * d + r * d * (1 - d), (1 - d) ** 2 + r * d * (1 - d)
        square = both * (1 - d) ** 4 + neither * d**4 + 2 * (1 - r) * d * (1 - d) * d**2 * (1 - d) ** 2
        mean = r * d * (1 - d)
        check_moments(s[i] * s[2], mean, np.sqrt(square - mean**2), rounding=1e-12, name=f"correlation {i}")


@record
class QuietSpread(Telegraph):
    """A spread of reads that forgets the inner device's noise."""

    def read_noise(self, cells, time=0.0):
        has, level = self._levels(cells)
        g = self.device.conductance(cells, time)
        return has * g * jnp.abs(level - 1) * jnp.sqrt(self.duty * (1 - self.duty))


@record
class Inverted(Telegraph):
    """Reads that find the trap empty when it should be occupied."""

    def read(self, key, cells, time=0.0):
        return super(Inverted, self.replace(duty=1 - self.duty)).read(key, cells, time)


@record
class MeanSize(Telegraph):
    """`size` taken for the mean of the lognormal, not its median."""

    def _levels(self, cells):
        return super(MeanSize, self.replace(size=self.size * jnp.exp(-(self.size_sigma**2) / 2)))._levels(cells)


@record
class OneSided(Telegraph):
    """A chain that relaxes with the capture rate alone."""

    def trace(self, key, cells, times, *, capture, emission):
        duty = emission / (capture + emission)
        # the same share of time, but a total rate of 1 / capture
        return super().trace(key, cells, times, capture=capture / duty, emission=capture / (1 - duty))


def too_many(device, **settings):
    right = ta2o5_rtn(device, **settings)
    return right.replace(**{"probability.values": 1.1 * right.probability.values})


def test_gaussian_and_exact(key):
    gaussian_and_exact(Telegraph, key)


@pytest.mark.parametrize("preset", [(ta2o5_rtn, TA2O5), (avmco_rtn, AVMCO)], ids=["ta2o5", "avmco"])
def test_published(preset, key):
    published(preset, key)


def test_sizes(key):
    sizes(Telegraph, key)


def test_chain(key):
    chain(Telegraph, key)


@pytest.mark.parametrize(
    ("check", "twin"),
    [
        (gaussian_and_exact, QuietSpread),
        (gaussian_and_exact, Inverted),
        (published, (too_many, TA2O5)),
        (published, (ta2o5_rtn, AVMCO)),
        (sizes, MeanSize),
        (chain, OneSided),
    ],
    ids=["quiet spread", "inverted", "too many", "other device", "mean size", "one-sided"],
)
def test_twins_are_rejected(check, twin, key):
    with pytest.raises(AssertionError):
        check(twin, key)


# what a read shows


def test_two_levels(key):
    device = Telegraph(device=IDEAL, probability=0.5, size=0.25, duty=0.4)
    cells = at(device, key, 30e-6, (5000,))
    trap = np.asarray(device.trap(cells))
    reads = np.stack([device.read(k, cells) for k in jax.random.split(key, 20)])
    np.testing.assert_allclose(np.unique(reads[:, trap]), [24e-6, 30e-6], rtol=1e-6)
    np.testing.assert_array_equal(reads[:, ~trap], np.float32(30e-6))
    check_moments(reads[:, trap] < 27e-6, 0.4, np.sqrt(0.24))
    # independent from cell to cell and from read to read
    low = (reads[:, trap] < 27e-6) - 0.4
    check_moments(low[1:] * low[:-1], 0.0, 0.24, name="from read to read")
    check_moments(low[:, 1:] * low[:, :-1], 0.0, 0.24, name="from cell to cell")


def test_traps_stay_while_the_state_does(key):
    device = Telegraph(device=presets.pcm(), probability=Polynomial(coefficients=[0.8, -0.6]), size=0.2)
    cells = at(device, key, 12e-6, (2000,))
    trap = np.asarray(device.trap(cells))
    mean, alone = (np.asarray(d.conductance(cells, 1e7)) for d in (device, presets.pcm()))
    np.testing.assert_array_equal(mean < 0.99 * alone, trap)  # also when most has drifted away
    again = device.program(key, cells, jnp.full(2000, 24e-6))
    np.testing.assert_array_equal(again.scores["rtn"], cells.scores["rtn"])
    fewer = np.asarray(device.trap(again))
    assert 0.15 < fewer.mean() < 0.3 < 0.4 < trap.mean() < 0.6  # 0.22 and 0.51
    assert (trap | ~fewer).mean() > 0.99  # the same cells, but for the few that programming noise moved apart


def test_mean_cell_has_no_trap(key):
    device = Telegraph(device=IDEAL, probability=0.9, size=0.2)
    cells = device.program(None, device.fabricate(None, (4,)), jnp.full(4, 30e-6))
    assert not device.trap(cells).any()
    np.testing.assert_array_equal(device.conductance(cells), cells.target)
    np.testing.assert_array_equal(device.read(key, cells), cells.target)
    np.testing.assert_array_equal(device.read_noise(cells), np.zeros(4))


def test_a_resistance_that_falls(key):
    device = Telegraph(device=IDEAL, probability=1.0, size=-0.2, duty=1.0)
    np.testing.assert_allclose(device.conductance(at(device, key, 20e-6, (2,))), 25e-6, rtol=1e-6)
    far = device.replace(size=-0.5, size_sigma=5.0)
    g = np.asarray(far.conductance(at(far, key, 20e-6, (500,))))
    np.testing.assert_allclose(g.max(), 200e-6, rtol=1e-6)  # never less than a tenth of the resistance


def test_pytorx(key):
    device = pytorx_rtn(presets.ideal(g_max=1 / 3e3, g_min=1 / 3e6))
    g = np.array([1 / 3e3, 1e-5, 1 / 3e6])
    cells = device.fabricate(key, (3,)).replace(target=jnp.asarray(g, jnp.float32))
    raised = 2 * np.asarray(device.conductance(cells), np.float64) - g
    x = 1.5e-3 * g + 1.662e-7
    np.testing.assert_allclose(raised - g, g * x / (g - x), rtol=2e-3)
    np.testing.assert_allclose(device.read_noise(cells), (raised - g) / 2, rtol=2e-3)
    capped = device.conductance(cells.replace(target=jnp.full(3, 1.7e-7)))  # the published rise diverges at 0.1662 uS
    np.testing.assert_allclose(capped, 5.5 * 1.7e-7, rtol=1e-5)
    assert float(Reciprocal(offset=1.0, scale=2.0)(jnp.asarray(0.5))) == 5.0


def test_unformed_cells_are_silent(key):
    device = Telegraph(device=faults.Faulty(device=IDEAL, unformed=0.5), probability=1.0, size=0.5)
    cells = at(device, key, 30e-6, (200,))
    silent = np.asarray(device.device.fault(cells)["unformed"])
    for x in (device.conductance(cells), device.read(key, cells), device.read_noise(cells)):
        assert (np.asarray(x)[silent] == 0).all()
        assert (np.asarray(x)[~silent] > 0).all()


def test_hardware_reads_telegraph_noise(key):
    device = Telegraph(device=presets.ideal(g_max=25e-6), probability=0.4, size=1.0)
    hardware = Hardware(device=device)
    w = jnp.ones((100, 150))
    tile = arrays.program(key, hardware, w)
    weights = [np.ravel(arrays.settle(k, hardware, tile, w).weights) for k in jax.random.split(key)]
    for found in weights:
        np.testing.assert_allclose(np.unique(found), [0.5, 1.0], rtol=1e-6)
        check_moments(found < 0.75, 0.2, 0.4)
    both = (weights[0] < 0.75) & (weights[1] < 0.75)  # only where the trap is: 0.4 / 4, not 0.2 ** 2
    check_moments(both, 0.1, 0.3)
    np.testing.assert_allclose(np.unique(arrays.settle(None, hardware, tile, w).weights), [0.75, 1.0], rtol=1e-6)


def test_bits_do_not_depend_on_how_work_is_cut(key):
    device = Telegraph(device=IDEAL, probability=0.3, size=0.2)
    keys = jax.random.split(key, 5)

    def chip(key):
        cells = at(device, key, 30e-6, (30, 40))
        return device.trap(cells), device.read(key, cells)

    one_by_one = [np.stack(x) for x in zip(*(chip(k) for k in keys), strict=True)]
    for chips in (jax.jit(jax.vmap(chip))(keys), jax.jit(lambda k: jax.lax.map(chip, k, batch_size=2))(keys)):
        np.testing.assert_array_equal(chips[0], one_by_one[0])
        np.testing.assert_allclose(chips[1], one_by_one[1], rtol=1e-6)
    assert not np.array_equal(one_by_one[0][0], one_by_one[0][1])


# traces


def test_trace_drifts_with_the_inner_device(key):
    device = Telegraph(device=presets.pcm(), probability=0.0, size=0.2)
    cells = at(device, key, 15e-6, (7,))
    times = jnp.asarray([0.0, 1.0, 1e4])
    trace = device.trace(key, cells, times, capture=1.0, emission=1.0)
    np.testing.assert_allclose(trace, jnp.stack([presets.pcm().conductance(cells, t) for t in times]), rtol=1e-6)


def test_trace_without_a_key_is_its_mean(key):
    device = Telegraph(device=IDEAL, probability=1.0, size=1.0)
    cells = at(device, key, 30e-6, (3,))
    trace = device.trace(None, cells, jnp.asarray([0.0, 1.0]), capture=3.0, emission=1.0)
    np.testing.assert_allclose(trace, np.full((2, 3), 30e-6 * (1 - 0.25 / 2)), rtol=1e-6)


def test_slope_of_a_trace_by_its_times(key):
    """The mean occupation is emission / (capture + emission), at any time. False alarm: 7e-6 for each of 2."""
    device = Telegraph(device=IDEAL, probability=1.0, size=1.0)
    cells = at(device, key, 1.0, (1,))
    times = jnp.asarray([0.0, 0.3, 0.5, 4.0])

    def last(capture, emission, key):
        return -2 * device.trace(key, cells, times, capture=capture, emission=emission)[-2:].sum() / 2

    found = jax.jit(jax.vmap(jax.grad(last, (0, 1)), (None, None, 0)))(3.0, 1.0, jax.random.split(key, 4000))
    for slope, wanted in zip(found, (-1 / 16, 3 / 16), strict=True):
        assert abs(float(slope.mean()) - wanted) < 4.5 * float(slope.std()) / np.sqrt(4000) + 1e-6
        assert np.isfinite(slope).all()


# gradients and the contract


@pytest.mark.parametrize("order", [1, 2])
def test_slopes_by_probability_and_duty(order, key):
    """Of E[(sum_i g_i - t)**order] over chips and reads, in closed form. False alarm: 7e-6 for each of 2."""
    n, level, t, chips = 12, 1 / 1.5, 10.0, 4000
    with jax.enable_x64(True):

        def one(p, duty, key):
            device = Telegraph(device=presets.ideal(g_max=1.0), probability=p, size=0.5, duty=duty)
            cells = device.program(None, device.fabricate(key, (n,)), jnp.ones(n))
            return (device.read(jax.random.fold_in(key, 1), cells).sum() - t) ** order

        def expected(p, duty):
            share = p * duty
            mean, variance = n * (1 - share * (1 - level)) - t, n * share * (1 - share) * (1 - level) ** 2
            return mean if order == 1 else mean**2 + variance

        found = jax.jit(jax.vmap(jax.grad(one, (0, 1)), (None, None, 0)))(0.4, 0.3, jax.random.split(key, chips))
        for slope, wanted in zip(found, jax.grad(expected, (0, 1))(0.4, 0.3), strict=True):
            assert abs(float(slope.mean() - wanted)) < 4.5 * float(slope.std()) / np.sqrt(chips)


def test_slope_by_the_state_includes_that_of_the_probability(key):
    """E[g] = g (1 - p(g) duty (1 - level)) has the slope of both factors."""
    line = Polynomial(coefficients=[0.2, 0.5])
    with jax.enable_x64(True):
        device = Telegraph(device=presets.ideal(g_max=1.0), probability=line, size=1.0)
        cells = device.fabricate(key, (4000,))

        def g(target):
            return device.conductance(cells.replace(target=target))

        slopes = jax.jit(jax.grad(lambda target: g(target).sum()))(jnp.full(4000, 0.6))
        wanted = 1 - (0.2 + 2 * 0.5 * 0.6) / 4
        assert abs(float(slopes.mean()) - wanted) < 4.5 * float(slopes.std()) / np.sqrt(4000)


@pytest.fixture
def held(monkeypatch):
    """Hold events fixed, so that finite differences see the same derivatives."""
    for module in (faults, telegraph):
        monkeypatch.setattr(module, "straight_through", lambda event, *_: event * 1.0)


WRAPPED = {
    "pcm": lambda: Telegraph(device=presets.pcm().replace(g_min=1e-6), probability=0.45, size=0.2, size_sigma=0.4),
    "soft bounds": lambda: ta2o5_rtn(
        SoftBounds(dx=0.03, dx_d2d=0.2, g_min=1e-6, read_curve=Polynomial(coefficients=[1e-7])),
        size=LogLinear(slope=-0.1, offset=0.2, low=0.05, high=0.9),
        size_sigma=0.2,
        duty=0.3,
    ).replace(probability=0.4),
    "faulty": lambda: Telegraph(device=faults.Faulty(device=IDEAL, high=0.25), probability=0.4, size=0.2),
}


@pytest.mark.parametrize("name", [n if n == "pcm" else pytest.param(n, marks=pytest.mark.slow) for n in WRAPPED])
@pytest.mark.usefixtures("held")
def test_contract(name, key):
    check_device(WRAPPED[name](), key)


def _traced(**changes):
    device = Telegraph(device=IDEAL, probability=0.5, size=0.2)
    cells = device.fabricate(None, (2,)).replace(target=jnp.full(2, 1e-6))
    settings = {"times": jnp.asarray([0.0, 1.0]), "capture": 1.0, "emission": 1.0} | changes
    return device.trace(jax.random.key(0), cells, settings.pop("times"), **settings)


@pytest.mark.parametrize(
    ("make", "error", "parts"),
    [
        (
            lambda: Telegraph(device=IDEAL, probability=1.1, size=0.1),
            ValueError,
            ("Telegraph.probability", "1.1", "at most 1"),
        ),
        (
            lambda: Telegraph(device=IDEAL, probability=0.1, size=-1.0),
            ValueError,
            ("Telegraph.size", "greater than -1"),
        ),
        (lambda: Telegraph(device=IDEAL, probability=0.1, size=0.1, duty=2.0), ValueError, ("Telegraph.duty", "got 2")),
        (
            lambda: Telegraph(device=IDEAL, probability=0.1, size=0.1, size_sigma=-1.0),
            ValueError,
            ("Telegraph.size_sigma", "at least 0"),
        ),
        (lambda: Telegraph(device=IDEAL, probability=IDEAL, size=0.1), TypeError, ("Telegraph.probability", "a curve")),
        (lambda: Telegraph(device=IDEAL, probability=0.1, size=None), TypeError, ("Telegraph.size", "None")),
        (
            lambda: Telegraph(device=pytorx_rtn(IDEAL), probability=0.1, size=0.1),
            ValueError,
            ("Telegraph.device", "'rtn'", "none of the scores"),
        ),
        (lambda: _traced(capture=0.0), ValueError, ("capture", "got 0", "greater than 0")),
        (lambda: _traced(emission=-1.0), ValueError, ("emission", "got -1", "greater than 0")),
        (lambda: _traced(times=jnp.asarray([1.0, 0.5])), ValueError, ("times", "0.5", "not descend")),
        (lambda: _traced(times=jnp.asarray([-1.0, 0.5])), ValueError, ("times", "-1", "at least 0")),
        (lambda: _traced(times=jnp.asarray(1.0)), ValueError, ("times", "(n)", "()")),
    ],
)
def test_impossible_settings_are_refused(make, error, parts):
    with pytest.raises(error) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)
