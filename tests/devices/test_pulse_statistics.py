"""Noise of step-response devices: of one pulse, of many at once, of writing, resetting, reading, and in time.

With fixed keys a test always passes or always fails; a right model fails a z-test for 7e-6 of the keys, a test of
its distribution for 1e-5. Falsified twins, such as a sigma x 1.1, must not pass.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pulsers import TABLE, cells_at

from anajax.devices import (
    Arrhenius,
    ConstantStep,
    Drift,
    Endurance,
    ExpStep,
    Leak,
    LinearStep,
    NeuroSim,
    Polynomial,
    Reference,
    SoftBounds,
    TableStep,
    record,
)
from anajax.testing import check_distribution, check_moments

N = 40_000
normal = jax.scipy.stats.norm.cdf


def distance(a, b):
    """Kolmogorov's distance of two samples."""
    a, b = np.sort(np.asarray(a).ravel()), np.sort(np.asarray(b).ravel())
    at = np.concatenate([a, b])
    ranks = (np.searchsorted(x, at, side="right") / x.size for x in (a, b))
    return float(np.max(np.abs(np.subtract(*ranks))))


def check_same(a, b, odds=1e-5):
    """Two samples of one distribution are that far apart with these odds."""
    allowed = math.sqrt(-math.log(odds / 2) / 2 * (1 / np.size(a) + 1 / np.size(b)))
    assert distance(a, b) < allowed, f"samples are {distance(a, b):.4f} apart, more than {allowed:.4f}"


def many(device, x, n=N):
    return cells_at(device, jnp.full(n, x))


@jax.jit
def pulsed(device, key, cells, counts):
    return device.pulse(key, cells, counts).state["x"]


@functools.partial(jax.jit, static_argnames="n")
def pulsed_singly(device, key, cells, way, n):
    """The state after `n` calls of one pulse, each with a key of its own."""
    calls = jax.random.split(key, n)
    return jax.lax.scan(lambda c, k: (device.pulse(k, c, way), None), cells, calls)[0].state["x"]


# -- noise of one pulse ----------------------------------------------------------------------------------------------

# device, state, count, mean change, its standard deviation
PULSES = {
    "constant": (lambda c: ConstantStep(dx=0.01, up_down=0.2, c2c=0.3 * c), 0.3, -1, -0.008, 0.0024),
    "soft, multiplicative": (lambda c: SoftBounds(dx=0.01, c2c=0.3 * c), 0.4, 1, 0.006, 0.0018),
    "soft, additive": (lambda c: SoftBounds(dx=0.01, c2c=0.3 * c, noise="additive"), 0.4, 1, 0.006, 0.003),
    "soft, root": (lambda c: SoftBounds(dx=0.01, c2c=0.3 * c, noise="root"), 0.4, 1, 0.006, 0.3 * 0.00006**0.5),
    "linear, root": (
        lambda c: LinearStep(dx=0.01, gamma_down=0.5, c2c=0.3 * c, noise="root"),
        0.4,
        -1,
        -0.012,
        0.3 * 0.00012**0.5,
    ),
    "half a pulse, by the root": (
        lambda c: ConstantStep(dx=0.01, up_down=0.2, c2c=0.3 * c, noise="root"),
        0.1,
        0.5,
        0.006,
        0.0036 * 0.5**0.5,
    ),
    "linear, multiplicative": (lambda c: LinearStep(dx=0.01, gamma_down=0.5, c2c=0.3 * c), 0.4, -1, -0.012, 0.0036),
    "linear, additive": (
        lambda c: LinearStep(dx=0.01, gamma_down=0.5, c2c=0.3 * c, noise="additive"),
        0.4,
        -1,
        -0.012,
        0.003,
    ),
    "one by one": (lambda c: SoftBounds(dx=0.01, c2c=0.3 * c, one_by_one=True), 0.4, 1, 0.006, 0.0018),
    "half a pulse, by jump": (lambda c: ConstantStep(dx=0.01, c2c=0.3 * c), 0.1, 0.5, 0.005, 0.003 * 0.5**0.5),
    "half a pulse, one by one": (
        lambda c: SoftBounds(dx=0.01, c2c=0.3 * c, one_by_one=True),
        0.4,
        -0.5,
        -0.007,
        0.0042 * 0.5**0.5,
    ),
    "exp": (lambda c: ExpStep(dx=0.01, c2c=0.3 * c), 0.0, 1, 0.00983432, 0.0029503),
    "exp, complex": (
        lambda c: ExpStep(dx=0.01, c2c=0.3 * c, c2c_floor=0.002, c2c_slope=0.01),
        -0.1,
        1,
        0.0099389,
        0.3 * (0.0099389 + 0.002 + 0.001),
    ),
    "table": (
        lambda c: TableStep(**TABLE, up_std=[0.01 * c] * 5, down_std=[0.02 * c] * 5),
        -0.7,
        -1,
        -0.0125,
        0.02,
    ),
    "neurosim": (lambda c: NeuroSim(p_up=100, c2c=0.003 * c), 0.4, 1, 0.01, 0.003),
}


