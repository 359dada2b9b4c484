import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import capacitor_mismatch, each_converter_has_its_own_capacitors, transitions

from anajax import Hardware
from anajax.arrays import (
    ADC,
    CCO,
    DAC,
    SAR,
    BitSerial,
    Differential,
    Ramp,
    Slices,
    mvm,
    program,
    read,
    settle,
    step_size,
)
from anajax.testing import check_gradients, check_moments

FLAWED = {
    "SAR": SAR(bits=6, bound=2.0, mismatch=0.05, offset=0.02, columns_per_adc=2),
    "Ramp": Ramp(bits=6, bound=2.0, mismatch=0.05, offset=0.02),
    "CCO": CCO(bits=6, bound=2.0, gain_spread=0.1, curvature=0.3, curvature_spread=0.4, columns_per_adc=2),
}


def fabricated(adc, key, cols):
    return {name: s[0, 0] for name, s in adc.fabricate(key, (1, 1, cols)).items()}


# --- without flaws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SAR, Ramp])
@pytest.mark.parametrize("bits", [2, 3, 6, 8])
def test_without_mismatch_every_code_is_that_of_the_ideal_converter(kind, bits, key):
    y = jnp.linspace(-3.1, 3.1, 40_001)[:, None] * jnp.ones((1, 3))
    adc = kind(bits=bits, bound=2.7, mismatch=0.0, offset=0.0)
    found = np.asarray(adc(y, fabricated(adc, key, 3)))
    np.testing.assert_array_equal(found, ADC(bits=bits, bound=2.7)(y))
    np.testing.assert_array_equal(kind(bits=bits, bound=2.7, mismatch=0.2, offset=0.2)(y), found)  # no chip: the mean
    assert len(np.unique(found)) == 2**bits - 1


@pytest.mark.parametrize("kind", [SAR, Ramp])
def test_halves_round_away_from_zero(kind):
    adc = kind(bits=4, bound=7.0)
    y = jnp.array([[0.5, 1.5, 2.5, -0.5, -1.5, -6.5]])
    np.testing.assert_array_equal(adc(y), [[1, 2, 3, -1, -2, -7]])


def test_an_oscillator_counts_whole_cycles():
    step = 2.0 / 31
    y = jnp.array([[0.4, 0.99, 1.01, 7.5, -0.99, -3.6, 31.5, -99.0]]) * step
    np.testing.assert_allclose(CCO(bits=6, bound=2.0)(y) / step, [[0, 0, 1, 7, 0, -3, 31, -31]], rtol=1e-6)
    np.testing.assert_allclose(CCO(bound=2.0)(y), jnp.clip(y, -2, 2), rtol=1e-6)


