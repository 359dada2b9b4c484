import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import DAY, HOUR, mvm_error

from anajax import Hardware, presets
from anajax._random import split_read
from anajax.arrays import (
    ADC,
    DAC,
    AbsMax,
    Differential,
    DriftCompensation,
    FixedRange,
    IRDrop,
    LearnedRange,
    Offset,
    OutputNoise,
    ReadVoltage,
    SShape,
    WeightNoise,
    mvm,
    program,
    read,
    reads,
    settle,
    unprogrammed,
)
from anajax.devices import PCM, Polynomial
from anajax.devices import presets as devices
from anajax.testing import check_gradients


def case(key, rows=7, cols=5, n=3):
    k_w, k_x = jax.random.split(key)
    w = 0.3 * jax.random.normal(k_w, (rows, cols))
    return w, jax.random.uniform(k_x, (n, rows), minval=-1.0)


def jit_read(*args):
    """A `read` compiled on its own: faster than operation by operation."""
    return jax.jit(lambda *args: read(*args))(*args)


def quiet_pcm(nu=0.05, slope=0.0):
    """PCM without any noise, of drift exponent nu + slope * u."""
    return PCM(
        program_curve=Polynomial(coefficients=(0.0,)),
        nu_mean=Polynomial(coefficients=(nu, slope)),
        nu_std=Polynomial(coefficients=(0.0,)),
        read_curve=Polynomial(coefficients=(0.0,)),
    )


# --- what a tile computes -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [None, (4, 3), (1, 1)])
@pytest.mark.parametrize("scale_by", ["column", "array", "none"])
def test_ideal_hardware_is_the_matrix_product(shape, scale_by, key):
    w, x = case(key)
    w = w if scale_by != "none" else jnp.clip(w, -1, 1)
    hardware = Hardware(array_shape=shape, mapping=Differential(scale_by=scale_by))
    y = jax.jit(lambda key: read(key, hardware, program(key, hardware, w), w, x))(key)
    np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-6)
    y = jax.jit(lambda key: mvm(key, hardware, unprogrammed(key, hardware, w), x))(key)
    np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-6)


def test_any_leading_axes(key):
    w, _ = case(key)
    x = jax.random.normal(key, (2, 4, 7))
    hardware = Hardware(array_shape=(4, 3))
    y = mvm(None, hardware, unprogrammed(None, hardware, w), x)
    np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-6)
    one = mvm(None, hardware, unprogrammed(None, hardware, w), x[0, 0])
    np.testing.assert_allclose(one, x[0, 0] @ w, rtol=1e-5, atol=1e-6)


def test_read_is_settle_then_mvm(key):
    w, x = case(key)
    hardware = presets.standard_aimc().replace(array_shape=(4, 3), dac=None, adc=None)
    chip = program(key, hardware, w)
    settling, reading = split_read(key, (2,))
    frozen = jax.jit(settle)(settling, hardware, chip, w, HOUR)
    by_hand = jax.jit(mvm)(reading, hardware, frozen, x, 2.0)
    np.testing.assert_allclose(jit_read(key, hardware, chip, w, x, HOUR, 2.0), by_hand, rtol=1e-5, atol=1e-5)


def test_many_arrays_loop_as_few_unroll(monkeypatch, key):
    w, x = case(key, 10, 6)
    hardware = presets.standard_aimc().replace(array_shape=(4, 3))  # 3 x 2 arrays
    chip = program(key, hardware, w)
    few = jit_read(key, hardware, chip, w, x, HOUR, 2.0)
    monkeypatch.setattr(reads, "_UNROLLED", 0)
    np.testing.assert_allclose(jit_read(key, hardware, chip, w, x, HOUR, 2.0), few, rtol=1e-4, atol=1e-5)


def test_large_batches_are_read_like_single_vectors(key):
    w, _ = case(key)
    n = 2 * reads._BLOCK + 3
    x = jax.random.uniform(key, (n, 7), minval=-1.0)
    hardware = presets.standard_aimc().replace(array_shape=(4, 3), inputs=AbsMax())
    effective = settle(key, hardware, program(key, hardware, w), w)
    run = jax.jit(lambda x: mvm(None, hardware, effective, x))
    y = run(x)
    assert y.shape == (n, 5)
    for i in (0, reads._BLOCK - 1, reads._BLOCK, n - 1):
        np.testing.assert_allclose(y[i], run(x[i]), rtol=1e-4, atol=2e-3)


