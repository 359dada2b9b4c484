import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import ir_drop_all_ones, standard_normals, weight_noise_moments
from scipy import stats

from anajax import Hardware, _random
from anajax._random import fold_read, read_normal, split_read
from anajax.arrays import (
    ADC,
    AbsMax,
    Differential,
    FixedRange,
    IRDrop,
    OutputNoise,
    ReadVoltage,
    SShape,
    WeightNoise,
    Wires,
    mvm,
    program,
    settle,
    unprogrammed,
)
from anajax.devices import Ideal
from anajax.testing import check_distribution, check_moments

NONE = Differential(scale_by="none")


@functools.partial(jax.jit, static_argnums=4)
def repeated(key, hardware, w, x, n=40_000):
    """`n` reads of one input, on a chip without programming errors."""
    return mvm(key, hardware, unprogrammed(None, hardware, w), jnp.broadcast_to(x, (n, x.shape[0])))


def one(hardware, w, x, key=None):
    return mvm(key, hardware, unprogrammed(None, hardware, jnp.asarray(w)), jnp.asarray(x))


# --- wires ----------------------------------------------------------------------------------------------


def test_ir_drop_of_a_column_of_ones_in_float64(x64):
    ir_drop_all_ones(IRDrop(), rtol=2e-7)
    n = 512
    a = n * 0.35 * 5e-6 * n
    share = np.sum(1 - (1 - np.arange(n) / n) ** 2)
    w = jnp.ones((n, 1))
    found = float(IRDrop()(w, w.T, w.T @ w)[0, 0])
    np.testing.assert_allclose(found, n - a * (0.5 + a * (-0.2 + 0.05 * a)) * share, rtol=1e-14)


def test_ir_drop_of_a_column_of_ones_in_float32():
    ir_drop_all_ones(IRDrop(), rtol=1e-4)


def test_each_column_and_input_has_its_own_ir_drop(x64, key):
    n = 8
    k_w, k_x = jax.random.split(key)
    w = np.asarray(jax.random.uniform(k_w, (n, 3), minval=-1.0))
    x = np.asarray(jax.random.uniform(k_x, (4, n), minval=-1.0))
    wires = IRDrop(resistance=50.0, conductance=20e-6, scale=1.5, coefficients=(0.5, -0.2, 0.05))
    found = one(Hardware(mapping=NONE, wires=wires), w, x)
    wanted = np.empty((4, 3))
    for b in range(4):
        for c in range(3):
            a = n * 1e-3 * sum(abs(w[j, c] * x[b, j]) for j in range(n))
            dip = sum(w[-1 - j, c] * x[b, -1 - j] * (1 - (1 - j / n) ** 2) for j in range(n))  # the last is sensed
            wanted[b, c] = w[:, c] @ x[b] - 1.5 * (0.05 * a**3 - 0.2 * a**2 + 0.5 * a) * dip
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_both_models_of_wires_lose_most_far_from_the_sensed_end(key):
    """What row_order relies on; the formula knows no drop along word lines."""
    w, x = jnp.ones((8, 1)), 0.1 * jnp.ones((1, 8))
    for wires in (IRDrop(resistance=500.0), Wires(word_line=0.0, bit_line=500.0)):
        hardware = Hardware(device=Ideal(g_min=0.0, g_max=5e-6), wires=wires)
        by_row = jax.grad(lambda x, h=hardware: one(h, w, x).sum())(x)[0]
        assert (np.diff(by_row) > 0).all()


def test_without_resistance_nothing_drops():
    w = jnp.array([[0.5, -0.25], [0.125, 1.0]])
    np.testing.assert_array_equal(one(Hardware(wires=IRDrop(resistance=0.0)), w, jnp.eye(2)), w)


# --- read voltage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "r", "reference", "score", "wanted"),
    [
        # x = (1, 0.5), y = 0.8, R = -reference * 1.5
        (0.1, 0.0, 0.0, 1.0, 0.9 * 0.8),
        (0.1, 0.0, -1.0, 1.0, 0.9 * 0.8 - 2 * 0.1 * 1.5),
        (0.1, 0.0, -1.0, -1.0, 0.8),  # an offset below zero counts as none
        (0.0, 0.2, 0.0, 1.0, 0.8 / 1.16),
        (0.0, 0.2, -1.0, 1.0, 2.3 / 1.46 - 1.5 / 1.3),
        (0.1, 0.2, -1.0, 2.0, 0.8 * 2.3 / 1.46 - 1.2 * 1.5 / 1.3),
        (0.1, 0.2, 0.5, 1.0, 0.9 * 0.05 / 1.01 - 1.1 * -0.75 / 1.15),
    ],
)
def test_read_voltage_by_hand(offset, r, reference, score, wanted):
    circuit = ReadVoltage(offset=offset, series_resistance=r, reference=reference)
    found = circuit(jnp.array([1.0, 0.5]), jnp.array([0.8]), jnp.asarray(score))
    np.testing.assert_allclose(found, [wanted], rtol=1e-5)


