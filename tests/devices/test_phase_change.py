import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax._record import record
from anajax.devices import Cells, PartialSET, presets
from anajax.testing import check_moments

uS = 1e-6
PLAIN = {"mean": 0.892 * uS, "mean_memory": None, "std": 0.575 * uS, "std_g": 0.09, "std_memory": None}


def at(device, g, n, memory=0.0):
    """`n` cells at `g` [uS] that remember `memory`."""
    cells = device.fabricate(None, (n,))
    return cells.replace(state={"g": jnp.full(n, g * uS), "memory": jnp.full(n, memory), "age": jnp.zeros(n)})


def moments(start, pulses):
    """Mean and std [uS] after pulses of dG ~ N(0.892 - 0.084 G, (0.575 + 0.09 G)**2): exact recursion, no clip."""
    mean, var = start, 0.0
    for _ in range(pulses):
        var = (1 - 0.084) ** 2 * var + (0.575 + 0.09 * mean) ** 2 + 0.09**2 * var
        mean = mean + 0.892 - 0.084 * mean
    return mean, np.sqrt(var)


def statistics(device, key, pulses=6, n=100_000):
    """Far from zero conductance the moments are those of the recursion: false alarm 7e-6 for each test."""
    cells = device.pulse(key, at(device, 12.0, n), jnp.asarray(float(pulses)))
    mean, std = moments(12.0, pulses)
    check_moments(device.conductance(cells) / uS, mean, std)


@pytest.mark.parametrize("pulses", [1, 2, 6])
def test_moments_of_pulses_without_memory(key, pulses):
    statistics(PartialSET(**PLAIN), key, pulses)


@record
class Louder(PartialSET):
    def pulse(self, key, cells, counts):
        return PartialSET.pulse(self.replace(std=1.1 * self.std, std_g=1.1 * self.std_g), key, cells, counts)


@record
class SameNoise(PartialSET):
    """Draws one normal for the whole train."""

    def pulse(self, key, cells, counts):
        mean = super().pulse(None, cells, counts)
        noise = (self.std + self.std_g * cells.state["g"]) * counts * jax.random.normal(key, cells.state["g"].shape)
        return mean.replace(state=mean.state | {"g": jnp.maximum(mean.state["g"] + noise, 0.0)})


@pytest.mark.parametrize("wrong", [Louder, SameNoise])
def test_statistics_reject_wrong_noise(key, wrong):
    with pytest.raises(AssertionError):
        statistics(wrong(**PLAIN), key)


def test_memory_after_reset_by_hand(key):
    """First pulse from 0.1 uS: P = exp(-1 / 2.6) = 0.680714; mean 0.880 - 0.0084 + 0.952999, std 1.732635."""
    device = PartialSET()
    n = 100_000
    fresh = device.fabricate(None, (n,))
    once = device.pulse(None, fresh, jnp.asarray(1.0))
    np.testing.assert_allclose(device.conductance(once)[0] / uS, 0.1 + 1.824599, rtol=1e-5)
    np.testing.assert_allclose(device.step(fresh, 1.0)[0] / uS, 1.824599, rtol=1e-5)
    high = device.pulse(key, at(device, 12.0, n, memory=1.0), jnp.asarray(1.0))  # far from the clip at zero
    check_moments(device.conductance(high) / uS, 12 + 0.88 - 0.084 * 12 + 0.952999, 0.26 + 0.091 * 12 + 1.463535)


