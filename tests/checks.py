"""Checks of physics that right models pass and falsified ones (test_mutants.py) must not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from anajax import Hardware, arrays
from anajax.testing import check_distribution, check_moments

uS = 1e-6
HOUR, DAY, MONTH, YEAR = 3600.0, 86400.0, 30 * 86400.0, 365 * 86400.0

# PCM of 25 uS: target, time; mean and std right after programming, mean and std at that time (all uS)
PCM_MONTE_CARLO = [
    (2.5, 1.0, 2.499, 0.449, 2.491, 0.606),
    (2.5, HOUR, 2.499, 0.449, 1.842, 0.527),
    (2.5, DAY, 2.499, 0.449, 1.539, 0.513),
    (2.5, MONTH, 2.499, 0.449, 1.276, 0.503),
    (2.5, YEAR, 2.499, 0.449, 1.116, 0.497),
    (12.5, 1.0, 12.500, 0.952, 12.469, 1.194),
    (12.5, HOUR, 12.500, 0.952, 9.700, 1.058),
    (12.5, DAY, 12.500, 0.952, 8.313, 1.029),
    (12.5, MONTH, 12.500, 0.952, 7.054, 1.010),
    (12.5, YEAR, 12.500, 0.952, 6.253, 0.991),
    (25.0, 1.0, 24.997, 1.058, 24.937, 1.398),
    (25.0, HOUR, 24.997, 1.058, 19.392, 1.408),
    (25.0, DAY, 24.997, 1.058, 16.625, 1.517),
    (25.0, MONTH, 24.997, 1.058, 14.101, 1.606),
    (25.0, YEAR, 24.997, 1.058, 12.506, 1.648),
]


def cells_at(device, targets_uS, key=None, scores=None):
    """Cells programmed to conductances in microsiemens."""
    target = jnp.asarray(targets_uS) * uS
    made, programmed = (None, None) if key is None else jax.random.split(key)
    cells = device.program(programmed, device.fabricate(made, target.shape), target)
    return cells if scores is None else cells.replace(scores=scores)


@functools.partial(jax.jit, static_argnums=4)
def read_once(key, device, target, time, n):
    """Mean and std [uS] of `n` cells as programmed, and of one read of each, clamped at zero, at `time`."""
    life, programming, reading = jax.random.split(key, 3)
    cells = device.program(programming, device.fabricate(life, (n,)), jnp.full((n,), target))
    first = device.conductance(cells, 0.0)
    noise = device.read_noise(cells, time) * jax.random.normal(reading, (n,))
    last = jnp.maximum(device.conductance(cells, time) + noise, 0.0)
    return [(jnp.mean(g) / uS, jnp.std(g) / uS) for g in (first, last)]


def monte_carlo(device, key, rows, n=400_000, tolerance=0.01):
    """Compare moments with a printed table. At n = 4e5 one percent is 4 standard errors or more."""
    for i, (g, time, *wanted) in enumerate(rows):
        found = np.ravel(read_once(jax.random.fold_in(key, i), device, g * uS, time, n))[-len(wanted) :]
        np.testing.assert_allclose(found, wanted, rtol=tolerance, err_msg=f"{g} uS after {time:g} s")


def pcm_programming_noise(device):
    """sigma_prog [uS] over u."""
    u = np.array([0, 0.1, 0.25, 0.5, 0.75, 1])
    wanted = np.array([0.26348, 0.44825, 0.68141, 0.95271, 1.07736, 1.05538])
    found = device.programming_noise(jnp.asarray(u) * device.g_max) / uS
    np.testing.assert_allclose(found, wanted * float(device.g_max) / 25e-6, rtol=2e-5)


def pcm_drift_factor(device):
    """What is left of a fully programmed cell of mean drift, nu = 0.049."""
    times = np.array([0.0, 1.0, HOUR, DAY, MONTH, YEAR])
    cells = cells_at(device, [25.0])
    left = [float(device.conductance(cells, t)[0]) / 25e-6 for t in times]
    np.testing.assert_allclose(left, [1.0, 0.9976, 0.7751, 0.6635, 0.5617, 0.4969], atol=5.1e-5)


def pcm_zero_state(device, key):
    """A cell programmed to zero holds half a normal of sigma_prog(0) = 0.26348 uS, and no negative one."""
    n, sigma = 40_000, 0.26348
    g = device.conductance(cells_at(device, np.zeros(n), key)) / uS
    assert float(g.min()) >= 0
    check_moments(g, sigma / np.sqrt(2 * np.pi), sigma * np.sqrt(0.5 - 0.5 / np.pi), name="g at zero")


def folded_normal_exponents(device, g, mean, std, key):
    """Drift exponents of cells at `g` [uS] are |normal|: Kolmogorov-Smirnov, false alarm 1e-5."""
    cdf = jax.scipy.stats.norm.cdf
    nu = device.drift_exponent(cells_at(device, np.full(20_000, g), key))
    check_distribution(nu, lambda x: cdf(x, mean, std) - cdf(-x, mean, std))


def each_cell_drifts_with_its_own_exponent(device, key):
    """A cell only ever falls, and along one power law: a fresh exponent at each read would make some rise."""
    cells = cells_at(device, np.full(200, 0.5 * float(device.g_max) / uS), key)
    times = np.array([0.0, 10.0, 60.0, HOUR, DAY, MONTH, YEAR])
    path = np.stack([np.asarray(device.conductance(cells, t)) for t in times])
    assert (np.diff(path, axis=0) <= 0).all()
    nu = -np.log(path[1:] / path[0]) / np.log1p(times[1:, None] / float(device.t_0))
    np.testing.assert_allclose(nu, np.broadcast_to(nu[-1], nu.shape), rtol=2e-3, atol=1e-5)


def standard_normals(draw, n=1 << 18):
    """`draw(seed, n)` gives independent standard normals: false alarm 7e-6 a z-test, 1e-5 for the distribution."""
    x, other = draw(0, n), draw(1, n)
    check_moments(x, 0.0, 1.0)
    check_distribution(x, jax.scipy.stats.norm.cdf)
    check_moments(x * other, 0.0, 1.0, name="product of two keys")
    for lag in (1, 2, 256, 65536):
        check_moments(x[lag:] * x[:-lag], 0.0, 1.0, name=f"product at lag {lag}")


def seven_bits(convert):
    """A converter of 7 bits and bound 1 has 127 levels, 1/63 apart."""
    x = np.linspace(-1.2, 1.2, 20_001, dtype=np.float32)
    y = np.asarray(convert(jnp.asarray(x)))
    levels = np.unique(y)
    assert len(levels) == 127
    np.testing.assert_allclose(levels, np.arange(-63, 64) / 63, atol=1e-6)
    assert np.abs(y - np.clip(x, -1, 1)).max() <= 0.5 / 63 + 1e-6


def weight_noise_moments(hardware, key, n=40_000):
    """Noise added on the outputs has the distribution of noise on every weight, drawn for each input.

    False alarm: 7e-6 for each of 2 x 4 z-tests (both sides), 1e-5 for each of 4 Kolmogorov-Smirnov tests.
    """
    rows, cols = 6, 4
    k_w, k_x, k_ours, k_theirs = jax.random.split(key, 4)
    w = jax.random.uniform(k_w, (rows, cols), minval=-1.0)
    x = jax.random.uniform(k_x, (rows,), minval=-1.0)
    tile = arrays.program(None, hardware, w)
    effective = arrays.settle(None, hardware, tile, w)
    ours = jax.jit(lambda k: arrays.mvm(k, hardware, effective, jnp.broadcast_to(x, (n, rows))))(k_ours)
    ours = np.asarray(ours - x @ w)

    sigma = 0.05 * (jnp.sqrt(jnp.abs(w)) if hardware.weight_noise.kind == "pcm" else jnp.ones_like(w))
    explicit = jax.jit(
        lambda k: jnp.einsum("i,nij->nj", x, sigma * jax.random.normal(k, (n, rows, cols)), precision="highest")
    )
    theirs = np.asarray(explicit(k_theirs))
    for j in range(cols):
        std = float(jnp.sqrt(jnp.sum((sigma[:, j] * x) ** 2)))
        check_moments(theirs[:, j], 0.0, std, name=f"explicit noise of output {j}")
        check_moments(ours[:, j], 0.0, std, name=f"noise of output {j}")
        check_distribution(ours[:, j] / std, jax.scipy.stats.norm.cdf, name=f"noise of output {j}")


def ir_drop_all_ones(wires, rtol):
    """512 inputs of 1 on 512 weights of 1: 446.5217 instead of 512."""
    w, x = jnp.ones((512, 1)), jnp.ones((1, 512))
    np.testing.assert_allclose(float(wires(w, x, x @ w)[0, 0]), 446.5217, rtol=rtol)


def mvm_error(hardware, key, cols=512, inputs=500):
    """Relative error <||y - y0||> / <||y0||> of W ~ N(0, 0.246) in [-1, 1] and x ~ U(-1, 1), 512 rows."""
    k_w, k_x, k_p, k_r = jax.random.split(key, 4)
    w = jnp.clip(0.246 * jax.random.normal(k_w, (512, cols)), -1, 1)
    x = jax.random.uniform(k_x, (inputs, 512), minval=-1.0)

    @jax.jit
    def run(hardware):
        tile = arrays.program(k_p, hardware, w)
        y = arrays.read(k_r, hardware, tile, w, x, 0.0, 1.0)
        ideal = x @ w
        return jnp.mean(jnp.linalg.norm(y - ideal, axis=-1)) / jnp.mean(jnp.linalg.norm(ideal, axis=-1))

    return float(run(hardware))


def transitions(adc, scores, points=100):
    """Inputs, in steps, at which each column's code first reaches 1 ... M, swept with `points` in a step."""
    most = 2 ** (adc.bits - 1) - 1
    step = float(adc.bound) / most
    y = (np.arange((most + 1) * points) + 0.5) / points * step
    code = np.rint(np.asarray(adc(jnp.asarray(y)[:, None] * jnp.ones(scores["adc_offset"].shape), scores)) / step)
    reached = code[:, None] >= np.arange(1, most + 1)[:, None]  # [points, codes, columns]
    return np.argmax(reached, axis=0) / points


