"""Energy, latency and area: published chips, closed forms, and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import anajax
from anajax import cost
from anajax.arrays import ADC, SAR, BitSerial, Differential, Offset, Signed, Slices
from anajax.cost import Technology, combined, mvm, training, update_time
from anajax.devices import ConstantStep, Ideal, ReferencePair

# -- published chips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phases", "tops", "per_watt", "per_mm2", "ns", "nj"),
    [(1, 63.1, 9.76, 1.55, 132.9, 13.4), (4, 16.1, 2.48, 0.40, 521.0, 52.9)],
)
def test_hermes(phases, tops, per_watt, per_mm2, ns, nj):
    core = mvm(*cost.presets.hermes(phases), (256, 256))
    np.testing.assert_allclose(64 * core.tops, tops, rtol=1e-5)
    np.testing.assert_allclose(core.tops_per_watt, per_watt, rtol=1e-5)
    np.testing.assert_allclose(core.tops_per_mm2, per_mm2, rtol=0.02)
    np.testing.assert_allclose(core.latency * 1e9, ns, rtol=1e-3)
    np.testing.assert_allclose(core.joules * 1e9, nj, rtol=4e-3)


def test_isaac():
    """330 mW and 0.372 mm^2 a tile, 58 % of the power and 31 % of the area in ADCs; 1.8 fJ for a cell and read."""
    array = mvm(*cost.presets.isaac(), (128, 16))
    tile = {name: 96 * e / array.latency for name, e in array.energy.items()}
    np.testing.assert_allclose(sum(tile.values()) * 1e3, 330, rtol=3e-3)
    np.testing.assert_allclose(tile["adc"] / sum(tile.values()), 12 * 16 / 330, rtol=3e-3)
    np.testing.assert_allclose(96 * array.square_metres * 1e6, 0.372, rtol=2e-3)
    np.testing.assert_allclose(array.area["adc"] / array.square_metres, 0.31, rtol=0.01)
    np.testing.assert_allclose(array.energy["array"] / 16 / 128**2 * 1e15, 1.83, rtol=1e-2)
    np.testing.assert_allclose(array.latency * 1e6, 1.6, rtol=1e-5)
    chip_area = 168 * 0.372 + 22.88
    np.testing.assert_allclose(168 * 96 * array.tops * 1e3 / chip_area, 479, rtol=0.015)  # GOP/s/mm^2


def test_marinella():
    """A product: 0.216 + 0.105 nJ in the array, 2.8 integrated, 9.4 converted; 28 nJ and 1.28 us for all three."""
    hardware, technology = cost.presets.marinella()
    product = mvm(hardware, technology, (1024, 1024))
    nj = {name: float(e) * 1e9 for name, e in product.energy.items()}
    for name, wanted in (("wires", 0.216), ("array", 0.105), ("integrator", 2.81), ("adc", 9.4)):
        np.testing.assert_allclose(nj[name], wanted, rtol=0.02)
    example = training(hardware, technology, (1024, 1024))
    np.testing.assert_allclose(example.energy["update"] * 1e9, 1.23, rtol=0.01)
    np.testing.assert_allclose(example.joules * 1e9, 28, rtol=0.05)
    np.testing.assert_allclose(example.latency * 1e6, 1.28, rtol=1e-5)
    np.testing.assert_allclose(example.square_metres * 1e12, 75_000, rtol=1e-5)


def test_ambrogio():
    example = training(*cost.presets.ambrogio(), (512, 512))
    np.testing.assert_allclose(example.tops_per_watt * 1e3, 28_065, rtol=1e-4)
    np.testing.assert_allclose(example.tops_per_mm2, 3.6, rtol=1e-4)
    np.testing.assert_allclose(example.joules / 512**2 * 1e15, 213.8, rtol=1e-3)
    np.testing.assert_allclose(example.energy["array"] / 512**2 * 1e15, 24, rtol=1e-3)
    np.testing.assert_allclose(example.watts / (example.square_metres * 1e6), 0.128, rtol=5e-3)


@pytest.mark.parametrize(
    ("rule", "ns"),
    [
        ("analog_sgd", 30.9),
        ("tiki_taka_v2", 56.3),
        ("chopped_tiki_taka", 56.3),
        ("agad", 62.1),
        ("mixed_precision", 3024.5),
    ],
)
def test_update_times(rule, ns):
    assert round(float(update_time(rule)) * 1e9, 1) == ns
    if rule == "agad":
        assert round(float(update_time(rule, every=10, pulses=1)) * 1e9, 1) == 17.1


# -- closed forms ------------------------------------------------------------------------------------------------------

TECHNOLOGY = Technology(power=1e-3, area=1e-9)


def spec(**fields):
    signed = isinstance(fields.get("mapping", Signed()), Signed)
    device = ReferencePair(device=ConstantStep(g_max=40e-6, g_min=0.0)) if signed else Ideal(g_max=20e-6)
    return anajax.Hardware(**({"device": device, "mapping": Signed()} | fields))


def test_a_product_by_hand():
    """100 x 30 weights on 64 x 16: two by two arrays, whose inputs and outputs are driven and converted twice."""
    hardware = spec(array_shape=(64, 16), adc=ADC(bits=6), v_read=0.3)
    found, t = mvm(hardware, TECHNOLOGY, (100, 30)), TECHNOLOGY
    np.testing.assert_allclose(found.energy["array"], 3000 * 10e-6 * 0.09 * t.t_read * t.activity, rtol=1e-5)
    np.testing.assert_allclose(found.energy["dac"], 200 * t.dac, rtol=1e-5)
    np.testing.assert_allclose(found.energy["wires"], 3000 * t.c_cell * 0.09, rtol=1e-5)
    np.testing.assert_allclose(found.energy["integrator"], 60 * t.integrator, rtol=1e-5)
    np.testing.assert_allclose(found.energy["adc"], 60 * t.adc_step * 64, rtol=1e-5)
    np.testing.assert_allclose(found.energy["digital"], 60 * t.digital, rtol=1e-5)
    np.testing.assert_allclose(found.latency, t.t_read + t.t_adc, rtol=1e-5)
    np.testing.assert_allclose(found.energy["other"], 4 * 1e-3 * found.latency, rtol=1e-5)
    np.testing.assert_allclose(found.area["array"], 4 * 64 * 16 * t.area_cell, rtol=1e-5)
    np.testing.assert_allclose(found.area["adc"], 4 * 16 * t.area_adc, rtol=1e-5)
    assert found.operations == 6000


def test_cells_lines_and_slices_count():
    single, pair, offset = (mvm(spec(mapping=m), TECHNOLOGY, (8, 4)) for m in (Signed(), Differential(), Offset()))
    np.testing.assert_allclose(pair.energy["array"], 2 * single.energy["array"])
    np.testing.assert_allclose(offset.energy["array"], 5 / 4 * single.energy["array"], rtol=1e-6)
    np.testing.assert_allclose(pair.energy["adc"], single.energy["adc"])
    for add, conversions in (("digital", 3), ("analog", 1)):
        sliced = mvm(spec(slices=Slices(bits=2, count=3, add=add)), TECHNOLOGY, (8, 4))
        np.testing.assert_allclose(sliced.energy["array"], 3 * single.energy["array"], rtol=1e-6)
        np.testing.assert_allclose(sliced.energy["adc"], conversions * single.energy["adc"], rtol=1e-6)


@pytest.mark.parametrize(("add", "conversions"), [("digital", 7), ("analog", 1)])
def test_bits_of_inputs_take_a_phase_each(add, conversions):
    one, serial = (mvm(spec(dac=d), TECHNOLOGY, (8, 4)) for d in (None, BitSerial(bits=8, add=add)))
    np.testing.assert_allclose(serial.energy["array"], 7 * one.energy["array"], rtol=1e-6)
    np.testing.assert_allclose(serial.energy["adc"], conversions * one.energy["adc"], rtol=1e-6)
    t = TECHNOLOGY
    np.testing.assert_allclose(serial.latency, 7 * t.t_read + conversions * t.t_adc, rtol=1e-6)


def test_shared_converters_take_turns():
    alone, shared = (mvm(spec(adc=SAR(columns_per_adc=n)), TECHNOLOGY, (8, 16)) for n in (1, 16))
    np.testing.assert_allclose(shared.latency - alone.latency, 15 * TECHNOLOGY.t_adc, rtol=1e-5)
    np.testing.assert_allclose(shared.area["adc"], alone.area["adc"] / 16, rtol=1e-6)
    hidden = mvm(spec(adc=SAR(columns_per_adc=8)), TECHNOLOGY.replace(overlap=True), (8, 16))
    np.testing.assert_allclose(hidden.latency, TECHNOLOGY.t_read, rtol=1e-6)  # 80 ns behind 128


def test_noise_makes_fine_conversions_dearer_than_steps():
    """A bit doubles a conversion while steps rule, and quadruples it where heat does."""
    t = Technology(adc_step=10e-15, adc_thermal=4e-18)
    np.testing.assert_allclose(t.conversion(7) / t.conversion(6), 2, rtol=1e-6)
    np.testing.assert_allclose(t.conversion(15) / t.conversion(14), 4, rtol=1e-6)


def test_parts_add_up():
    a, b = mvm(spec(), TECHNOLOGY, (8, 4)), mvm(spec(), TECHNOLOGY, (64, 4)).repeated(3)
    both, piped = combined([a, b]), combined([a, b], parallel=True)
    np.testing.assert_allclose(both.joules, a.joules + b.joules, rtol=1e-6)
    np.testing.assert_allclose(both.latency, a.latency + b.latency, rtol=1e-6)
    np.testing.assert_allclose(piped.latency, b.latency)
    np.testing.assert_allclose(both.square_metres, a.square_metres + b.square_metres, rtol=1e-6)
    assert both.operations == 64 + 3 * 512


# -- networks ----------------------------------------------------------------------------------------------------------


def test_patches_of_a_convolution_are_products():
    hardware, rngs = spec(mapping=Differential()), nnx.Rngs(0)
    model = nnx.Sequential(
        anajax.nn.Conv(2, 6, (3, 3), hardware=hardware, feature_group_count=2, rngs=rngs),
        lambda x: x.mean((1, 2)),
        anajax.nn.Linear(6, 5, hardware=hardware, rngs=rngs),
    )
    apply, params, hardware, _ = anajax.nn.split(model)
    found = cost.inference(apply, params, hardware, TECHNOLOGY, jnp.zeros((4, 7, 7, 2)))
    conv, linear = found.values()
    assert list(found) == apply.names
    assert linear.operations == 2 * 6 * 5
    assert conv.operations == 2 * 9 * 3 * 2 * 49  # of each of two groups
    one = mvm(hardware, TECHNOLOGY, (9, 3))
    np.testing.assert_allclose(conv.latency, 49 * one.latency, rtol=1e-6)
    np.testing.assert_allclose(conv.joules, 2 * 49 * one.joules, rtol=1e-6)


# -- derivatives, errors -----------------------------------------------------------------------------------------------


def test_energy_has_derivatives_by_hardware_and_technology(x64):
    hardware = spec(mapping=Differential(), adc=ADC(bits=6.0), v_read=0.2)

    def joules(hardware, technology):
        return mvm(hardware, technology, (32, 16)).joules

    slope, by_technology = jax.grad(joules, argnums=(0, 1))(hardware, TECHNOLOGY)
    conversions = 16 * TECHNOLOGY.adc_step * 64
    np.testing.assert_allclose(slope.adc.bits, np.log(2) * conversions, rtol=1e-6)
    array = mvm(hardware, TECHNOLOGY, (32, 16)).energy["array"]
    np.testing.assert_allclose(slope.device.g_max, array / 20e-6, rtol=1e-6)
    np.testing.assert_allclose(by_technology.dac, 32, rtol=1e-6)
    swept = jax.vmap(lambda g: joules(hardware.replace(**{"device.g_max": g}), TECHNOLOGY))(jnp.array([1e-5, 2e-5]))
    np.testing.assert_allclose(swept[1] - swept[0], array / 2, rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match=r"shape must be two positive integers.*got \(0, 4\)"):
        mvm(spec(), TECHNOLOGY, (0, 4))
    with pytest.raises(ValueError, match="rule must be one of analog_sgd"):
        update_time("adam")
    with pytest.raises(ValueError, match="costs must name at least one part; got none"):
        combined([])
    with pytest.raises(ValueError, match=r"Technology\.v_read must be greater than 0"):
        Technology(v_read=0.0)
    with pytest.raises(ValueError, match="phases must be 1 or 4; got 2"):
        cost.presets.hermes(2)