@pytest.mark.parametrize("curvature", [0.0, 0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("bound", [1.0, 2.7, 10.0])
@pytest.mark.parametrize("bits", [4, 8, 12])
def test_an_oscillator_loses_no_cycle_to_rounding(bits, bound, curvature):
    most = 2 ** (bits - 1) - 1
    levels = np.arange(-most, most + 1) * bound / most
    linear = CCO(bits=bits, bound=bound)(jnp.asarray(levels))
    np.testing.assert_array_equal(np.round(linear / bound * most), np.arange(-most, most + 1))
    bent = CCO(bits=bits, bound=bound, curvature=curvature)(jnp.asarray([bound, -bound]))
    np.testing.assert_allclose(bent, [bound, -bound], rtol=1e-6)


# --- mismatch -------------------------------------------------------------------------------------------


def test_capacitor_mismatch_of_successive_approximation(key):
    capacitor_mismatch(SAR(bits=5, bound=3.0, mismatch=0.02), key)


def test_a_ramp_has_one_capacitor_array_and_each_column_its_offset(key):
    flawed = Ramp(bits=5, bound=3.0, mismatch=0.03)
    scores = fabricated(flawed, key, 40)
    steps = transitions(flawed, scores)
    assert np.ptp(steps, axis=1).max() == 0 < np.abs(steps[:, 0] - (np.arange(1, 16) - 0.5)).max()
    one = SAR(bits=5, bound=3.0, mismatch=0.03)
    np.testing.assert_allclose(steps[:, 0], transitions(one, scores)[:, 0], atol=1e-6)  # the same capacitors
    shifted = transitions(Ramp(bits=5, bound=3.0, offset=0.01), scores)
    wanted = np.arange(1, 16)[:, None] - 0.5 - np.asarray(0.01 * scores["adc_offset"] / (3 / 15))
    np.testing.assert_allclose(shifted, wanted, atol=0.011)  # points of the sweep are 0.01 steps apart


def test_a_ramp_that_falls_back_misses_codes():
    """Capacitors 2 and 1 of 3 + 1: levels 0, 1.5, 1.2, 2.7 -> scaled to 3. Code 2 lies below code 1."""
    adc = Ramp(bits=3, bound=3.0, mismatch=1.0)
    scores = {"adc_capacitors": jnp.array([-0.8 / 2**0.5, 0.5])[:, None], "adc_offset": jnp.zeros(1)}
    levels = np.array([0, 1.5, 1.2, 2.7]) / 0.9
    y = jnp.linspace(0, 3, 301)[:, None]
    code = np.asarray(adc(y, scores))[:, 0]
    reach = np.asarray(y)[:, 0] + 0.5
    np.testing.assert_array_equal(code, np.where(reach < levels[1], 0, np.where(reach < levels[3], 2, 3)))
    found = np.asarray(SAR(bits=3, bound=3.0, mismatch=1.0)(y, scores))[:, 0]  # bit by bit, instead
    np.testing.assert_array_equal(found, np.where(reach < levels[2], 0, np.where(reach < levels[3], 2, 3)))


def test_converters_are_shared_by_adjacent_columns_only(key):
    each_converter_has_its_own_capacitors(SAR(bits=5, bound=3.0, mismatch=0.05, columns_per_adc=8), key)
    each_converter_has_its_own_capacitors(SAR(bits=5, bound=3.0, mismatch=0.05), key)


def test_comparator_offsets_have_the_stated_spread(key):
    adc = SAR(bits=8, bound=3.0, offset=0.05)
    scores = fabricated(adc, key, 20_000)
    y = adc(jnp.full((1, 20_000), 1.0), scores) - 1.0
    check_moments(y, 0.0, float(jnp.sqrt(0.05**2 + (3 / 127) ** 2 / 12)), rounding=2e-4)


def test_calibration_takes_gain_away_and_leaves_the_bend(key):
    """g t (1 + n0) / (1 + n t) over its value at 1: the bend is n t (1 - t) / (1 + n t)."""
    t = jnp.linspace(-1, 1, 21)[:, None] * jnp.ones((1, 50))
    adc = CCO(bound=1.0, gain_spread=0.2, curvature=0.3, curvature_spread=0.5)
    scores = fabricated(adc, key, 50)
    n = np.asarray(0.3 * jnp.abs(1 + 0.5 * scores["adc_curvature"]))
    g = np.abs(1 + 0.2 * np.asarray(scores["adc_gain"]))
    a = np.abs(t)
    unclipped = g * a * 1.3 / (1 + n * a) <= 1
    bent = np.asarray(t) * (1 + n * a * (1 - a) / (1 + n * a) / np.maximum(a, 1e-9))
    np.testing.assert_allclose(np.asarray(adc(t, scores))[unclipped], bent[unclipped], rtol=1e-5)
    raw = np.clip(g * np.asarray(t) * 1.3 / (1 + n * a), -1, 1)
    np.testing.assert_allclose(adc.replace(calibration="array")(t, scores), raw, rtol=1e-5)
    np.testing.assert_allclose(adc(t)[0], -1.0, rtol=1e-6)  # the mean converter is calibrated at the bound


# --- on a chip ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLAWED)
def test_converters_belong_to_the_chip(name, key):
    hardware = Hardware(adc=FLAWED[name], array_shape=(4, 6), mapping=Differential(scale_by="none"))
    w = jnp.linspace(-1, 1, 8 * 11).reshape(8, 11)
    x = jnp.linspace(-1, 1, 40 * 8).reshape(40, 8)
    run = jax.jit(lambda key, h: read(None, h, program(key, h, w), w, x))
    y, again, other = run(key, hardware), run(key, hardware), run(jax.random.fold_in(key, 1), hardware)
    np.testing.assert_array_equal(y, again)
    assert (y != other).any()
    keys = jax.random.split(key, 3)
    many = jax.vmap(run, (0, None))(keys, hardware)
    np.testing.assert_allclose(many, np.stack([run(k, hardware) for k in keys]), atol=1e-6)
    plain = read(None, hardware.replace(adc=ADC(bits=6, bound=2.0)), program(key, hardware, w), w, x)
    step = float(step_size(6, 2.0))
    assert 0 < np.abs(np.asarray(y - plain)).max() < 20 * step


def test_converters_that_serve_padding_and_weights_are_no_better(key):
    """Three columns of five on the second array, sliced: some converters' first column is padding."""
    adc = SAR(bits=12, bound=4.0, offset=0.3, columns_per_adc=2)
    hardware = Hardware(slices=Slices(bits=1, count=2), adc=adc, array_shape=(4, 3))
    w = jnp.ones((4, 5))

    def outputs(key):
        return read(None, hardware, program(key, hardware, w), w, jnp.ones(4))

    spread = jnp.std(jax.vmap(outputs)(jax.random.split(key, 2000)), axis=0)
    np.testing.assert_allclose(spread, spread[0], rtol=0.1)  # 4.5 standard errors of a difference


def test_a_chip_keeps_its_other_scores_when_its_converters_change(key):
    w = jnp.ones((3, 5))
    plain, other = (program(key, Hardware(adc=adc), w).outputs for adc in (ADC(), SAR()))
    assert set(other) - set(plain) == {"adc_capacitors", "adc_offset"}
    for name, score in plain.items():
        np.testing.assert_array_equal(score, other[name])


def test_fewer_bits_keep_the_largest_capacitors(key):
    scores = fabricated(SAR(), key, 4)
    assert scores["adc_capacitors"].shape == (15, 4)
    bare = {"adc_capacitors": scores["adc_capacitors"][:4]}
    y = jnp.linspace(-1, 1, 101)[:, None] * jnp.ones((1, 4))
    adc = SAR(bits=5, bound=1.0, mismatch=0.1)
    np.testing.assert_array_equal(adc(y, scores), adc(y, bare))


# --- gradients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLAWED)
def test_gradient_is_straight_through_within_the_bound(name):
    adc = FLAWED[name].replace(**({"curvature": 0.0} if name == "CCO" else {}))
    y = jnp.array([[-2.4, -1.93, 0.1, 0.2, 1.99, 2.01]])
    slope = jax.grad(lambda y: jnp.sum(adc(y)))(y)
    np.testing.assert_array_equal(slope, [[0, 1, 1, 1, 1, 0]])


@pytest.mark.parametrize(
    "convert",
    [
        DAC(),
        DAC(bits=8),
        BitSerial(bits=8),
        *(kind(bits=8, bound=1.0) for kind in (ADC, SAR, Ramp, CCO)),
        *(kind(bits=None, bound=1.0) for kind in (ADC, CCO)),
    ],
    ids=repr,
)
def test_gradient_at_the_bound_is_that_within_it(convert):
    """Inputs of exactly 1 are ordinary: black and white pixels."""

    def f(x):
        if isinstance(convert, BitSerial):
            return convert.total(convert.pulses(x[None, None])[0])[0, 0]
        return convert(None, x) if isinstance(convert, DAC) else convert(x[None])[0]

    slopes = [float(jax.grad(f)(jnp.float32(x))) for x in (-1.01, -1.0, 0.99, 1.0, 1.01)]
    np.testing.assert_allclose(slopes, [0, 1, 1, 1, 0], rtol=1e-5)


@pytest.mark.parametrize("kind", [SAR, Ramp])
def test_gradient_of_bound_is_that_of_the_ideal_converter(kind):
    y = jnp.array([[-2.4, -1.93, 0.1, 0.21, 1.99, 2.01]])
    slope, ideal = (
        jax.grad(lambda bound, adc=adc: jnp.sum(adc.replace(bound=bound)(y) ** 2))(2.0)
        for adc in (kind(bits=5), ADC(bits=5))
    )
    np.testing.assert_allclose(slope, ideal, rtol=1e-4)


@pytest.mark.parametrize("kind", [SAR, Ramp])
@pytest.mark.parametrize("field", ["mismatch", "offset"])
def test_gradient_of_flaws_is_that_of_the_average_over_inputs(kind, field, key, x64):
    """Over inputs spread evenly in (0, bound) the staircase is smooth in small flaws: compare with differences."""
    adc = kind(bits=4, bound=1.0, mismatch=0.004, offset=0.01)
    scores = fabricated(adc, key, 3)
    y = jnp.asarray((np.arange(200_000) + 0.5)[:, None] / 200_000) * jnp.ones((1, 3))

    def mean(value):
        return jnp.mean(adc.replace(**{field: value})(y, scores) * y, axis=0)  # codes d and M - d err alike

    value = getattr(adc, field)
    slope = jax.jacfwd(mean)(value)
    wanted = (mean(value + 0.003) - mean(value - 0.003)) / 0.006
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(slope, wanted, atol=0.05 * float(np.abs(wanted).max()))


def test_gradients_of_an_oscillator_reach_every_field(key):
    adc = FLAWED["CCO"].replace(calibration="array")
    scores = fabricated(adc, key, 6)
    y = jnp.linspace(0.1, 1.1, 60).reshape(10, 6)
    slopes = jax.grad(lambda adc: jnp.sum(adc(y, scores)))(adc)
    assert all(np.isfinite(s) and s != 0 for s in jax.tree.leaves(slopes))


def test_gradients_of_an_oscillator_that_counts_fractions(key):
    adc = FLAWED["CCO"].replace(bits=None, calibration="array")
    scores = fabricated(adc, key, 6)
    y = jnp.linspace(0.1, 1.1, 60).reshape(10, 6)
    slopes = check_gradients(lambda adc, y, scores: adc(y, scores), adc, y, scores)
    assert not [name for name, slope in slopes.items() if slope == 0]


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SAR, Ramp])
@pytest.mark.parametrize("bits", [1, 17, 8.0, None])
def test_capacitive_converters_have_whole_bits(kind, bits):
    with pytest.raises(ValueError, match=rf"{kind.__name__}.bits must be an integer from 2 to 16; got {bits}"):
        kind(bits=bits)


@pytest.mark.parametrize("kind", [SAR, CCO])
def test_columns_are_counted(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}.columns_per_adc must be a positive integer; got 0"):
        kind(columns_per_adc=0)


def test_a_chip_without_such_converters_is_refused(key):
    w = jnp.ones((3, 2))
    chip = program(key, Hardware(adc=ADC(bits=8)), w)
    with pytest.raises(ValueError, match=r"ADC of this kind: SAR needs scores 'adc_capacitors'; got 'output_noise'"):
        settle(None, Hardware(adc=SAR()), chip, w)
    effective = settle(None, Hardware(adc=SAR()), program(None, Hardware(), w), w)  # a mean chip has mean converters
    assert np.isfinite(mvm(None, Hardware(adc=SAR()), effective, jnp.ones(3))).all()