def one_pulse(name, device, key):
    _, x, count, mean, std = PULSES[name]
    change = pulsed(device, key, many(device, x), count) - x
    check_moments(change, mean, std, rounding=2e-7, name=name)
    check_distribution((change - mean) / std, normal, name=name)


@pytest.mark.parametrize("name", PULSES)
def test_noise_of_one_pulse(name, key):
    one_pulse(name, PULSES[name][0](1.0), key)
    with pytest.raises(AssertionError):
        one_pulse(name, PULSES[name][0](1.1), key)


def test_other_noise_is_rejected(key):
    for noisy, other in itertools.permutations(("additive", "multiplicative", "root"), 2):
        for law in ("soft", "linear"):
            with pytest.raises(AssertionError):
                one_pulse(f"{law}, {noisy}", PULSES[f"{law}, {other}"][0](1.0), key)


# -- many pulses -----------------------------------------------------------------------------------------------------


def recursion(device, x, n, way):
    """Mean and standard deviation of the state after n pulses of a line a + s x, by moments, pulse for pulse."""
    cell = {name: np.asarray(v, np.float64) for name, v in device.realise(cells_at(device, 0.0)).items()}
    a, s = (float(v) for v in device.line(cell, jnp.asarray(way > 0)))
    mean, second = float(x), float(x) ** 2
    for _ in range(n):
        change, square = a + s * mean, a**2 + 2 * a * s * mean + s**2 * second
        step = float(device.additive(cell, jnp.asarray(way > 0)))
        noises = {
            "additive": step**2,
            "multiplicative": float(device.c2c) ** 2 * square,
            "root": step * float(device.c2c) * abs(change),  # where no noise turns steps round
        }
        noise = noises[device.noise]
        second = second + 2 * (a * mean + s * second) + square + noise
        mean = mean + change
    return mean, math.sqrt(second - mean**2)


# nothing meets a bound here: five deviations away at the least
LINES = {
    "constant": (lambda: ConstantStep(dx=0.004, c2c=1.0), -0.5, 100, 1),
    "soft, additive": (lambda: SoftBounds(dx=0.01, c2c=1.0, noise="additive"), -0.5, 60, 1),
    "linear, additive": (
        lambda: LinearStep(dx=0.006, gamma_up=0.5, gamma_down=0.5, c2c=1.0, noise="additive"),
        0.5,
        100,
        -1,
    ),
    "growing, additive": (
        lambda: LinearStep(dx=0.004, gamma_up=-0.7, gamma_down=-0.7, c2c=1.0, noise="additive"),
        0.0,
        80,
        -1,
    ),
    "soft, multiplicative": (lambda: SoftBounds(dx=0.01, c2c=1.0), -0.5, 60, 1),
    "soft, root": (lambda: SoftBounds(dx=0.01, c2c=1.0, noise="root"), -0.5, 60, 1),
    "growing, root": (lambda: LinearStep(dx=0.004, gamma_down=-0.7, c2c=1.0, noise="root"), 0.0, 80, -1),
    "linear, multiplicative": (lambda: LinearStep(dx=0.006, gamma_up=0.5, gamma_down=0.5, c2c=1.0), 0.5, 100, -1),
    "neurosim": (lambda: NeuroSim(nl_up=1.75, nl_down=-1.46, p_up=100, p_down=120, c2c=0.004), 0.3, 30, 1),
}


