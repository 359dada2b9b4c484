"""What would silently repeat noise, lose hardware, or do nothing, is refused; what is at the edge stays finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import anajax
from anajax import arrays, nn
from anajax.arrays import (
    DAC,
    AbsMax,
    Additive,
    DeviceNoise,
    Differential,
    Discretize,
    DropConnect,
    Hardware,
    OutputNoise,
)


def test_noise_inside_a_scan_of_the_model_is_refused(key):
    class Recurrent(nnx.Module):
        def __init__(self, hardware):
            self.cell = nn.Linear(3, 3, hardware=hardware, rngs=nnx.Rngs(0))

        def __call__(self, xs):
            return jax.lax.scan(lambda h, x: (self.cell(h + x),) * 2, jnp.zeros(3), xs)[1]

    apply, params, hw, _ = nn.split(Recurrent(Hardware(output_noise=OutputNoise(sigma=0.1))))
    with pytest.raises(ValueError, match=r"would repeat one noise for every step or example: pass it key="):
        apply(params, hw, jnp.ones((4, 3)), key=key)
    assert apply(params, Hardware(), jnp.ones((4, 3))).shape == (4, 3)  # without noise there is nothing to repeat


def test_hardware_of_other_shapes_is_other_hardware():
    """Leaves that would broadcast equal are not the same."""
    rngs = nnx.Rngs(0)
    one, two = (Hardware(mapping=Differential(significance=s)) for s in ((1.0,), (1.0, 1.0)))
    model = nnx.Sequential(nn.Linear(2, 2, hardware=one, rngs=rngs), nn.Linear(2, 2, hardware=two, rngs=rngs))
    assert set(nn.split(model)[2]) == {"layers.0", "layers.1"}


@pytest.mark.parametrize("name", ["precision", "preferred_element_type", "dot_general"])
def test_arguments_without_effect_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is not supported by analog layers"):
        nn.Linear(2, 2, rngs=nnx.Rngs(0), **{name: "highest"})


def test_layer_keeps_its_dtype():
    layer = nn.Linear(4, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer(jnp.ones((3, 4))).dtype == jnp.bfloat16


@pytest.mark.parametrize("value", [0.0, -0.1])
def test_input_range_at_or_below_zero_lets_nothing_in(key, value):
    hw = anajax.presets.standard_aimc().replace(output_noise=None)
    apply, params, hw, _ = nn.split(nn.Linear(4, 2, hardware=hw, rngs=nnx.Rngs(0)))
    params["input_range"].set_value(jnp.asarray(value))
    y, slope = jax.value_and_grad(lambda p: apply(p, hw, jnp.ones((3, 4)), key=key).sum())(params)
    assert float(y) == 0
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slope))


def test_inputs_of_zeros_leave_their_range(key):
    apply, params, _, _ = nn.split(nn.Linear(4, 2, hardware=anajax.presets.standard_aimc(), rngs=nnx.Rngs(0)))
    assert float(nn.init_input_ranges(apply, params, [jnp.zeros((3, 4))])["input_range"][...]) == 3.0


def test_a_vector_of_zeros_reads_as_zero_under_abs_max(key):
    hw = Hardware(inputs=AbsMax(), output_noise=OutputNoise(sigma=0.1))
    y = nn.Linear(4, 2, hardware=hw, rngs=nnx.Rngs(0))(jnp.stack([jnp.zeros(4), jnp.ones(4)]), key=key)
    assert not np.asarray(y[0]).any()
    assert np.asarray(y[1]).all()


@pytest.mark.parametrize("per", ["step", "example"])
def test_rounding_and_dropping_keep_their_meaning_per_example(key, per):
    w = 0.8 * jax.random.uniform(key, (20, 6), minval=-1)
    mapping = Differential(scale_by="none")
    rounded = arrays.unprogrammed(key, Hardware(mapping=mapping, modifier=Discretize(levels=3, per=per)), w)
    assert set(np.unique(rounded.weights)) <= {-1.0, 0.0, 1.0}
    dropped = Hardware(mapping=mapping, modifier=DropConnect(probability=0.5, per=per))
    run = lambda k: arrays.aware_mvm(*jax.random.split(k), dropped, w, jnp.ones((1, 20)))  # noqa: E731
    y = np.asarray(jax.vmap(run)(jax.random.split(key, 4000)))[:, 0]
    z = (y.mean(0) - 0.5 * np.asarray(w.sum(0))) / (y.std(0) / 4000**0.5)
    assert np.abs(z).max() < 4.5  # six outputs: a false alarm in 25,000
    np.testing.assert_allclose(y.var(0), 0.25 * np.asarray((w**2).sum(0)), rtol=0.12)


def test_device_noise_of_a_cell_without_spread_has_finite_gradients(key):
    w = 0.1 * jax.random.normal(key, (20, 6)).at[3].set(0.0)
    for per in ("step", "example"):
        hw = Hardware(device=anajax.devices.presets.sonos(), modifier=DeviceNoise(per=per))
        g = jax.grad(lambda w, hw=hw: arrays.aware_mvm(key, key, hw, w, jnp.ones((2, 20))).sum())(w)
        assert bool(jnp.isfinite(g).all())


def test_weights_beyond_the_window_saturate_where_training_drives_them(key):
    hw = Hardware(mapping=Differential(scale_by="none"))
    w = jnp.array([[2.0, -3.0, 0.5]])
    np.testing.assert_allclose(arrays.unprogrammed(None, hw, w).weights[0, 0], [[1.0, -1.0, 0.5]])
    settled = jax.jit(lambda w: arrays.settle(None, hw, arrays.program(key, hw, w), w).weights)(w)
    np.testing.assert_allclose(settled[0, 0], [[1.0, -1.0, 0.5]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"weights must lie within \[-1, 1\] .* got 3"):
        arrays.settle(None, hw, arrays.program(key, hw, w), w)


def test_settle_refuses_times_and_tiles_of_other_shapes(key):
    hw = Hardware()
    tile = arrays.program(key, anajax.presets.standard_aimc(), jnp.ones((20, 1)))
    with pytest.raises(ValueError, match=r"tile must have been programmed for these weights .* \(1, 1, 2, 20, 6\)"):
        arrays.settle(key, hw, tile, jnp.ones((20, 6)))
    with pytest.raises(ValueError, match=r"time must have shape \(\); got \(6,\)"):
        arrays.settle(key, hw, arrays.program(key, hw, jnp.ones((20, 6))), jnp.ones((20, 6)), jnp.ones(6))


def test_padding_of_cut_matrices_stays_silent(key):
    """101 rows on arrays of 10: the last array has one row; modifiers and DAC noise must not fill the rest."""
    hw = Hardware(array_shape=(10, 10), modifier=Additive(sigma=0.5), dac=DAC(bound=10.0, noise=0.2))
    effective = arrays.unprogrammed(key, hw, jnp.ones((101, 4)))
    assert not np.asarray(effective.weights[-1, 0, 1:]).any()


def test_noise_of_a_vector_does_not_depend_on_the_batch(key):
    hw = Hardware(output_noise=OutputNoise(sigma=0.1), dac=DAC(noise=0.1))
    w = jax.random.normal(key, (5, 3))
    effective = arrays.unprogrammed(None, hw, w)
    x = jax.random.uniform(key, (1300, 5))
    few, many = (arrays.mvm(key, hw, effective, x[:n]) for n in (600, 1300))
    np.testing.assert_allclose(few, many[:600], rtol=1e-5, atol=1e-6)


def test_noise_free_programming_forgets_the_old_error(key):
    device = anajax.devices.presets.pcm()
    target = jnp.full((100,), 20e-6)
    cells = device.program(key, device.fabricate(key, (100,)), target)
    again = device.program(None, cells, target)
    np.testing.assert_allclose(device.conductance(again), target, rtol=1e-6)
    assert "drift" in again.scores