def capacitor_mismatch(adc, key, cols=4000):
    """Transitions of 5 bits stray from their places by sqrt(d (M - d) / M) mismatch; the middle step is the widest.

    False alarm: 1.4e-5 for each of 5 pairs of z-tests.
    """
    sigma, most = 0.02, 15
    steps = transitions(adc, {n: s[0, 0] for n, s in adc.fabricate(key, (1, 1, cols)).items()})
    grain = 1 / 100 / np.sqrt(12)
    stray = steps - (np.arange(1, most + 1) - 0.5)[:, None]
    for d in (1, 5, 8, 12):
        std = np.hypot(sigma * np.sqrt(d * (most - d) / most), grain)
        check_moments(stray[d - 1], 0.0, std, rounding=1e-3, name=f"integral nonlinearity at {d}")
    middle = stray[7] - stray[6]  # 8 units on against 7 off
    std = sigma * np.sqrt(8 * (1 - 1 / most) ** 2 + 7 * (1 + 1 / most) ** 2)
    check_moments(middle, 0.0, np.hypot(std, np.sqrt(2) * grain), rounding=1e-3, name="differential nonlinearity")


def each_converter_has_its_own_capacitors(adc, key, cols=2400):
    """Columns of one converter agree to the bit; those of two are independent: false alarm 1.4e-5."""
    steps = transitions(adc, {n: s[0, 0] for n, s in adc.fabricate(key, (1, 1, cols)).items()})
    stray = (steps[7] - 7.5).reshape(-1, adc.columns_per_adc)
    assert np.ptp(stray, axis=1).max() == 0
    own = (stray[:, 0] - stray[:, 0].mean()) / max(stray[:, 0].std(), 1e-9)
    check_moments(own[1:] * own[:-1], 0.0, 1.0, name="product of two converters")