# --- noise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["constant", "pcm"])
def test_weight_noise_is_noise_on_every_weight(kind, key):
    hardware = Hardware(mapping=NONE, weight_noise=WeightNoise(sigma=0.05, kind=kind))
    weight_noise_moments(hardware, key)


def test_constant_weight_noise_is_sigma_times_the_norm(key):
    hardware = Hardware(mapping=NONE, weight_noise=WeightNoise(sigma=0.05, kind="constant"))
    y = repeated(key, hardware, jnp.zeros((2, 1)), jnp.array([3.0, 4.0]))
    check_moments(y, 0.0, 0.05 * 5.0)


def test_weight_noise_needs_an_input(key):
    hardware = Hardware(weight_noise=WeightNoise(sigma=0.05, kind="constant"))
    w = jnp.ones((3, 2))
    np.testing.assert_array_equal(one(hardware, w, jnp.zeros((4, 3)), key), np.zeros((4, 2)))
    slope = jax.grad(lambda x: jnp.sum(one(hardware, w, x, key)))(jnp.zeros((4, 3)))
    assert np.isfinite(slope).all()


def test_output_noise(key):
    hardware = Hardware(mapping=NONE, output_noise=OutputNoise(sigma=0.06))
    y = repeated(key, hardware, jnp.array([[0.5, -1.0]]), jnp.array([0.8]))
    check_moments(y[:, 0], 0.4, 0.06)
    check_moments(y[:, 1], -0.8, 0.06)
    check_moments((y[:, 0] - 0.4) * (y[:, 1] + 0.8) / 0.06**2, 0.0, 1.0, name="product of two outputs")


def test_output_noise_counts_in_units_of_the_scales(key):
    w, x = jnp.array([[0.5, -4.0]]), jnp.array([0.8])
    y = repeated(key, Hardware(output_noise=OutputNoise(sigma=0.06)), w, x)
    check_moments(y[:, 0], 0.4, 0.06 * 0.5, name="column of scale 0.5")
    check_moments(y[:, 1], -3.2, 0.06 * 4.0, name="column of scale 4")
    for inputs, scale in [(AbsMax(), 0.8), (FixedRange(range=3.0), 3.0)]:
        y = repeated(key, Hardware(mapping=NONE, inputs=inputs, output_noise=OutputNoise(sigma=0.06)), w[:, :1], x)
        check_moments(y[:, 0], 0.4, 0.06 * scale, name=f"inputs scaled by {scale}")


def test_output_noise_differs_from_output_to_output(key):
    made, reading = jax.random.split(key)
    hardware = Hardware(output_noise=OutputNoise(sigma=0.06, spread=0.3))
    w = jnp.zeros((1, 3))
    frozen = settle(None, hardware, program(made, hardware, w), w)
    level = 0.06 * np.abs(1 + 0.3 * np.asarray(frozen.outputs["output_noise"][0, 0]))
    y = jax.jit(lambda k: mvm(k, hardware, frozen, jnp.zeros((40_000, 1))))(reading)
    for j in range(3):
        check_moments(y[:, j], 0.0, level[j], name=f"output {j}")
    # over many outputs the levels have mean sigma and standard deviation spread * sigma
    scores = program(made, hardware, jnp.zeros((1, 40_000))).outputs["output_noise"]
    check_moments(hardware.output_noise.level(scores), 0.06, 0.3 * 0.06, rounding=2e-5, name="levels")


def test_outputs_of_a_chip_have_independent_scores(key):
    scores = program(key, Hardware(), jnp.zeros((1, 40_000))).outputs
    for name, score in scores.items():
        check_moments(score, 0.0, 1.0, name=name)
    first, second, third = scores.values()
    for a, b in [(first, second), (second, third), (first, third)]:
        check_moments(a * b, 0.0, 1.0, name="product of two kinds of scores")


# --- shape of the outputs -------------------------------------------------------------------------------


