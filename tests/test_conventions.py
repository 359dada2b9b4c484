"""One test for each convention, so that a change of convention cannot pass for a change of physics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax import Hardware, presets
from anajax.arrays import Differential, mvm, program, read, settle, unprogrammed
from anajax.devices import presets as devices


def test_weights_are_rows_by_columns_and_rows_are_inputs():
    w = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    y = mvm(None, Hardware(), unprogrammed(None, Hardware(), w), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(y, [1.0, 2.0, 3.0], rtol=1e-6)


def test_a_column_has_its_own_digital_scale():
    w = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    np.testing.assert_allclose(unprogrammed(None, Hardware(), w).scale, [[[4.0, 5.0, 6.0]]])


def test_grid_of_arrays_is_rows_by_columns():
    w = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    hardware = Hardware(array_shape=(1, 2), mapping=Differential(scale_by="array"))
    effective = unprogrammed(None, hardware, w)
    assert effective.weights.shape == (2, 2, 1, 2)
    np.testing.assert_allclose((effective.weights * effective.scale[:, :, None])[1, 0], [[4.0, 5.0]], rtol=1e-6)
    np.testing.assert_allclose((effective.weights * effective.scale[:, :, None])[0, 1], [[3.0, 0.0]], rtol=1e-6)


def test_positive_weights_are_carried_by_the_first_cell_of_a_pair():
    device = devices.ideal(g_max=10.0, g_min=1.0)
    plus, minus = Differential().encode(device, jnp.array([[1.0, -1.0]]))
    np.testing.assert_allclose(plus, [[10.0, 1.0]])
    np.testing.assert_allclose(minus, [[1.0, 10.0]])
    assert float(Differential().decode(device, jnp.stack([plus, minus]))[0, 0]) == 1.0


def test_time_counts_from_the_end_of_programming():
    device = devices.pcm()
    cells = device.program(None, device.fabricate(None, (1,)), jnp.array([20e-6]))
    np.testing.assert_array_equal(device.conductance(cells, 0.0), cells.target)
    np.testing.assert_array_equal(device.conductance(cells), cells.target)
    # the factor is 2**-nu one t_0 later, not at t_0 / t_0 = 1
    left = device.conductance(cells, device.t_0) / cells.target
    np.testing.assert_allclose(left, 2.0**-0.049, rtol=1e-6)


def test_drift_goes_down():
    device = devices.pcm()
    cells = device.program(None, device.fabricate(None, (3,)), jnp.array([1e-6, 5e-6, 25e-6]))
    assert (device.conductance(cells, 1e6) < cells.target).all()


def test_without_a_key_nothing_is_random(key):
    hardware = presets.standard_aimc().replace(inputs=None, dac=None, adc=None, wires=None, compensation=None)
    w, x = jnp.array([[0.5, -1.0], [1.0, 0.25]]), jnp.array([[0.3, -0.2]])
    mean = read(None, hardware, program(None, hardware, w), w, x)
    np.testing.assert_allclose(mean, x @ w, rtol=1e-6)  # at time zero, mean devices hold what they were given


def test_without_a_key_a_chip_keeps_its_own_errors(key):
    hardware = Hardware(device=devices.pcm())
    w = jnp.array([[0.5, -1.0], [1.0, 0.25]])
    chip = program(key, hardware, w)
    frozen = settle(None, hardware, chip, w)
    cells = chip.cells.replace(target=hardware.mapping.encode(hardware.device, w)[None, None])
    expected = hardware.mapping.decode(hardware.device, hardware.device.conductance(cells)[0, 0])
    np.testing.assert_allclose(frozen.weights[0, 0], expected, rtol=1e-5)


def test_conductances_are_siemens_and_times_are_seconds():
    device = devices.pcm()
    np.testing.assert_allclose([device.g_max, device.t_0, device.t_read], [25e-6, 20.0, 250e-9], rtol=1e-6)


@pytest.mark.parametrize("noise", ["program", "settle", "mvm"])
def test_keys_come_first_and_the_same_key_gives_the_same_bits(noise, key):
    hardware = presets.standard_aimc().replace(inputs=None)
    w, x = jnp.array([[0.5, -1.0], [1.0, 0.25]]), jnp.array([[0.3, -0.2]])
    chip = program(key, hardware, w)
    frozen = settle(key, hardware, chip, w)
    run = {
        "program": lambda: program(key, hardware, w),
        "settle": lambda: settle(key, hardware, chip, w),
        "mvm": lambda: mvm(key, hardware, frozen, x),
    }[noise]
    jax.tree.map(np.testing.assert_array_equal, run(), run())
