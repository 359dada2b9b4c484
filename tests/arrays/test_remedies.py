"""Remedies against the resistance of wires: the order of inputs, and compensated weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import anajax
from anajax import arrays, nn
from anajax.arrays import Wires

DEVICE = anajax.devices.Ideal(g_min=1e-6, g_max=100e-6)


def hardware(resistance, **more):
    return anajax.Hardware(device=DEVICE, wires=Wires(word_line=resistance, bit_line=resistance), **more)


def test_large_inputs_come_last():
    x = np.array([[0.3, -0.9, 0.1, 0.5], [0.3, 0.7, 0.1, -0.4]])
    np.testing.assert_array_equal(arrays.row_order(x), [2, 0, 3, 1])


@pytest.mark.parametrize(("rows", "array_shape"), [(12, (4, 4)), (10, (4, 4)), (7, None)])
def test_every_array_gets_large_and_small_inputs_in_order(rows, array_shape, key):
    x = jax.random.uniform(key, (5, rows))
    order = np.asarray(arrays.row_order(x, array_shape))
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    count, _, each, _ = arrays.mapping.grid(rows, 1, array_shape)
    means = np.asarray(jnp.mean(x, axis=0))[order]
    ranks = np.argsort(np.argsort(means))
    for k in range(count):
        part = ranks[k * each : (k + 1) * each]
        assert (np.diff(part) > 0).all()
        assert part.min() < rows / 2 <= part.max()


def test_order_cuts_the_loss(key):
    w = jnp.ones((64, 8))
    x = jnp.linspace(1.0, 0.0, 64)[None]  # large inputs at the far end
    order = arrays.row_order(x)
    hw = hardware(20.0)
    before = arrays.aware_mvm(None, None, hw, w, x)
    after = arrays.aware_mvm(None, None, hw, w[order], x[:, order])
    ideal = x @ w
    assert (np.abs(after - ideal) < 0.9 * np.abs(before - ideal)).all()


@pytest.mark.parametrize("resistance", [1.0, 20.0])
@pytest.mark.parametrize(
    "mapping", [arrays.Differential(), pytest.param(arrays.Offset(scale_by="array"), marks=pytest.mark.slow)]
)
def test_compensated_weights_compute_as_the_wanted_ones(resistance, mapping, key):
    """At 20 ohm more than a third of the weights is lost before."""
    hw = hardware(resistance, mapping=mapping, array_shape=(16, 8))
    w = jax.random.normal(key, (24, 8))
    x = jax.random.normal(jax.random.fold_in(key, 1), (8, 24))
    programmed, error = arrays.compensate(hw, w)
    y = arrays.aware_mvm(None, None, hw, programmed, x)
    assert error < 1e-4
    np.testing.assert_allclose(y, x @ w, atol=5e-4 * np.abs(x @ w).max())
    without = arrays.aware_mvm(None, None, hw, w, x)
    assert np.abs(without - x @ w).max() > 20 * np.abs(y - x @ w).max()


@pytest.mark.slow
def test_networks_are_compensated_layer_by_layer(key):
    rngs, hw = nnx.Rngs(0), hardware(5.0, array_shape=(16, 16))
    model = nnx.Sequential(
        nn.Conv(2, 4, (3, 3), hardware=hw, rngs=rngs, feature_group_count=2),
        nnx.relu,
        lambda x: x.reshape(len(x), -1),
        nn.Linear(4 * 36, 5, hardware=hw, rngs=rngs),
    )
    apply, params, hw, _ = nn.split(model)
    x = jax.random.normal(key, (3, 6, 6, 2))
    wanted = apply(params, anajax.Hardware(), x)
    found = apply(nn.compensate(apply, params, hw), hw, x)
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())
    assert np.abs(apply(params, hw, x) - wanted).max() > 0.02 * np.abs(wanted).max()


def test_errors():
    with pytest.raises(ValueError, match=r"compensate needs Hardware\.wires to be Wires\(\.\.\.\), .*; got None"):
        arrays.compensate(anajax.Hardware(), jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="got IRDrop"):
        arrays.compensate(anajax.Hardware(wires=arrays.IRDrop()), jnp.ones((2, 2)))
    steep = hardware(1.0, conduction=anajax.devices.conduction.Sinh(v_0=0.1), v_read=0.2)
    with pytest.raises(ValueError, match="compensate needs arrays that compute a matrix product"):
        arrays.compensate(steep, jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"inputs must have shape \(n, rows\)"):
        arrays.row_order(jnp.ones(3))