def test_s_shape():
    shape = SShape(strength=1.0)
    np.testing.assert_allclose(shape(jnp.array([2.0, -2.0]), 10.0, 0.0, 0.0), [1.666667, -1.666667], rtol=1e-6)
    hardware = Hardware(mapping=NONE, adc=ADC(bound=10.0), nonlinearity=shape)
    np.testing.assert_allclose(one(hardware, jnp.ones((4, 1)), jnp.full((1, 4), 0.5)), [[1.666667]], rtol=1e-6)


def test_s_shape_calibration_makes_the_slope_one():
    shape = SShape(strength=0.25, calibration=0.6)
    slope = jax.grad(lambda y: shape(y, 10.0, 0.0, 0.0))(0.6 * 10.0)
    np.testing.assert_allclose(slope, 1.0, rtol=1e-6)


def test_s_shape_spread():
    shape = SShape(strength=0.5, spread=0.2)
    n = 0.05 * np.abs(1 + 0.2 * np.array([1.0, -7.0]))
    found = shape(jnp.array([3.0, 3.0]), 10.0, jnp.array([1.0, -7.0]), 0.0)
    np.testing.assert_allclose(found, 3 / (1 + 3 * n), rtol=1e-6)


def test_negative_outputs_are_asymmetric_before_the_adc():
    hardware = Hardware(mapping=NONE, adc=ADC(bits=3, bound=3.0, asymmetry=0.3))  # levels one apart
    y = one(hardware, jnp.array([[1.0, -1.0]]), jnp.array([[1.0], [2.0], [3.0]]))
    np.testing.assert_allclose(y, [[1, -1], [2, -1], [3, -2]], rtol=1e-6)  # -0.7, -1.4 and -2.1


# --- bound management -----------------------------------------------------------------------------------


def managed(halvings, y, bits=None, bound=1.0, key=None, **changes):
    """An array whose ideal outputs are `y [n, 2]` and half of it, read with bound management."""
    hardware = Hardware(mapping=NONE, adc=ADC(bits=bits, bound=bound), halvings=halvings, **changes)
    return one(hardware, jnp.array([[1.0, 0.5]]), jnp.asarray(y)[:, None], key)


def test_an_output_of_twice_the_bound_is_resolved_by_one_halving():
    np.testing.assert_allclose(managed(0, [2.0], bits=8), [[1.0, 1.0]], rtol=1e-6)  # clipped
    # half of it is the bound itself: 127 steps, and 63.5 that round to 64
    np.testing.assert_allclose(managed(10, [2.0], bits=8), [[2.0, 2 * 64 / 127]], rtol=1e-6)


@pytest.mark.parametrize(("y", "factor"), [(0.97, 1), (1.03, 2), (1.97, 2), (2.03, 4), (3.9, 4), (700.0, 1024)])
def test_each_vector_is_halved_as_often_as_it_needs(y, factor):
    step = 2 / 254 * factor
    found = managed(10, [0.3, y, 0.4], bits=8)
    np.testing.assert_allclose(found[1], np.round(np.array([y, y / 2]) / step) * step, rtol=2e-6)
    np.testing.assert_allclose(found[0], np.round(np.array([0.3, 0.15]) * 127) / 127, rtol=2e-6)


@pytest.mark.parametrize("halvings", [1, 3, 10])
def test_halving_stops_at_its_limit(halvings):
    found = managed(halvings, [1e6, -1e6])
    np.testing.assert_allclose(found[:, 0], [2.0**halvings, -(2.0**halvings)], rtol=1e-6)


def test_halving_ends_with_impossible_inputs():
    found = managed(10, [jnp.nan, jnp.inf, 0.5])
    np.testing.assert_allclose(found[2], [0.5, 0.25])
    assert np.isnan(found[0]).all()


def test_halving_accepts_the_noise_that_is_read(key):
    # noise alone exceeds the bound in one of five reads of this input; after bound management nothing clips
    y = np.full(4000, 0.9)
    noise = OutputNoise(sigma=0.12)
    clipped = np.asarray(managed(0, y, key=key, output_noise=noise)[:, 0])
    assert 0.15 < np.mean(clipped == 1.0) < 0.25
    kept = np.asarray(managed(10, y, key=key, output_noise=noise)[:, 0])
    np.testing.assert_allclose(kept[clipped < 1], clipped[clipped < 1], rtol=1e-6)
    # halved, the same draw counts twice: 0.9 + 2 * noise, where the noise was more than 0.1
    assert kept[clipped == 1].min() > 1.1 - 1e-5
    assert kept.max() < 2.0


def test_gradient_with_bound_management():
    slope = jax.grad(lambda y: managed(10, y, bits=8).sum())(jnp.array([0.4, 1.7, 5.0]))
    np.testing.assert_allclose(slope, [1.5, 1.5, 1.5], rtol=1e-6)  # straight through, and nothing is clipped