def test_curve_with_memory_follows_the_recursion():
    device, g, memory, wanted = PartialSET(), 0.1, 1.0, []
    for _ in range(20):
        memory *= np.exp(-1 / 2.6)
        g += 0.880 - 0.084 * g + 1.40 * memory
        wanted.append(g)
    cells = device.fabricate(None, (1,))
    found = [float(device.conductance(device.pulse(None, cells, jnp.asarray(float(n))))[0]) / uS for n in range(1, 21)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(("device", "limit"), [(PartialSET(), 0.880 / 0.084), (PartialSET(**PLAIN), 0.892 / 0.084)])
def test_mean_saturates(device, limit):
    cells = device.pulse(None, device.fabricate(None, (1,)), jnp.asarray(300.0))
    np.testing.assert_allclose(device.conductance(cells)[0] / uS, limit, rtol=1e-4)


def test_one_call_is_many_calls_and_fractions_count(key):
    device = PartialSET()
    cells = at(device, 3.0, 3, memory=0.6)
    counts = jnp.asarray([5.0, 2.0, 0.0])
    single = cells
    for k in range(5):
        single = device.pulse(None, single, (k < counts).astype(float))
    np.testing.assert_allclose(device.pulse(None, cells, counts).state["g"], single.state["g"], rtol=1e-6)
    half = device.pulse(None, cells, jnp.asarray(0.5)).state["g"] - cells.state["g"]
    memory = 0.6 * np.exp(-0.5 / 2.6)
    np.testing.assert_allclose(half / uS, 0.5 * (0.88 - 0.084 * 3 + 1.4 * memory), rtol=1e-4)


def test_never_negative_and_finite(key):
    device = PartialSET()
    g = device.conductance(device.pulse(key, device.fabricate(key, (100_000,)), jnp.asarray(30.0)))
    assert np.isfinite(g).all()
    assert float(g.min()) >= 0


def test_a_negative_pulse_is_a_reset(key):
    device = PartialSET(reset_noise=0.02e-6)
    cells = at(device, 8.0, 20_000)
    after = device.pulse(key, cells, jnp.where(jnp.arange(20_000) % 2 == 0, -3.0, 0.0))
    assert (np.asarray(after.state["g"][1::2]) == np.float32(8 * uS)).all()
    check_moments(after.state["g"][::2] / uS, 0.1, 0.02)
    np.testing.assert_array_equal(after.state["memory"][:2], [1.0, 0.0])
    again = device.reset(None, cells)
    np.testing.assert_allclose(device.conductance(again), 0.1 * uS, rtol=1e-6)


def test_drift_counts_from_the_last_pulse():
    """(t / 38.6 s) ** -0.04 beyond 38.6 s: a day leaves 0.7346."""
    device = presets.pcm_set()
    cells = at(device, 10.0, 2)
    np.testing.assert_allclose(device.conductance(cells, 86400.0) / uS, 10 * (86400 / 38.6) ** -0.04, rtol=1e-5)
    older = device.wait(None, cells, 86400.0)
    np.testing.assert_allclose(device.conductance(older), device.conductance(cells, 86400.0), rtol=1e-6)
    touched = device.pulse(None, older, jnp.asarray([1.0, 0.0]))
    np.testing.assert_allclose(touched.state["age"], [0.0, 86400.0])


def test_read_noise_by_hand():
    """0.03 G + 0.13 uS."""
    device = presets.pcm_set()
    np.testing.assert_allclose(device.read_noise(at(device, 5.0, 1))[0] / uS, 0.28, rtol=1e-5)


def test_read_noise_of_exponents_by_hand():
    """0.1 x 0.04 ln(86400 s / 38.6 s) of what a day leaves, beside 0.03 G + 0.13 uS."""
    device = presets.pcm_set().replace(**{"drift.nu_noise": 0.1})
    cells = device.wait(None, at(device, 5.0, 1), 86000.0)
    g = float(device.conductance(cells, 400.0)[0]) / uS
    wanted = np.hypot(0.03 * g + 0.13, 0.1 * 0.04 * np.log(86400 / 38.6) * g)
    np.testing.assert_allclose(device.read_noise(cells, 400.0)[0] / uS, wanted, rtol=1e-5)


def test_programming_and_its_noise(key):
    device = presets.pcm_set().replace(program_curve=presets.pcm().program_curve)
    target = jnp.full(50_000, 9 * uS)
    cells = device.program(key, device.fabricate(None, target.shape), target)
    u = 9 / 12
    check_moments(device.conductance(cells) / uS, 9.0, 0.26348 + 1.9650 * u - 1.1731 * u**2)
    np.testing.assert_allclose(
        device.programming_noise(target)[0] / uS, 0.26348 + 1.9650 * u - 1.1731 * u**2, rtol=1e-5
    )
    later = device.pulse(None, cells, jnp.asarray(1.0))
    np.testing.assert_allclose(
        later.state["g"] - device.conductance(cells), 0.88 * uS - 0.084 * device.conductance(cells), atol=1e-12
    )


def test_cells_without_state_are_refused():
    with pytest.raises(ValueError, match="neither state nor target"):
        presets.pcm_set().conductance(Cells(scores={}))
