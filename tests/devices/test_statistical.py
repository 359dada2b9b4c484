"""Published coefficient tables and Monte-Carlo figures, for every measured device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import (
    DAY,
    HOUR,
    PCM_MONTE_CARLO,
    YEAR,
    cells_at,
    each_cell_drifts_with_its_own_exponent,
    folded_normal_exponents,
    monte_carlo,
    pcm_drift_factor,
    pcm_programming_noise,
    pcm_zero_state,
    uS,
)

from anajax.devices import PCM, presets
from anajax.testing import check_moments

U = np.array([0, 0.1, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("g_max", [25e-6, 10e-6])
def test_pcm_programming_noise_table(g_max):
    pcm_programming_noise(presets.pcm(g_max))


def test_pcm_drift_exponent_table():
    device = presets.pcm()
    u = jnp.array([0.01, 0.05, 0.1, 0.2, 0.5, 0.7, 1.0])
    np.testing.assert_allclose(device.nu_mean(u), [0.0958, 0.0708, 0.0601, 0.0493, 0.049, 0.049, 0.049], atol=5.1e-5)
    np.testing.assert_allclose(device.nu_std(u), [0.045, 0.0315, 0.0229, 0.0142, 0.008, 0.008, 0.008], atol=5.1e-5)
    # zero conductance counts as u = 1e-7, where both are clipped
    np.testing.assert_allclose([device.nu_mean(jnp.zeros(())), device.nu_std(jnp.zeros(()))], [0.1, 0.045], rtol=1e-6)


def test_pcm_drift_factors():
    pcm_drift_factor(presets.pcm())


def test_pcm_relative_read_noise():
    device = presets.pcm()
    cells = cells_at(device, [25.0, 12.5, 2.5])
    relative = device.read_noise(cells, DAY) / device.conductance(cells, DAY)
    np.testing.assert_allclose(relative, [0.0448, 0.0702, 0.200], atol=5.1e-5)
    # Q(u = 0.1) = 0.0088 / 0.1**0.65 = 0.0393; the noise carries the factor L(1 day) = 5.0868
    growth = float(relative[2]) / (0.0088 / 0.1**0.65)
    np.testing.assert_allclose(growth, 5.0868, atol=5.1e-5)


def test_pcm_read_noise_stops_at_twenty_percent():
    device = presets.pcm()
    cells = cells_at(device, [0.05])
    relative = float(device.read_noise(cells, DAY)[0] / device.conductance(cells, DAY)[0])
    np.testing.assert_allclose(relative, 0.2 * 5.0868, rtol=2e-5)


def test_pcm_monte_carlo(key):
    monte_carlo(presets.pcm(), key, PCM_MONTE_CARLO)


def test_pcm_programmed_to_zero(key):
    pcm_zero_state(presets.pcm(), key)


@pytest.mark.parametrize(
    ("make", "g", "mean", "std"),
    [
        (presets.pcm, 5.0, 0.0155 * np.log(5) + 0.0244, 0.0125 * np.log(5) - 0.0059),
        (presets.pcm, 2.5e-3, 0.1, 0.045),
        (presets.state_independent, 12.5, 0.1, 0.05),
    ],
)
def test_drift_exponents_are_folded_normals(make, g, mean, std, key):
    folded_normal_exponents(make(), g, mean, std, key)


def test_drift_and_programming_scores_are_independent(key):
    scores = cells_at(presets.pcm(), np.full(40_000, 12.5), key).scores
    check_moments(scores["drift"] * scores["program"], 0.0, 1.0, name="product of scores")
    for name, score in scores.items():
        check_moments(score, 0.0, 1.0, name=name)


def test_custom_drift_table():
    device = presets.pcm_with_drift_table(
        g=np.array([0.0, 10.0, 25.0]) * uS, nu_mean=[0.08, 0.05, 0.03], nu_std=[0.03, 0.02, 0.01]
    )
    u = jnp.array([0.0, 5.0, 10.0, 17.5, 25.0]) / 25
    np.testing.assert_allclose(device.nu_mean(u), [0.08, 0.065, 0.05, 0.04, 0.03], rtol=1e-5)
    np.testing.assert_allclose(device.nu_std(u), [0.03, 0.025, 0.02, 0.015, 0.01], rtol=1e-5)
    cells = cells_at(device, [17.5], scores={"drift": jnp.array([2.0])})
    left = float(device.conductance(cells, HOUR)[0]) / 17.5e-6
    np.testing.assert_allclose(left, 181.0 ** -(0.04 + 2 * 0.015), rtol=1e-5)


# --- HERMES ---------------------------------------------------------------------------------------------

HERMES = {
    1: {
        "g_max": 10.35,
        "t_0": 200.0,
        "program": ([0, 0.1, 0.5, 1], [0.1578, 0.3693, 0.8653, 1.0076]),
        "std": (0.3039, (-0.0120, -0.0023, 0.0124, 0.04), (-0.0165, 0.0116, 0.0104)),
        "read": (0.1591, (-0.0078, 0.0038, 0.0179, 0.04), (0.0664, -0.1352, 0.0768, 0.0088)),
    },
    2: {
        "g_max": 20.7,
        "t_0": 300.0,
        "program": ([0, 0.1, 0.5, 1], [0.1660, 0.5577, 0.9910, 1.0927]),
        "std": (0.3055, (-0.0117, -0.0057, 0.0091, 0.04), (-0.0118, 0.0093, 0.0073)),
        "read": (0.16, (-0.0117, -0.0069, 0.015, 0.04), (0.0069, -0.0280, 0.0211, 0.0123)),
    },
}
HERMES_MEAN = (0.0945, (-0.0387, -0.0182, 0.072, 0.13), (-0.0436, -0.0126, 0.0736))


def piecewise(u, at, logarithm, polynomial):
    slope, offset, low, high = logarithm
    return np.where(u < at, np.clip(slope * np.log(u) + offset, low, high), np.polyval(polynomial, u))


@pytest.mark.parametrize("devices", [1, 2])
def test_hermes_tables(devices):
    device = presets.hermes_one_device() if devices == 1 else presets.hermes_two_devices()
    table = HERMES[devices]
    np.testing.assert_allclose(float(device.g_max) / uS, table["g_max"], rtol=1e-6)
    np.testing.assert_allclose(float(device.t_0), table["t_0"])
    np.testing.assert_allclose(float(device.t_read), 512e-9, rtol=1e-6)
    u, sigma = table["program"]
    found = device.programming_noise(jnp.asarray(u) * device.g_max) / uS
    np.testing.assert_allclose(found, sigma, atol=5.1e-5)
    # on both sides of each split, and in the clipped parts
    u = np.array([0.005, 0.03, 0.0944, 0.0946, 0.159, 0.1592, 0.1601, 0.3038, 0.304, 0.3056, 0.7, 1.0])
    for curve, wanted in [
        (device.nu_mean, HERMES_MEAN),
        (device.nu_std, table["std"]),
        (device.read_curve, table["read"]),
    ]:
        np.testing.assert_allclose(curve(jnp.asarray(u)), piecewise(u, *wanted), rtol=2e-5)


@pytest.mark.parametrize("devices", [1, 2])
def test_hermes_drift_and_read_noise(devices):
    device = presets.hermes_one_device() if devices == 1 else presets.hermes_two_devices()
    g_max, t_0 = HERMES[devices]["g_max"], HERMES[devices]["t_0"]
    cells = cells_at(device, [g_max])
    nu = 0.0736 - 0.0126 - 0.0436
    left = (1 + DAY / t_0) ** -nu
    np.testing.assert_allclose(device.conductance(cells, DAY) / uS, [g_max * left], rtol=2e-6)
    growth = np.sqrt(np.log((DAY + t_0 + 512e-9) / (2 * 512e-9)))
    read = np.polyval(HERMES[devices]["read"][2], 1.0)
    np.testing.assert_allclose(device.read_noise(cells, DAY) / uS, [g_max * left * read * growth], rtol=1e-5)


# --- RRAM -----------------------------------------------------------------------------------------------

WAN = {
    1.0: [0.348, 1.556, 2.258, 2.023, 1.533, 1.103],
    DAY: [0.701, 2.447, 3.721, 3.909, 3.367, 2.651],
    2 * DAY: [0.782, 2.410, 3.664, 3.929, 3.374, 2.677],
}


@pytest.mark.parametrize("time", WAN)
@pytest.mark.parametrize("g_max", [40.0, 25.0])
def test_wan_table(time, g_max):
    # the polynomials were fitted at 40 uS: at 25 uS a cell must have the same *relative* spread
    device = presets.rram_wan(g_max * uS)
    found = device.deviation(jnp.asarray(U) * device.g_max, time) / uS
    np.testing.assert_allclose(found, np.array(WAN[time]) * g_max / 40, atol=5.5e-4)


def test_wan_cells_have_the_spread_of_each_time(key):
    device = presets.rram_wan()
    cells = cells_at(device, np.full(40_000, 20.0), key)
    for time, sigma in [(0.0, 2.023), (1.0, 2.023), (DAY, 3.909), (2 * DAY, 3.929), (YEAR, 3.929)]:
        check_moments(device.conductance(cells, time) / uS, 20.0, sigma, rounding=5e-4, name=f"g at {time:g} s")


def test_wan_is_interpolated_in_the_logarithm_of_time():
    device = presets.rram_wan()
    middle = np.sqrt(2.0 * (1 + DAY)) - 1  # half way between 1 s and 1 day in ln(1 + t)
    found = device.deviation(jnp.asarray([20.0 * uS]), middle) / uS
    np.testing.assert_allclose(found, [(2.023 + 3.909) / 2], atol=1.1e-3)


@pytest.mark.parametrize(
    ("acceptance", "offset", "slope"), [(0.002, 0.00081107, 0.00106879), (0.02, 0.0112185391, 0.01129027418)]
)
def test_cmo_write_verify(acceptance, offset, slope, key):
    device = presets.rram_cmo(acceptance)
    g = np.array([9.0, 20.0, 50.0, 80.0])
    np.testing.assert_allclose(device.programming_noise(jnp.asarray(g) * uS) / uS, offset + slope * g, rtol=1e-5)
    spread = np.hypot(offset + slope * 50, 0.41183342)  # at 1 s the relaxation has its first value
    check_moments(device.conductance(cells_at(device, np.full(40_000, 50.0), key)) / uS, 50.0, spread)


def test_cmo_monte_carlo(key):
    rows = [(20.0, DAY, 18.99, 0.907), (50.0, DAY, 48.99, 0.919), (80.0, DAY, 78.99, 0.930)]
    monte_carlo(presets.rram_cmo(0.002), key, rows)


def test_cmo_read_noise_and_window(key):
    device = presets.rram_cmo()
    cells = cells_at(device, [50.0])
    g = 50 - 0.08900206 * np.log(DAY)
    wanted = 0.0277316483 * np.log10(g) * np.sqrt(np.log((DAY + 1e-6) / 2e-6))
    np.testing.assert_allclose(device.read_noise(cells, DAY) / uS, [wanted], rtol=1e-5)
    edges = device.conductance(cells_at(device, np.repeat([9.0, 88.2], 2000), key), 1e9) / uS
    assert 9.0 - 1e-5 <= float(edges.min()) < 9.01 and 88.0 < float(edges.max()) <= 88.2 + 1e-5  # noqa: PT018


def test_state_independent(key):
    device = presets.state_independent()
    np.testing.assert_allclose(device.programming_noise(jnp.asarray(U) * device.g_max) / uS, 0.2, rtol=1e-5)
    monte_carlo(device, key, [(12.5, DAY, 5.81, 2.64)])


# --- flash ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "a", "b"),
    [
        (0, 19.89, 176.3),
        (1, 25.59, 186.9),
        (2, 28.73, 193.6),
        (3, 31.04, 198.9),
        (4, 33.76, 204.8),
        (5, 34.58, 207.3),
    ],
)
def test_sonos_spread(day, a, b):
    device = presets.sonos()
    current = np.array([0.0, 100.0, 800.0, 3200.0])  # nA at 0.2 V
    found = device.deviation(jnp.asarray(current * 1e-9 / 0.2), day * DAY) * 0.2 * 1e9
    np.testing.assert_allclose(found, a * (1 - np.exp(-current / b)), rtol=5e-4, atol=1e-5)


def test_sonos_read_noise():
    device = presets.sonos()
    current = np.array([100.0, 800.0, 3200.0])
    found = device.read_noise(cells_at(device, current * 1e-3 / 0.2)) * 0.2 * 1e9
    np.testing.assert_allclose(found, 12.58 * (1 - np.exp(-current / 215.4)), rtol=5e-4)


# --- time -----------------------------------------------------------------------------------------------

DRIFTING = [
    presets.pcm,
    presets.hermes_one_device,
    presets.hermes_two_devices,
    presets.state_independent,
]


@pytest.mark.parametrize("make", [*DRIFTING, presets.rram_wan, presets.sonos])
def test_time_zero_is_as_programmed(make, key):
    device = make()
    g = np.linspace(0.0, float(device.g_max) / uS, 50)
    cells = cells_at(device, g, key)
    wanted = np.maximum(g * uS + np.asarray(device.programming_noise(cells.target) * cells.scores["program"]), 0)
    np.testing.assert_allclose(device.conductance(cells, 0.0), wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("make", DRIFTING)
def test_each_cell_keeps_its_own_exponent(make, key):
    device = make()
    assert isinstance(device, PCM)
    each_cell_drifts_with_its_own_exponent(device, key)
    cells = cells_at(device, np.full(9, 0.5 * float(device.g_max) / uS), key)
    before = device.conductance(cells, DAY)
    np.testing.assert_array_equal(device.conductance(cells, DAY), before)  # reading leaves a cell alone
    seen = -jnp.log(before / device.conductance(cells, 0.0)) / jnp.log1p(DAY / device.t_0)
    np.testing.assert_allclose(seen, device.drift_exponent(cells), rtol=1e-4)


def test_programming_again_keeps_the_cell_and_redraws_the_error(key):
    device = presets.pcm()
    first = cells_at(device, np.full(20_000, 12.5), key)
    again = device.program(jax.random.fold_in(key, 9), first, first.target)
    np.testing.assert_array_equal(first.scores["drift"], again.scores["drift"])
    check_moments(first.scores["program"] * again.scores["program"], 0.0, 1.0, name="product of two errors")


def test_scales_multiply_their_effect():
    device = presets.pcm()
    cells = cells_at(device, [10.0], scores={"drift": jnp.array([0.4]), "program": jnp.array([-0.3])})
    base = device.conductance(cells, 0.0)
    twice = device.replace(program_scale=2.0).conductance(cells, 0.0)
    np.testing.assert_allclose(twice - 10e-6, 2 * (base - 10e-6), rtol=1e-4)
    np.testing.assert_allclose(
        device.replace(nu_scale=2.0).drift_exponent(cells), 2 * device.drift_exponent(cells), rtol=1e-6
    )
    np.testing.assert_allclose(
        device.replace(read_scale=2.0).read_noise(cells, DAY), 2 * device.read_noise(cells, DAY), rtol=1e-6
    )