def test_blocks_have_noise_of_their_own(key):
    n = 2 * reads._BLOCK
    hardware = Hardware(output_noise=OutputNoise(sigma=1.0))
    y = mvm(key, hardware, unprogrammed(None, hardware, jnp.zeros((2, 3))), jnp.zeros((n, 2)))
    pairs = np.asarray(y[: reads._BLOCK] * y[reads._BLOCK :]).ravel()
    z = pairs.mean() * np.sqrt(pairs.size)
    assert abs(z) < 4.5, "the two blocks are correlated"


# --- the error of the standard model --------------------------------------------------------------------

NOTHING = {"program_scale": 0.0, "read_scale": 0.0, "nu_scale": 0.0}
# what is on, and its relative MVM error in percent
CONTRIBUTIONS = {
    "programming": (Hardware(device=devices.pcm().replace(**{**NOTHING, "program_scale": 1.0})), 10.4),
    "1/f noise": (Hardware(device=devices.pcm().replace(**{**NOTHING, "read_scale": 1.0})), 8.2),
    "weight noise": (Hardware(weight_noise=WeightNoise(sigma=0.0175)), 3.2),
    "IR drop": (Hardware(wires=IRDrop()), 1.6),
    "converters": (Hardware(dac=DAC(bits=8), adc=ADC(bits=8)), 1.5),
    "output noise": (Hardware(output_noise=OutputNoise(sigma=0.04)), 1.2),
}


def test_mvm_error_of_the_standard_model(key):
    hardware = presets.standard_aimc().replace(mapping=Differential(scale_by="none"), compensation=None)
    error = mvm_error(hardware, key)
    assert 0.12 < error < 0.17
    np.testing.assert_allclose(error, 0.139, atol=0.004)


@pytest.mark.parametrize("name", CONTRIBUTIONS)
def test_contributions_to_the_mvm_error(name, key):
    hardware, percent = CONTRIBUTIONS[name]
    error = mvm_error(hardware.replace(mapping=Differential(scale_by="none")), key)
    np.testing.assert_allclose(100 * error, percent, atol=0.4)


# --- drift compensation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["programmed", "target"])
@pytest.mark.parametrize("shape", [None, (4, 3)])
def test_uniform_drift_is_compensated_exactly(reference, shape, key):
    w, x = case(key)
    nu = 0.07
    plain = Hardware(device=quiet_pcm(nu), array_shape=shape)
    hardware = plain.replace(compensation=DriftCompensation(reference=reference))
    chip = program(key, hardware, w)
    without, now = (settle(None, h, chip, w, DAY) for h in (plain, hardware))
    alpha = (1 + DAY / 20) ** nu
    np.testing.assert_allclose(now.scale / without.scale, np.full(now.scale.shape, alpha), rtol=2e-5)
    np.testing.assert_allclose(mvm(None, plain, without, x), x @ w / alpha, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mvm(None, hardware, now, x), x @ w, rtol=1e-4, atol=1e-6)


def test_column_drift_is_compensated_per_column_only():
    sign = jnp.array([[1, -1, 1], [-1, 1, 1], [1, 1, -1], [1, 1, 1.0]])
    u = np.array([0.2, 0.5, 1.0])  # one magnitude, so one exponent, for each column
    w, x = sign * u, jnp.array([[0.3, -0.7, 0.4, 0.9]])
    left = (1 + DAY / 20) ** -(0.02 + 0.08 * u)
    hardware = Hardware(device=quiet_pcm(0.02, 0.08), mapping=Differential(scale_by="none"))
    chip = program(None, hardware, w)
    for per, alpha in [("column", 1 / left), ("array", np.full(3, u.sum() / (u * left).sum()))]:
        compensated = hardware.replace(compensation=DriftCompensation(per=per))
        now = settle(None, compensated, chip, w, DAY)
        np.testing.assert_allclose(now.scale[0, 0], alpha, rtol=2e-5)
        np.testing.assert_allclose(mvm(None, compensated, now, x), (x @ w) * left * alpha, rtol=1e-4)