def many_pulses(name, device, key, also=True):
    """A jump, single pulses in one call, and single calls have the mean and deviation of the recursion."""
    make_right, x, n, way = LINES[name]
    mean, std = recursion(make_right(), x, n, way)
    jump, single = (device.replace(one_by_one=choice) for choice in (False, True))
    cells = many(device, x)
    k = jax.random.split(key, 3)
    samples = {"jump": pulsed(jump, k[0], cells, float(way * n)), "single": pulsed(single, k[1], cells, float(way * n))}
    samples["calls"] = pulsed_singly(jump, k[2], cells, float(way), n)
    for how, sample in samples.items():
        check_moments(sample, mean, std, rounding=1e-6, name=f"{name}, {how}")
    if "multiplicative" not in name:  # normal, each of them
        for how, sample in samples.items():
            check_distribution((sample - mean) / std, normal, name=f"{name}, {how}")
        check_same(samples["jump"], samples["single"])
        check_same(samples["jump"], samples["calls"])


@pytest.mark.parametrize("name", LINES)
def test_many_pulses_at_once_are_many_pulses(name, key):
    many_pulses(name, LINES[name][0](), key)


@record
class Forgetful(SoftBounds):
    """A jump whose noise does not decay with the state."""

    def _many(self, key, cell, x, n, up):
        end = super()._many(None, cell, x, n, up)
        return end if key is None else end + self.c2c * self.dx * jnp.sqrt(n) * jax.random.normal(key, x.shape)


@record
class Repeating(SoftBounds):
    """The same noise in every pulse of a call."""

    def _many(self, key, cell, x, n, up):
        end = super()._many(None, cell, x, n, up)
        return end if key is None else end + self.c2c * self.dx * n * jax.random.normal(key, x.shape)


@pytest.mark.parametrize("wrong", [SoftBounds, Forgetful, Repeating])
def test_wrong_noise_of_many_pulses_is_rejected(wrong, key):
    device = wrong(dx=0.01, c2c=1.1 if wrong is SoftBounds else 1.0, noise="additive", one_by_one=False)
    with pytest.raises(AssertionError):
        many_pulses("soft, additive", device, key)
    with pytest.raises(AssertionError):  # noise of the other kind
        many_pulses("soft, multiplicative", SoftBounds(dx=0.01, c2c=1.0, noise="additive"), key)
    for other in ("additive", "multiplicative"):
        with pytest.raises(AssertionError):
            many_pulses("soft, root", SoftBounds(dx=0.01, c2c=1.0, noise=other), key)


# dx, c2c, pulses, largest Kolmogorov distance of a jump to single pulses, from x = -0.5, with multiplicative noise
APART = [
    (0.01, 0.3, 10, 0.012),  # most of it from the size of the samples
    (0.01, 0.3, 100, 0.018),
    (0.01, 0.5, 300, 0.028),
    (0.002, 1.0, 500, 0.018),
    (0.002, 2.2, 1500, 0.045),
]


def jump_to_single(device, n, key):
    cells, keys = many(device, -0.5, 50_000), jax.random.split(key)
    ends = (pulsed(device.replace(one_by_one=o), k, cells, float(n)) for o, k in zip((False, True), keys, strict=True))
    return distance(*ends)


@pytest.mark.parametrize(("dx", "c2c", "n", "bound"), APART)
def test_multiplicative_jumps_are_nearly_normal(dx, c2c, n, bound, key):
    device = SoftBounds(dx=dx, c2c=c2c)
    assert not device._apart
    assert jump_to_single(device, n, key) < bound
    if n == 100:  # where steps are coarse, it is seen
        assert jump_to_single(device.replace(c2c=5.0), n, key) > 0.05


# -- the choice between a jump and single pulses ---------------------------------------------------------------------