# --- the normals of read noise --------------------------------------------------------------------------

N = 1 << 20


@functools.cache
def normals(seed):
    return np.asarray(jax.jit(lambda k: read_normal(k, (N,), jnp.float32))(jax.random.key(seed)))


def test_read_normals_are_normal():
    standard_normals(lambda seed, n: normals(seed)[:n], N)
    x = normals(0)
    check_moments(x**3, 0.0, np.sqrt(15.0), name="third powers", rounding=0.02)  # tails end at 4.3 sigma
    assert 4.0 < np.abs(x).max() < 4.4


def test_read_normals_lie_on_a_lattice_of_sixteen_bits(key):
    x = normals(0)
    values = np.unique(np.abs(x))
    assert 30_000 < values.size <= 1 << 15


def test_read_normals_are_the_quantiles_of_their_bits(key, monkeypatch):
    """All 65,536 values: within 4e-4 at the ends, and within 1.6e-4 of their size everywhere."""
    monkeypatch.setattr(_random, "_words", lambda key, index: index << 16)
    x = np.asarray(read_normal(key, (1 << 16,), jnp.float32), float)
    exact = stats.norm.ppf((np.arange(1 << 16) + 0.5) / (1 << 16))
    np.testing.assert_allclose(x, exact, rtol=1.6e-4, atol=0)
    assert np.abs(x - exact).max() < 4e-4
    np.testing.assert_array_equal(x, -x[::-1])


@pytest.mark.parametrize("lag", [1, 2, 256, 65536])
def test_squares_of_read_normals_are_uncorrelated(lag):
    x = normals(0)
    check_moments((x[lag:] ** 2 - 1) * (x[:-lag] ** 2 - 1), 0.0, 2.0, rounding=5e-3, name=f"squares at lag {lag}")


def test_read_normals_of_two_keys_are_independent():
    for other in (2, 1 << 20):
        check_moments(normals(0) * normals(other), 0.0, 1.0, name=f"product of keys 0 and {other}")


def test_read_normals_are_fixed_by_the_key(key):
    a, b = (read_normal(key, (3, 5), jnp.float32) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(read_normal(key, (15,), jnp.float32).reshape(3, 5), a)


def test_read_normals_in_float64(x64, key):
    x = read_normal(key, (N // 16,), jnp.float64)
    assert x.dtype == jnp.float64
    check_moments(x, 0.0, 1.0)
    np.testing.assert_allclose(x, read_normal(key, (N // 16,), jnp.float32), rtol=2e-3, atol=1e-6)


def test_keys_of_reads_give_independent_noise(key):
    """Streams of a key, of its children, and of theirs. False alarm 7e-6 for each pair and test."""
    n = 1 << 16
    children = split_read(key, (2, 2)).ravel()
    family = [key, *children, fold_read(key, 77), fold_read(children[0], 1), fold_read(key, 1, 0)]
    draws = np.stack([np.asarray(read_normal(k, (n,), jnp.float32)) for k in family])
    for i in range(len(family)):
        check_moments(draws[i], 0.0, 1.0, name=f"stream {i}")
        for j in range(i):
            check_moments(draws[i] * draws[j], 0.0, 1.0, name=f"product of streams {i} and {j}")


def test_first_numbers_of_many_keys_are_normal(key):
    """Keys of one parent, each used for one number: 2 z-tests and a Kolmogorov-Smirnov test."""
    keys = split_read(key, (40_000,))
    x = jax.jit(jax.vmap(lambda k: read_normal(k, (2,), jnp.float32)))(keys)
    for j in range(2):
        check_moments(x[:, j], 0.0, 1.0)
        check_distribution(x[:, j], jax.scipy.stats.norm.cdf)
    check_moments(x[:, 0] * x[:, 1], 0.0, 1.0, name="first times second number")
    check_moments(x[1:, 0] * x[:-1, 0], 0.0, 1.0, name="neighbouring keys")


def test_folding_is_one_of_a_split(key):
    data = jax.random.key_data
    np.testing.assert_array_equal(data(fold_read(key, 5)), data(split_read(key, (8,))[5]))
    np.testing.assert_array_equal(data(split_read(key, (2, 3))).reshape(6, -1), data(split_read(key, (6,))))
    np.testing.assert_array_equal(data(fold_read(key, 5, 6)), data(fold_read(fold_read(key, 5), 6)))
    np.testing.assert_array_equal(data(jax.jit(fold_read)(key, 5)), data(fold_read(key, 5)))