def sliced_codes(slices):
    """Every code of sign and magnitude comes back from its lines, whose values are digits; halves round to even."""
    top, digit = 2 ** (slices.bits * slices.count) - 1, 2**slices.bits - 1
    code = np.arange(-top, top + 1)
    held = np.asarray(slices.split(jnp.asarray(code + 0.4 * (np.abs(code) < top))[None] / top))
    digits = held.reshape(slices.count, -1) * digit
    np.testing.assert_allclose(digits, np.rint(digits), atol=1e-5)
    assert np.abs(digits).max() <= digit + 1e-5
    weights = 2.0 ** (slices.bits * np.arange(slices.count))
    np.testing.assert_allclose(weights @ digits, code, atol=1e-3)


def streamed_codes(serial):
    """Pulses have heights of whole digits, and shifted and added they are the inputs as a DAC rounds them."""
    bound = float(serial.bound)
    x = jnp.linspace(-1.3 * bound, 1.3 * bound, 2001)
    pulses = serial.pulses(x[:, None])[..., 0]  # [inputs, pulses]
    digits = np.asarray(pulses) / bound * (2**serial.pulse_bits - 1)
    np.testing.assert_allclose(digits, np.rint(digits), atol=1e-5)
    assert np.abs(digits).max() <= 2**serial.pulse_bits - 1 + 1e-5
    total = serial.total(pulses.reshape(-1, 1))[:, 0]
    wanted = arrays.DAC(bits=serial.bits, bound=serial.bound)(None, x)
    np.testing.assert_allclose(total, wanted, atol=1e-6 * bound)