LAWS = {
    "constant": lambda dx, c: ConstantStep(dx=dx, c2c=c),
    "linear, additive": lambda dx, c: LinearStep(dx=dx, c2c=c, gamma_up=0.5, gamma_down=0.5, noise="additive"),
    "linear, multiplicative": lambda dx, c: LinearStep(dx=dx, c2c=c, gamma_up=0.5, gamma_down=0.5),
    "soft, additive": lambda dx, c: SoftBounds(dx=dx, c2c=c, noise="additive"),
    "soft, multiplicative": lambda dx, c: SoftBounds(dx=dx, c2c=c),
    "growing, additive": lambda dx, c: LinearStep(dx=dx, c2c=c, gamma_up=-0.9, gamma_down=-0.9, noise="additive"),
    "soft, root": lambda dx, c: SoftBounds(dx=dx, c2c=c, noise="root"),
    "linear, root": lambda dx, c: LinearStep(dx=dx, c2c=c, gamma_up=0.5, gamma_down=0.5, noise="root"),
}


def threshold(law, dx):
    """The largest noise for which pulses jump."""
    low, high = 1e-4, 1e2
    for _ in range(12):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if LAWS[law](dx, middle)._apart else (middle, high)
    return low


def error_of_jumps(device, n, starts, key):
    """Largest error of the mean and of the standard deviation, as shares of the window."""
    worst = np.zeros(2)
    for x in starts:
        cells, keys = many(device, x, 10_000), jax.random.split(key)
        jump, single = (
            pulsed(device.replace(one_by_one=o), k, cells, float(n)) for o, k in zip((False, True), keys, strict=True)
        )
        off = [abs(float(f(jump) - f(single))) / 2 for f in (jnp.mean, jnp.std)]
        worst = np.maximum(worst, off)
    return worst


@pytest.mark.parametrize("law", LAWS)
def test_jumps_are_chosen_where_they_err_little(law, key):
    """Just below the threshold: mean and deviation within 0.6 % of the window, at either bound or between."""
    dx = 0.002
    c2c = threshold(law, dx)
    for n in (100, 1000):
        assert (error_of_jumps(LAWS[law](dx, c2c), n, (-1.0, 0.8), key) < 0.006).all()


def test_jumps_beyond_the_threshold_err_more(key):
    device = LAWS["soft, multiplicative"](0.002, 3 * threshold("soft, multiplicative", 0.002))
    assert device._apart
    assert error_of_jumps(device, 100, (-1.0,), key)[0] > 0.006


# -- write noise, reset, reference, read noise -----------------------------------------------------------------------