def test_compensation_of_a_matrix_of_zeros():
    w = jnp.zeros((3, 2))
    hardware = Hardware(device=quiet_pcm(), compensation=DriftCompensation())
    now = settle(None, hardware, program(None, hardware, w), w, DAY)
    np.testing.assert_array_equal(now.scale, np.ones((1, 1, 2)))


def test_padding_does_not_enter_the_compensation(key):
    # cut 7 x 5 into 4 x 3: half the arrays are padded; pad cells have programming noise, but no weight
    w, _ = case(key)
    hardware = presets.standard_aimc().replace(array_shape=(4, 3))
    chip = program(key, hardware, w)
    now = settle(key, hardware, chip, w, DAY)
    assert not np.asarray(now.weights[1, :, 3:, :]).any()
    assert not np.asarray(now.weights[:, 1, :, 2:]).any()


# --- transformations ------------------------------------------------------------------------------------


def test_chips_by_vmap_are_chips_by_loop(key):
    w, x = case(key)
    # without converters: a value at the edge of two codes may fall either way
    hardware = presets.standard_aimc().replace(array_shape=(7, 3), dac=None, adc=None)

    def chip(key):
        made, reading = jax.random.split(key)
        return read(reading, hardware, program(made, hardware, w), w, x, DAY, 2.0)

    keys = jax.random.split(key, 4)
    run = jax.jit(chip)
    together, alone = jax.jit(jax.vmap(chip))(keys), jnp.stack([run(k) for k in keys])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


def test_jit_changes_nothing(key):
    w, x = case(key)
    hardware = presets.standard_aimc().replace(inputs=AbsMax(), dac=None, adc=None)
    chip = program(key, hardware, w)

    def run(hardware, chip, w, x, time):
        return read(key, hardware, chip, w, x, time)

    args = (hardware, chip, w, x, DAY)
    np.testing.assert_allclose(jax.jit(run)(*args), run(*args), rtol=1e-4, atol=1e-5)


def test_float32_is_close_to_float64(key):
    w, x = (np.asarray(a, np.float64) for a in case(key, 64, 32))
    hardware = presets.standard_aimc().replace(array_shape=(32, 32), dac=None, adc=None)
    exact = Hardware(device=hardware.device, array_shape=(32, 32), compensation=DriftCompensation())
    for spec, gap in [(exact, 1e-5), (hardware, 1e-4)]:  # corrections are multiplied in bfloat16
        results = []
        for wide in (False, True):
            with jax.enable_x64(wide):
                dtype = np.float64 if wide else np.float32
                own = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), spec)  # noqa: B023
                weights, inputs = jnp.asarray(w, dtype), jnp.asarray(x, dtype)
                y = jit_read(None, own, program(None, own, weights), weights, inputs, DAY, 1.0)
                assert y.dtype == dtype
                results.append(np.asarray(y))
        short, long = results
        assert np.abs(short - long).max() < gap * np.abs(long).max()


# --- gradients ------------------------------------------------------------------------------------------


def smooth_hardware(**changes):
    """Every nonideality that has derivatives of its own, and an interior value in every field."""
    return Hardware(
        device=devices.pcm().replace(g_min=1e-7),
        mapping=Differential(fill=0.9, significance=(1.0, 2.5)),
        inputs=FixedRange(range=1.3),
        dac=DAC(bits=None, bound=3.0, noise=0.02, asymmetry=0.05),
        wires=IRDrop(resistance=30.0),
        read_voltage=ReadVoltage(offset=0.01, series_resistance=0.02, reference=-0.8),
        weight_noise=WeightNoise(sigma=0.0175),
        nonlinearity=SShape(strength=0.3, spread=0.1, calibration=0.2),
        output_noise=OutputNoise(sigma=0.04, spread=0.2),
        adc=ADC(bits=None, bound=10.0, asymmetry=0.03),
        compensation=DriftCompensation(),
    ).replace(**changes)