def analytic_range(rule, key, n=100_000):
    """Of normal inputs a fraction 2 Phi(-3) of the widest output lies beyond 3 sigma; false alarm 7e-6."""
    k_w, k_x = jax.random.split(key)
    w = jax.random.uniform(k_w, (20, 6), minval=-1.0).at[:, 2].set(0.9)  # the widest
    noise = arrays.OutputNoise(sigma=1.5)
    hardware = Hardware(mapping=arrays.Differential(scale_by="none"), output_noise=noise)
    effective = arrays.unprogrammed(None, hardware, w)
    mean, std = jnp.linspace(0, 0.2, 20), jnp.linspace(0.5, 1.5, 20)
    x = mean + std * jax.random.normal(k_x, (n, 20))
    y = arrays.currents(key, hardware, effective, x)[0, :, 0]
    bound = rule(hardware, effective, mean, std)
    beyond = jax.scipy.stats.norm.sf(3.0)
    found = float(jnp.mean(y[:, 2] > bound))  # of a positive mean: above only
    assert abs(found - beyond) < 4.5 * np.sqrt(beyond / n), found
    assert float(jnp.max(jnp.mean(jnp.abs(y) > bound, axis=0))) < 2 * beyond


TIMES = np.array([1.0, 10.0, 100.0, 1e3, 1e4, 1e5])  # s
Z = 4.0  # a right value is further off in standard errors with odds of 6e-5


def within(found, true, z=Z):
    """Assert that every value named in `true` is within `z` standard errors."""
    off = {name: np.abs((found.values[name] - np.asarray(value)) / found.std[name]) for name, value in true.items()}
    assert all(np.all(x <= z) for x in off.values()), f"{off}\n{found}"
