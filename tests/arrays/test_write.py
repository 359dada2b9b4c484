"""Closed-loop writing: what is accepted, how many pulses it takes, and what cannot be written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from anajax import Hardware
from anajax.arrays import (
    Offset,
    OutputNoise,
    Signed,
    descend_reads,
    in_conductances,
    stand,
    write_verify,
    write_weights,
)
from anajax.arrays.tile import as_matrix
from anajax.devices import ConstantStep, Ideal, OneSidedPair, SoftBounds, presets

uS = 1e-6
WINDOW = {"g_min": 50e-6, "g_max": 100e-6}


def test_even_steps_take_as_many_pulses_as_there_are_between(key):
    device = ConstantStep(dx=0.02, **WINDOW)  # 0.5 uS
    target = jnp.array([75.0, 80.0, 62.5, 99.0]) * uS
    written = write_verify(None, device, device.fabricate(None, (4,)), target, 0.3 * uS)
    np.testing.assert_array_equal(written.pulses, [0, 10, 25, 48])
    np.testing.assert_array_equal(written.reads, [1, 11, 26, 49])
    np.testing.assert_allclose(device.conductance(written.cells), target, atol=0.3 * uS)
    assert written.accepted.all()
    np.testing.assert_allclose(written.progress[jnp.array([0, 9, 10, 49])], [0.25, 0.25, 0.5, 1.0])


def test_many_pulses_at_first_save_reads(key):
    device = SoftBounds(dx=0.01, c2c=0.3, dx_d2d=0.3, **WINDOW)
    cells = device.fabricate(key, (1000,))
    target = jax.random.uniform(key, (1000,), minval=60 * uS, maxval=90 * uS)
    one, more = (write_verify(key, device, cells, target, 0.5 * uS, longest=n, most=300) for n in (1, 50))
    for written in (one, more):
        assert written.accepted.all()
        np.testing.assert_array_less(jnp.abs(device.conductance(written.cells) - target), 0.5001 * uS)
    assert more.reads.mean() < 0.2 * one.reads.mean()


def test_targets_broadcast_to_the_cells():
    device = SoftBounds(dx=0.01, **WINDOW)
    cells = device.fabricate(None, (4, 3))
    assert write_verify(None, device, cells, 80 * uS, 0.5 * uS).accepted.shape == (4, 3)
    with pytest.raises(ValueError, match=r"target must have the shape \(4, 3\) of the cells .*; got \(2,\)"):
        write_verify(None, device, cells, jnp.full(2, 80 * uS), 0.5 * uS)


def test_nobody_knows_the_steps_of_a_single_cell(key):
    """Cells alike in state and target get the same first train, however their own steps differ."""
    device = SoftBounds(dx=0.01, dx_d2d=0.5, **WINDOW)
    cells = device.fabricate(key, (100,))
    written = write_verify(None, device, cells, jnp.full(100, 80 * uS), 0.1 * uS, most=1, longest=50)
    # of up to 25 uS by 0.25 uS
    np.testing.assert_array_equal(written.pulses, 20.0)


@pytest.mark.parametrize("window", [0.5, 2.0])
def test_devices_without_pulses_are_programmed_until_accepted(window, key):
    """Attempts are geometric; what is accepted is a normal cut at the window."""
    device = presets.pcm()
    device = device.replace(read_scale=0.0)
    target = jnp.full(20_000, 12.5 * uS)
    sigma = float(device.programming_noise(target[0]))
    written = write_verify(key, device, device.fabricate(key, target.shape), target, window * sigma)
    chance = 1 - 2 * stats.norm.sf(window)
    assert written.accepted.all()
    mean, spread = 1 / chance, np.sqrt(1 - chance) / chance
    assert abs(written.pulses.mean() - mean) < 5 * spread / np.sqrt(20_000)
    error = np.asarray(device.conductance(written.cells) - target) / sigma
    np.testing.assert_allclose(error.std(), stats.truncnorm(-window, window).std(), rtol=0.02)
    # the same chip under another spec
    wider = device.replace(program_scale=2.0)
    np.testing.assert_allclose(wider.conductance(written.cells) - target, 2 * error * sigma, atol=1e-10)


def test_phase_change_memory_is_set_step_by_step_and_melted_when_it_overshoots(key):
    device = presets.pcm_set(memory=False).replace(read_curve=None)
    target = jnp.full(500, 4 * uS)
    written = write_verify(key, device, device.fabricate(key, (500,)), target, 0.5 * uS, most=200)
    assert written.accepted.mean() > 0.99
    error = np.abs(device.conductance(written.cells) - target)[written.accepted]
    assert error.max() <= 0.5001 * uS
    assert written.pulses.mean() > 5  # steps of 0.9 uS, and several starts


def test_what_cannot_be_written_is_said(key):
    """Cells whose bound is below the target are pulsed to the end."""
    device = SoftBounds(dx=0.05, x_max_d2d=0.3, **WINDOW)
    cells = device.fabricate(key, (300,))
    target = jnp.full(300, 95 * uS)
    written = write_verify(key, device, cells, target, 0.7 * uS, most=200)
    high, accepted = np.asarray(device.realise(cells)["high"]), np.asarray(written.accepted)
    assert not accepted[high < 0.75].any()
    assert accepted[high > 0.9].mean() > 0.95
    assert float(written.pulses[~written.accepted].min()) == 200


def test_weights_of_a_crossbar(key):
    device = SoftBounds(dx=0.01, c2c=0.3, dx_d2d=0.3, **WINDOW)
    hardware = Hardware(device=device, mapping=Offset(), array_shape=(5, 3))
    start, wanted = (0.5 * jax.random.normal(k, (8, 4)) for k in jax.random.split(key))
    crossbar = in_conductances(key, hardware, start)
    wanted = jnp.clip(wanted, -0.8 * crossbar.scale.min(), 0.8 * crossbar.scale.min())
    crossbar, written = write_weights(key, hardware, crossbar, wanted, 0.005, longest=50)
    assert written.accepted.all()
    found = as_matrix(hardware, stand(None, hardware, crossbar))
    worst = 2 * 2 * 0.005 * crossbar.scale.max()  # of a cell and of its reference
    np.testing.assert_allclose(found, wanted, atol=worst)


def test_descent_on_reads_mends_what_writing_alone_leaves(key):
    """Cells written open loop with write noise: reads of whole arrays improve by far."""
    device = SoftBounds(dx=0.005, c2c=0.3, dx_d2d=0.3, up_down_d2d=0.1, **WINDOW)
    hardware = Hardware(device=device, mapping=Offset(scale_by="none"), output_noise=OutputNoise(sigma=0.02))
    wanted = jax.random.uniform(key, (20, 10), minval=-0.6, maxval=0.6)
    crossbar = in_conductances(key, hardware, jnp.zeros((20, 10)))
    crossbar, errors = descend_reads(key, hardware, crossbar, wanted, learning_rate=0.2, steps=150)
    assert errors.shape == (150,)
    assert errors[-20:].mean() < 0.12 * errors[0]
    found = as_matrix(hardware, stand(None, hardware, crossbar))
    assert float(jnp.std(found - wanted)) < 0.04


def test_pairs_of_phase_change_memory_descend_too(key):
    device = OneSidedPair(device=presets.pcm_set(memory=False).replace(read_curve=None))
    hardware = Hardware(device=device, mapping=Signed(scale_by="none"))
    wanted = jax.random.uniform(key, (10, 6), minval=-0.4, maxval=0.4)
    crossbar = in_conductances(key, hardware, jnp.zeros((10, 6)))
    _, errors = descend_reads(key, hardware, crossbar, wanted, learning_rate=0.3, steps=40)
    assert errors[-5:].mean() < 0.35 * errors[0]


def test_writing_has_derivatives_and_maps(key):
    device = SoftBounds(dx=0.02, c2c=0.3, **WINDOW)
    target = jnp.linspace(60 * uS, 90 * uS, 6)

    def written(device, key):
        return device.state(write_verify(key, device, device.fabricate(None, (6,)), target, uS, most=20).cells)

    many = jax.vmap(lambda k: written(device, k))(jax.random.split(key, 3))
    np.testing.assert_allclose(many[1], written(device, jax.random.split(key, 3)[1]), rtol=1e-5)
    slope = jax.grad(lambda d: written(d, key).sum())(device)
    assert float(slope.dx) != 0
    assert np.isfinite(float(slope.c2c))


def test_errors(key):
    device = ConstantStep(**WINDOW)
    cells, target = device.fabricate(None, (2,)), jnp.full(2, 75 * uS)
    with pytest.raises(ValueError, match="window must be greater than 0; got 0"):
        write_verify(None, device, cells, target, 0.0)
    with pytest.raises(ValueError, match="most must be a positive integer; got 0"):
        write_verify(None, device, cells, target, uS, most=0)
    with pytest.raises(ValueError, match="target"):
        write_verify(None, device, cells, jnp.full(2, jnp.nan), uS)
    hardware = Hardware(device=device, mapping=Offset())
    crossbar = in_conductances(None, hardware, jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="needs a key; got None"):
        descend_reads(None, hardware, crossbar, jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="weights must have shape"):
        write_weights(None, hardware, crossbar, jnp.ones((3, 2)), 0.1)
    assert Ideal().conductance(write_verify(None, Ideal(), Ideal().fabricate(None, (2,)), target, uS).cells).tolist()