# the fields that rightly change nothing, in each case: a clip that does not clip, a floor out of reach
CASES = {
    "full": (smooth_hardware, {"dac.bound", "device.read_curve.floor"}),
    "other mapping, scaling, and compensation": (
        lambda: smooth_hardware(
            mapping=Differential(scheme="midpoint", scale_by="array", fill=0.8),
            array_shape=(4, 5),
            inputs=AbsMax(cap=0.7),
            weight_noise=WeightNoise(sigma=0.02, kind="constant"),
            nonlinearity=None,
            adc=None,
            compensation=DriftCompensation(per="column", reference="target"),
        ),
        {"dac.bound", "device.read_curve.floor", "device.read_curve.high", "device.nu_mean.high"}
        | {"device.nu_std.high", "mapping.significance"},
    ),
    "offset, RRAM": (
        lambda: smooth_hardware(device=devices.rram_wan().replace(g_min=2e-6), mapping=Offset()),
        {"dac.bound"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients(name, key):
    """By every float field of the hardware, the chip's scores, weights, inputs and time."""
    make, flat = CASES[name]
    with jax.enable_x64(True):
        hardware = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), make())
        w, x = case(key)
        chip = program(key, hardware, w)

    def run(args):
        return read(key, args["hardware"], args["chip"], args["w"], args["x"], args["time"])

    slopes = check_gradients(run, {"hardware": hardware, "chip": chip, "w": w, "x": x, "time": 1.2e5})
    zero = {path.removeprefix("0.hardware.") for path, slope in slopes.items() if slope == 0}
    assert zero - {"0.chip.outputs.nonlinearity"} == flat


# --- errors ---------------------------------------------------------------------------------------------

GOOD = (jnp.zeros((3, 2)), jnp.zeros((4, 3)))


def run_read(hardware=None, w=GOOD[0], x=GOOD[1], time=0.0):
    hardware = Hardware() if hardware is None else hardware
    return read(None, hardware, program(None, hardware, w), w, x, time)


@pytest.mark.parametrize(
    ("run", "parts"),
    [
        (lambda: run_read(w=GOOD[0].at[1, 1].set(jnp.nan)), ("weights must be finite", "nan", "1 of 6")),
        (lambda: run_read(w=jnp.full((3, 2), jnp.inf)), ("weights must be finite", "inf", "6 of 6")),
        (lambda: run_read(w=jnp.zeros(3)), ("weights must have shape (rows, cols)", "(3,)")),
        (lambda: run_read(x=jnp.zeros((4, 2))), ("x must have shape (..., rows) with rows=3", "(4, 2)")),
        (lambda: run_read(time=-1.0), ("time must be at least 0", "-1")),
        (
            lambda: run_read(Hardware(mapping=Differential(scale_by="none")), w=jnp.full((3, 2), 1.5)),
            ("within [-1, 1]", "scale_by='none'", "1.5", "'column'"),
        ),
        (lambda: run_read(Hardware(inputs=LearnedRange())), ("LearnedRange", "input_range")),
        (lambda: Hardware(array_shape=(0, 4)), ("Hardware.array_shape", "two positive integers", "(0, 4)")),
        (lambda: Hardware(array_shape=(4,)), ("Hardware.array_shape", "(4,)")),
        (lambda: Hardware(array_shape=(4.5, 2)), ("Hardware.array_shape", "4.5")),
        (lambda: Hardware(adc=ADC(), halvings=11), ("Hardware.halvings", "from 0 to 10", "11")),
        (lambda: Hardware(adc=ADC(), halvings=-1), ("Hardware.halvings", "-1")),
        (lambda: Hardware(halvings=1), ("Hardware.adc is None",)),
        (lambda: Hardware(nonlinearity=SShape(strength=0.1)), ("Hardware.adc is None",)),
        (lambda: Differential(significance=(3.0, 1.0)), ("Differential.significance must ascend",)),
        (lambda: Differential(fill=1.5), ("Mapping.fill", "Differential.fill", "1.5")),
        (lambda: Differential(scale_by="row"), ("scale_by", "'column', 'array', 'none'", "'row'")),
    ],
)
def test_bad_input_is_refused(run, parts):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the message is what is tested)
        run()
    for part in parts[-2:] if "fill" in parts[0] else parts:
        assert part in str(error.value)


def test_parts_of_the_wrong_kind_are_refused():
    for field, part in itertools.product(["adc", "wires", "device"], [DAC(), 3.0]):
        with pytest.raises(TypeError, match=rf"Hardware\.{field} must be a .* or None; got"):
            Hardware(**{field: part})


def test_complex_weights_are_refused():
    with pytest.raises(TypeError, match="weights must be a real number"):
        run_read(w=jnp.zeros((3, 2), jnp.complex64))
