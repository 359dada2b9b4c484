import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import sliced_codes

from anajax import Hardware
from anajax.arrays import (
    ADC,
    SAR,
    Additive,
    BitSerial,
    Differential,
    DriftCompensation,
    Offset,
    Slices,
    WeightNoise,
    aware_mvm,
    mvm,
    program,
    read,
    settle,
    unprogrammed,
)
from anajax.arrays.tile import as_matrix
from anajax.devices import Ideal
from anajax.devices import presets as devices
from anajax.testing import check_moments

WHOLE = Differential(scale_by="none")


def integers(key, bits, rows=24, cols=10, n=6):
    """Weights of `bits` bits and sign, the largest among them in every column, and small whole inputs."""
    k_w, k_x = jax.random.split(key)
    top = 2**bits - 1
    w = jax.random.randint(k_w, (rows, cols), -top, top + 1).at[-1].set(top)
    x = jax.random.randint(k_x, (n, rows), -7, 8)
    return w.astype(jnp.float32), x.astype(jnp.float32), np.asarray(x) @ np.asarray(w)


@pytest.mark.parametrize(("bits", "count"), [(1, 8), (2, 4), (4, 2), (3, 3), (8, 1)])
def test_codes_are_sign_and_magnitude(bits, count):
    sliced_codes(Slices(bits=bits, count=count))


@pytest.mark.parametrize("mapping", [Differential(), Differential(scheme="midpoint"), Offset()])
def test_products_of_integers_are_exact_with_cells_of_one_bit(mapping, key):
    w, x, product = integers(key, 8)
    hardware = Hardware(slices=Slices(bits=1, count=8), mapping=mapping, device=Ideal(g_min=0.0, g_max=1.0))
    assert settle(None, hardware, program(None, hardware, w), w).weights.shape == (1, 1, 24, 80)
    np.testing.assert_array_equal(mvm(None, hardware, unprogrammed(None, hardware, w), x), product)
    np.testing.assert_array_equal(read(None, hardware, program(key, hardware, w), w, x), product)


@pytest.mark.parametrize(("bits", "count"), [(2, 4), (4, 2), (3, 3)])
@pytest.mark.parametrize("array_shape", [None, (7, 4), (2, 2)])
def test_products_of_integers_are_exact_through_converters_of_one_level_a_step(bits, count, array_shape, key):
    w, x, product = integers(key, bits * count)
    top = 2**bits - 1
    adc = ADC(bits=12, bound=2047 / top)
    hardware = Hardware(slices=Slices(bits=bits, count=count), adc=adc, array_shape=array_shape)
    hardware = hardware.replace(mapping=Differential(scale_by="array" if array_shape is None else "none"))
    if array_shape is None:
        y = read(None, hardware, program(key, hardware, w), w, x)
    else:
        full = 2 ** (bits * count) - 1  # fractions of the window, as the largest weight is not in every array
        y = read(None, hardware, program(key, hardware, w / full), w / full, x) * full
    np.testing.assert_allclose(y, product, atol=2e-6 * np.abs(product).max())
    coarse = hardware.replace(adc=adc.replace(bits=11))  # steps of two levels
    rounded = read(None, coarse, program(key, coarse, w / w.max()), w / w.max(), x) * w.max()
    assert np.abs(rounded - product).max() > 1


@pytest.mark.parametrize("slices", [Slices(bits=1, count=1), Slices(bits=2, count=1), Slices(bits=1, count=8)])
def test_fill_leaves_room_in_every_cell_and_costs_no_bits(slices, key):
    w, x, _ = integers(key, 1)
    plain, roomy = (Hardware(slices=slices, mapping=Differential(fill=f)) for f in (1.0, 0.5))
    found = unprogrammed(None, roomy, w)
    assert float(jnp.abs(found.weights).max()) == 0.5
    wanted = mvm(None, plain, unprogrammed(None, plain, w), x)
    np.testing.assert_allclose(mvm(None, roomy, found, x), wanted, rtol=1e-6)


def test_doubles_keep_their_digits(x64):
    np.testing.assert_allclose(Slices(bits=2, count=1).split(jnp.array([1 / 3])), [1 / 3], rtol=1e-15)
    np.testing.assert_allclose(BitSerial(bits=3, pulse_bits=2).pulses(jnp.array([1 / 3]))[..., 0], [1 / 3], rtol=1e-15)