def writes(device, key):
    """What is seen deviates by write_noise steps, drawn anew where touched; what is hidden does not know."""
    cells = device.fabricate(key, (N,))
    np.testing.assert_array_equal(device.state(cells), 0.0)
    counts = jnp.arange(N) % 2 * 3.0
    after = device.pulse(key, cells, counts)
    again = device.pulse(jax.random.fold_in(key, 1), after, jnp.arange(N) % 4 // 2 * 1.0)
    rested, first, second, both = ((jnp.arange(N) % 4) == k for k in range(4))
    seen = [device.state(c) - c.state["x"] for c in (after, again)]
    check_moments(seen[0][first | both], 0.0, 0.05, name="written once")
    check_distribution(seen[0][first | both] / 0.05, normal)
    check_moments(seen[1][both], 0.0, 0.05, name="written again")
    check_moments(seen[1][both] * seen[0][both] / 0.05**2, 0.0, 1.0, name="product of two writes")
    assert (seen[0][rested | second] == 0).all()
    assert (seen[1][rested] == 0).all()
    np.testing.assert_array_equal(again.scores["write"][first], after.scores["write"][first])
    quiet = device.replace(write_noise=None)
    hidden = quiet.pulse(jax.random.fold_in(key, 1), quiet.pulse(key, cells, counts), jnp.arange(N) % 4 // 2 * 1.0)
    np.testing.assert_array_equal(again.state["x"], hidden.state["x"])


@record
class AllRewritten(SoftBounds):
    """Write noise drawn anew in all cells, touched or not."""

    def _touched(self, key, cells, counts, x):
        return super()._touched(key, cells, jnp.ones_like(counts), x)


@record
class Remembering(SoftBounds):
    """Write noise that is drawn but once."""

    def _touched(self, key, cells, counts, x):
        return super()._touched(None if key is None else jax.random.key(7), cells, counts, x)


def test_write_noise(key):
    writes(SoftBounds(dx=0.01, c2c=0.1, write_noise=5.0), key)
    for wrong in (
        SoftBounds(dx=0.01, c2c=0.1, write_noise=5.5),
        AllRewritten(dx=0.01, c2c=0.1, write_noise=5.0),
        Remembering(dx=0.01, c2c=0.1, write_noise=5.0),
    ):
        with pytest.raises(AssertionError):
            writes(wrong, key)


def test_programmed_cells_scatter_by_the_write_noise(key):
    device = SoftBounds(dx=0.01, write_noise=5.0, g_min=5e-6)
    cells = device.program(key, device.fabricate(key, (N,)), jnp.full(N, 15e-6))
    check_moments(device.conductance(cells) * 1e6, 15.0, 20 * 0.05 / 2, rounding=1e-5)
    np.testing.assert_allclose(device.programming_noise(jnp.ones(())), 0.5e-6, rtol=1e-6)


def test_resets_and_references_and_reads_scatter(key):
    device = SoftBounds(rest=0.1, rest_d2d=0.03, reset_noise=0.04, reference=Reference(mean=0.2, spread=0.05))
    cells = device.fabricate(key, (N,))
    first, second = (device.reset(k, cells).state["x"] for k in jax.random.split(key))
    check_moments(first, 0.1, 0.05)
    check_moments(first - second, 0.0, 0.04 * 2**0.5)  # the rest level is the cell's own, for life
    with pytest.raises(AssertionError):
        check_moments(device.replace(reset_noise=0.044).reset(key, cells).state["x"], 0.1, 0.05)
    check_moments(device.state(cells), -0.2, 0.05)
    reading = SoftBounds(read_curve=Polynomial(coefficients=(0.0, 1e-6)))
    check_moments(reading.read(key, reading.fabricate(None, (N,))) * 1e6, 12.5, 0.5, rounding=1e-5)


def test_cells_fail_after_lognormal_numbers_of_pulses(key):
    """Of cells pulsed exp(k / 2) times their median, Phi(k) have failed; each share within 4.5 standard errors."""
    device = ConstantStep(dx=1e-6, endurance=Endurance(failure=1e4, failure_d2d=0.5, stuck=-1.0))

    def shares_fail(device):
        cells = device.fabricate(key, (N,))
        for k in (-1.5, 0.0, 1.0):
            failed = device.state(device.pulse(None, cells, 1e4 * math.exp(k / 2))) == -1.0
            share = float(normal(k))
            assert abs(float(failed.mean()) - share) < 4.5 * math.sqrt(share * (1 - share) / N)

    shares_fail(device)
    for wrong in ({"endurance.failure": 1.05e4}, {"endurance.failure_d2d": 0.55}):
        with pytest.raises(AssertionError):
            shares_fail(device.replace(**wrong))


# -- time ------------------------------------------------------------------------------------------------------------


def ornstein_uhlenbeck(device, key):
    """From x = 0.5 to a rest of 0.2, tau = 4 s, 0.02 per sqrt(s): after 3 s, and in two waits of 1.5 s."""
    mean = 0.2 + 0.3 * math.exp(-3 / 4)
    std = 0.02 * math.sqrt(4 / 2 * -math.expm1(-2 * 3 / 4))
    once = device.wait(key, many(device, 0.5), 3.0).state["x"]
    first, second = jax.random.split(key)
    twice = device.wait(second, device.wait(first, many(device, 0.5), 1.5), 1.5).state["x"]
    for how, x in (("one wait", once), ("two waits", twice)):
        check_moments(x, mean, std, name=how)
        check_distribution((x - mean) / std, normal, name=how)


@record
class Wiener(ConstantStep):
    """Diffusion that forgets that the state decays meanwhile."""

    def wait(self, key, cells, seconds):
        still = ConstantStep(rest=self.rest, leak=self.leak.replace(diffusion=None))
        free = ConstantStep(rest=self.rest, leak=self.leak.replace(lifetime=None))
        return free.wait(key, still.wait(None, cells, seconds), seconds)


def test_leak_with_diffusion(key):
    leak = Leak(lifetime=4.0, diffusion=0.02)
    ornstein_uhlenbeck(ConstantStep(rest=0.2, leak=leak), key)
    for wrong in (
        ConstantStep(rest=0.2, leak=leak.replace(diffusion=0.022)),
        ConstantStep(rest=0.2, leak=leak.replace(lifetime=4.4)),
        ConstantStep(rest=0.0, leak=leak),
        Wiener(rest=0.2, leak=leak),
    ):
        with pytest.raises(AssertionError):
            ornstein_uhlenbeck(wrong, key)


def test_diffusion_alone_heat_and_spreads(key):
    device = ConstantStep(leak=Leak(diffusion=0.02))
    check_moments(device.wait(key, many(device, 0.1), 9.0).state["x"], 0.1, 0.06)
    warm = Arrhenius(activation=0.3, temperature=330.0)
    hot = device.replace(**{"leak.thermal": warm}).wait(key, many(device, 0.1), 3.0).state["x"]
    check_moments(hot, 0.1, 0.02 * math.sqrt(3 / float(warm.stretch)))
    own = ConstantStep(leak=Leak(lifetime=4.0, lifetime_d2d=0.2, diffusion=0.02, diffusion_d2d=0.3))
    cells = own.at(own.fabricate(key, (N,)), 0.5)
    tau = -3.0 / jnp.log(own.wait(None, cells, 3.0).state["x"] / 0.5)
    check_moments(jnp.minimum(tau, 100.0), 4.0, 0.8, rounding=1e-3)
    own = own.replace(**{"leak.lifetime": None})
    rate = (own.wait(key, cells, 4.0).state["x"] - 0.5) / jax.random.normal(key, (N,)) / 2
    check_moments(rate, 0.02, 0.006, rounding=1e-4)
    np.testing.assert_array_equal(own.wait(key, cells, 0.0).state["x"], cells.state["x"])


def test_drift_exponents_scatter(key):
    device = ConstantStep(drift=Drift(nu=0.05, nu_d2d=0.3))
    cells = device.fabricate(key, (N,))
    nu = -jnp.log(device.conductance(cells, 1e4) / device.conductance(cells)) / math.log(1e4)
    check_moments(nu, 0.05, 0.015)
    check_distribution((nu - 0.05) / 0.015, normal)


def test_reads_scatter_with_the_exponent(key):
    """Reads as of exponents 0.05 (1 + 0.1 xi), drawn for each: std 0.05 x 0.1 ln(1e4) of the mean, within 0.4 %."""
    device = ConstantStep(drift=Drift(nu=0.05, nu_noise=0.1))
    cells = many(device, 0.0)
    reads = device.read(key, cells, 1e4) / 12.5e-6
    exact = 1e4 ** -(0.05 * (1 + 0.1 * jax.random.normal(jax.random.fold_in(key, 1), (10 * N,))))
    std = 0.005 * math.log(1e4) * 1e4**-0.05
    check_moments(reads, 1e4**-0.05, std)
    assert abs(float(exact.std()) / std - 1) < 0.004 + 4.5 / math.sqrt(2 * 10 * N)
    louder = device.replace(**{"drift.nu_noise": 0.11}).read(key, cells, 1e4) / 12.5e-6
    with pytest.raises(AssertionError):
        check_moments(louder, 1e4**-0.05, std)


def test_walls_close_for_noisy_pulses(key):
    """However noisy, worn cells stay within what is left of their window."""
    device = ConstantStep(dx=0.1, c2c=2.0, endurance=Endurance(cycles=10.0, high_exponent=0.3, low_exponent=0.3))
    x = pulsed(device, key, many(device, 0.0), 100.0)
    assert (jnp.abs(pulsed(device, key, device.pulse(key, many(device, 0.0), 100.0), 5.0)) <= 10**-0.3 + 1e-6).all()
    assert (jnp.abs(x) <= 1).all()
