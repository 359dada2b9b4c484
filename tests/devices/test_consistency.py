"""What a device says in one way it says in every other way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pulsers import KINDS, make

import anajax
from anajax import arrays
from anajax.devices import (
    Drift,
    Faulty,
    Leak,
    LogNormal,
    OneSidedPair,
    ReferencePair,
    SoftBounds,
    Telegraph,
    Vector,
    presets,
)

uS = 1e-6


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("n", [0.0, 1e-3, -1e-3])
def test_derivative_by_the_number_of_pulses_at_zero(n, one_by_one, x64):
    device = SoftBounds(dx=0.01, one_by_one=one_by_one)
    cells = device.fabricate(None, ())
    slope = jax.grad(lambda n: device.state(device.pulse(None, cells, n)))(n)
    np.testing.assert_allclose(slope, 0.01, rtol=0.01)


@pytest.mark.parametrize("name", ["rram_es", "pcm_set", "fefet"])
def test_derivative_at_zero_pulses_is_that_of_the_first(name, x64):
    device = getattr(presets, name)()
    cells = device.fabricate(None, ()).aimed((device.g_min + device.g_max) / 2)

    def g(n):
        return device.conductance(device.pulse(None, cells, n))

    np.testing.assert_allclose(jax.grad(g)(0.0), (g(1e-4) - g(0.0)) / 1e-4, rtol=1e-3)


def test_one_sided_pairs_have_it_too(x64):
    device = presets.pcm_set_pair()
    cells = device.fabricate(None, ())
    slope = jax.grad(lambda n: device.conductance(device.pulse(None, cells, n)))(0.0)
    np.testing.assert_allclose(slope, device.conductance(device.pulse(None, cells, 1e-4)) / 1e-4, rtol=1e-3)


def test_reading_later_is_waiting_and_reading():
    device = SoftBounds(dx=0.05, leak=Leak(lifetime=2.0), drift=Drift(nu=0.1, t_0=0.5), rest=-0.2)
    cells = device.pulse(None, device.fabricate(None, (1,)), 20)
    np.testing.assert_allclose(
        device.conductance(cells, 3.0), device.conductance(device.wait(None, cells, 3.0)), rtol=1e-5
    )
    cell = presets.pcm_3t1c(lifetime=1e-3)
    cells = cell.pulse(None, cell.fabricate(None, (1,)), 10)
    later = cell.conductance(cell.wait(None, cells, 2e-3))
    np.testing.assert_allclose(cell.conductance(cells, 2e-3), later, rtol=1e-4)
    np.testing.assert_allclose(cell.conductance(cell.transfer(None, cells, 2e-3)), later, rtol=1e-3)


def test_a_pulse_does_not_undo_drift():
    """A pulse down lowers a cell that has drifted, and drift starts anew from there."""
    device = SoftBounds(dx=0.01, drift=Drift(nu=0.1))
    cells = device.pulse(None, device.fabricate(None, (2,)), 50)
    old = device.wait(None, cells, 1e6)
    touched = device.pulse(None, old, jnp.asarray([-1.0, 0.0]))
    before, after = device.conductance(old), device.conductance(touched)
    assert float(before[0]) < 0.3 * float(device.conductance(cells)[0])
    assert 0 < float(before[0] - after[0]) < 0.02 * float(device.window)
    assert float(after[1]) == float(before[1])
    np.testing.assert_allclose(touched.state["age"], [0.0, 1e6])


WEIGHTS = jnp.linspace(-1, 1, 60).reshape(12, 5)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_arrays_hold_weights_in_pulsed_devices(name, key):
    """Written without noise, arrays of cells without spread hold their weights."""
    plain = {f: None for f in ("x_min_d2d", "x_max_d2d", "dx_d2d", "up_down_d2d", "write_noise", "reference", "leak")}
    device = make(name).replace(**plain, drift=None, endurance=None, read_curve=None)
    hardware = anajax.Hardware(device=device, array_shape=(8, 3))
    for k in (None, key):
        tile = arrays.program(k, hardware, WEIGHTS)
        x = jnp.eye(12)
        np.testing.assert_allclose(arrays.read(None, hardware, tile, WEIGHTS, x), WEIGHTS, atol=2e-5)


@pytest.mark.parametrize(
    "device",
    [
        presets.rram_array_om(),
        presets.pcm_set(),
        Vector(device=presets.rram_sb(), n=3),
        Faulty(device=presets.rram_sb(), low=0.1),
        Telegraph(device=presets.pcm_set(), probability=0.3, size=0.1),
    ],
    ids=lambda d: type(d).__name__,
)
def test_arrays_take_every_kind_of_cell(device, key):
    hardware = anajax.Hardware(device=device, array_shape=(8, 3))
    tile = arrays.program(key, hardware, WEIGHTS)
    y = arrays.read(key, hardware, tile, WEIGHTS, jnp.eye(12), 100.0)
    assert np.isfinite(y).all()
    assert np.corrcoef(np.ravel(y), np.ravel(WEIGHTS))[0, 1] > 0.7
    assert float(jnp.abs(y - WEIGHTS).max()) > 1e-3


def test_a_reference_pair_reaches_its_window():
    device = ReferencePair(device=SoftBounds(g_min=0.0, g_max=20 * uS, dx=0.01))
    np.testing.assert_allclose([device.g_min, device.g_max], [-10 * uS, 10 * uS], rtol=1e-6)
    for end, pulses in ((device.g_max, 3000), (device.g_min, -3000)):
        reached = device.conductance(device.pulse(None, device.fabricate(None, (1,)), pulses))
        np.testing.assert_allclose(reached, end, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "error", "parts"),
    [
        (
            lambda: anajax.Hardware(device=presets.pcm_pair()),
            ValueError,
            ("Hardware.device", "OneSidedPair", "has a sign where"),
        ),
        (lambda: Faulty(device=presets.pcm_pair(), low=0.1), ValueError, ("Faulty.device", "around its parts")),
        (lambda: OneSidedPair(device=SoftBounds()), ValueError, ("OneSidedPair.device", "rest=0", "lower=0.25")),
        (lambda: Vector(device=SoftBounds(), weights=[1.0, -1.0]), ValueError, ("Vector.weights", "greater than 0")),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, parts):
    with pytest.raises(error) as found:
        make()
    assert all(part in str(found.value) for part in parts), found.value


def test_what_is_not_refreshed_stays(key):
    device = presets.pcm_exp().replace(write_noise=5.0)
    cell = OneSidedPair(device=device)
    cells = cell.pulse(key, cell.fabricate(key, (40,)), jnp.full(40, 20.0))
    odd = jnp.arange(40) % 2 == 1
    after = cell.refresh(None, cells, where=odd)
    np.testing.assert_array_equal(cell.conductance(after)[~odd], cell.conductance(cells)[~odd])


def test_log_normal_cells_at_and_beyond_the_ends_of_the_window():
    device = LogNormal(g_max=1e-5, g_min=1e-6, spread_on=0.1, spread_off=0.5)
    target = jnp.asarray([0.0, 1e-8, 1e-6, 1e-5, 1e-4])
    noise = device.programming_noise(target)
    s = np.asarray([0.5, 0.5, 0.5, 0.1, 0.1])
    np.testing.assert_allclose(noise, target * np.exp(s**2) * np.sqrt(np.expm1(s**2)), rtol=1e-4)


def test_specs_can_be_replaced_inside_transformations():
    """Fields known while a program is traced do not upset the checks of the others."""
    device = presets.pcm()
    half = jax.jit(lambda x: device.replace(g_max=20e-6).programming_noise(x))(1e-5)
    np.testing.assert_allclose(half, device.replace(g_max=20e-6).programming_noise(jnp.asarray(1e-5)), rtol=1e-6)