def test_lines_are_slices_of_all_columns_least_significant_first():
    slices = Slices(bits=2, count=2)
    held = slices.split(jnp.array([[15.0, -6.0]]) / 15)  # 11 11 and -01 10
    np.testing.assert_allclose(held, [[1, -2 / 3, 1, -1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(slices.scales(jnp.array([15.0, 30.0])), [3, 6, 12, 24])


def test_analog_addition_is_one_conversion_of_rounded_weights(key):
    w = jax.random.uniform(key, (9, 4), minval=-1.0)
    x = jax.random.uniform(key, (5, 9), minval=-1.0)
    hardware = Hardware(slices=Slices(bits=2, count=2, add="analog"), mapping=WHOLE, adc=ADC(bits=6, bound=3.0))
    rounded = jnp.round(w * 15) / 15
    effective = unprogrammed(None, hardware, w)
    assert effective.weights.shape == (1, 1, 9, 4)
    np.testing.assert_allclose(effective.weights[0, 0], rounded, atol=1e-6)
    wanted = ADC(bits=6, bound=3.0)(x @ rounded)
    np.testing.assert_allclose(mvm(None, hardware, effective, x), wanted, atol=1e-5)
    np.testing.assert_allclose(read(None, hardware, program(key, hardware, w), w, x), wanted, atol=1e-5)


def test_digital_addition_converts_every_slice(key):
    w = jax.random.uniform(key, (9, 4), minval=-1.0)
    x = jax.random.uniform(key, (5, 9), minval=-1.0)
    adc = SAR(bits=5, bound=3.0, mismatch=0.05, offset=0.1)
    hardware = Hardware(slices=Slices(bits=2, count=2), mapping=WHOLE, adc=adc)
    chip = program(key, hardware, w)
    assert chip.outputs["adc_offset"].shape == (1, 1, 8)
    own = {name: score[0, 0] for name, score in chip.outputs.items()}
    y = adc(x @ Slices(bits=2, count=2).split(w), own)
    np.testing.assert_allclose(read(None, hardware, chip, w, x), (3 * y[:, :4] + 12 * y[:, 4:]) / 15, atol=1e-5)


@pytest.mark.parametrize("add", ["digital", "analog"])
def test_errors_of_cells_count_by_their_slice(add, key):
    """Cells that err by sigma, independently, make a weight err by sigma sqrt(sum f_k**2): z-tests, 1.4e-5."""
    device = devices.rram_cmo().replace(g_min=9e-6)
    hardware = Hardware(slices=Slices(bits=2, count=3, add=add), mapping=WHOLE, device=device)
    w = jnp.full((1, 4000), 42 / 63)  # digits 2, 2, 2
    chip = program(key, hardware, w)
    frozen = settle(None, hardware, chip, w)
    error = np.asarray(hardware.slices.total((frozen.weights * frozen.scale[..., None, :])[0, 0])) - 42 / 63
    f = np.array([3, 12, 48]) / 63
    single = hardware.replace(slices=None)
    w = jnp.full((1, 4000), 2 / 3)
    plain = np.asarray(settle(None, single, program(key, single, w), w).weights[0, 0]) - 2 / 3
    bias = plain.mean()
    check_moments(error - bias, 0.0, plain.std() * np.sqrt(np.sum(f**2)), rounding=3 * plain.std() / 4000**0.5)


@pytest.mark.parametrize("add", ["digital", "analog"])
@pytest.mark.parametrize("per", ["array", "column"])
@pytest.mark.parametrize("reference", ["programmed", "target"])
def test_drift_is_compensated(add, per, reference, key):
    device = devices.pcm().replace(program_scale=0.0, read_scale=0.0)
    hardware = Hardware(
        slices=Slices(bits=1, count=4, add=add),
        mapping=WHOLE,
        device=device,
        compensation=DriftCompensation(per=per, reference=reference),
        array_shape=(40, 20),
    )
    w = jax.random.uniform(key, (60, 30), minval=-1.0)
    x = jax.random.uniform(key, (5, 60), minval=-1.0)
    y = read(None, hardware, program(None, hardware, w), w, x, 1e6)
    np.testing.assert_allclose(y, x @ (jnp.round(w * 15) / 15), atol=2e-3 * 60**0.5)


@pytest.mark.parametrize("add", ["digital", "analog"])
@pytest.mark.parametrize("per", ["step", "example"])
def test_modifiers_act_on_cells(add, per, key):
    """Noise sigma on every line is noise sigma sqrt(sum f_k**2) on a weight: z-tests, 1.4e-5."""
    sigma, f = 0.1, np.array([3, 12]) / 15
    hardware = Hardware(slices=Slices(bits=2, count=2, add=add), mapping=WHOLE, modifier=Additive(sigma=sigma, per=per))
    w = jnp.zeros((1, 3000))
    x = jnp.ones((1, 1)) if per == "step" else jnp.ones((40, 1))
    y = aware_mvm(key, jax.random.fold_in(key, 1), hardware, w, x)
    check_moments(y, 0.0, sigma * np.sqrt(np.sum(f**2)))


def test_weight_noise_is_that_of_every_line(key):
    hardware = Hardware(slices=Slices(bits=2, count=2), mapping=WHOLE, weight_noise=WeightNoise(sigma=0.1))
    w = jnp.full((1, 3000), 9 / 15)  # digits 1 and 2
    y = mvm(key, hardware, unprogrammed(None, hardware, w), jnp.ones((1, 1))) - 0.6
    std = 0.1 * np.sqrt((3 / 15) ** 2 * (1 / 3) + (12 / 15) ** 2 * (2 / 3))
    check_moments(y, 0.0, std)


@pytest.mark.parametrize("add", ["digital", "analog"])
def test_arrays_stand_for_the_rounded_matrix(add, key):
    w = jax.random.normal(key, (18, 8))
    hardware = Hardware(
        slices=Slices(bits=2, count=2, add=add), array_shape=(7, 3), mapping=Differential(scale_by="array")
    )
    effective = unprogrammed(None, hardware, w)
    np.testing.assert_allclose(as_matrix(hardware, effective), mvm(None, hardware, effective, jnp.eye(18)), atol=1e-6)


@pytest.mark.parametrize("add", ["digital", "analog"])
def test_rounding_is_straight_through(add, key):
    w = jax.random.uniform(key, (9, 4), minval=-0.9, maxval=0.9)
    x = jax.random.uniform(key, (5, 9), minval=-1.0)
    hardware = Hardware(slices=Slices(bits=2, count=3, add=add), mapping=WHOLE, array_shape=(5, 3))
    g = jax.random.normal(key, (5, 4))

    def loss(w, x, hardware):
        return jnp.sum(g * read(None, hardware, program(None, hardware, w), w, x))

    dw, dx = jax.jit(jax.grad(loss, (0, 1)))(w, x, hardware)
    np.testing.assert_allclose(dw, x.T @ g, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, g @ (jnp.round(w * 63) / 63).T, rtol=1e-4, atol=1e-5)
    ideal = hardware.replace(backward="ideal")
    dw, dx = jax.grad(lambda w, x: jnp.sum(g * aware_mvm(None, None, ideal, w, x)), (0, 1))(w, x)
    np.testing.assert_allclose(dw, x.T @ g, rtol=1e-4, atol=1e-5)


def test_chips_by_vmap_equal_chips_by_loop(key):
    hardware = Hardware(slices=Slices(bits=2, count=2), device=devices.pcm(), adc=SAR(mismatch=0.02))
    w = jax.random.normal(key, (6, 5))
    run = jax.jit(lambda key: read(key, hardware, program(key, hardware, w), w, jnp.eye(6), 60.0))
    keys = jax.random.split(key, 3)
    np.testing.assert_allclose(jax.vmap(run)(keys), np.stack([run(k) for k in keys]), atol=2e-6)


def test_sums_over_many_arrays_are_those_over_few(key):
    w = jax.random.uniform(key, (60, 30), minval=-1.0)
    hardware = Hardware(slices=Slices(bits=2, count=2), mapping=WHOLE)
    looped = hardware.replace(array_shape=(12, 5))  # 30 arrays: a loop instead of an unrolled program
    x = jax.random.uniform(key, (4, 60))
    y = [mvm(None, h, unprogrammed(None, h, w), x) for h in (hardware, looped)]
    np.testing.assert_allclose(*y, atol=1e-5)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: Slices(bits=0), r"Slices.bits must be a positive integer; got 0"),
        (lambda: Slices(count=2.0), r"Slices.count must be a positive integer; got 2.0"),
        (lambda: Slices(bits=4, count=5), r"Slices.bits \* Slices.count must be at most 16; got 4 \* 5"),
        (lambda: Slices(add="later"), r"Slices.add must be one of 'digital', 'analog'; got 'later'"),
    ],
)
def test_bad_settings_are_refused(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def test_a_chip_of_other_slices_is_refused(key):
    w = jnp.ones((3, 2))
    chip = program(key, Hardware(slices=Slices(count=4)), w)
    with pytest.raises(ValueError, match=r"cells of shape \(1, 1, 2, 3, 2\); got scores .* \(1, 1, 2, 3, 8\)"):
        settle(
            None,
            Hardware(device=devices.pcm()),
            program(key, Hardware(device=devices.pcm(), slices=Slices(count=4)), w),
            w,
        )
    with pytest.raises(ValueError, match=r"Hardware.slices: 2 outputs of an array; got scores 'output_noise' of 8"):
        settle(None, Hardware(slices=Slices(count=4, add="analog")), chip, w)
