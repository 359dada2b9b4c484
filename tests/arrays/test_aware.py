"""Reads of hardware-aware training: modified weights straight to the arrays, without a chip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax import Hardware, presets
from anajax.arrays import (
    Additive,
    DeviceNoise,
    Discretize,
    DropConnect,
    FixedRange,
    LearnedRange,
    Multiplicative,
    PolynomialNoise,
    aware_mvm,
    mvm,
    unprogrammed,
)
from anajax.arrays.mapping import join
from anajax.devices import presets as devices
from anajax.testing import check_gradients, check_moments


def case(key, rows=7, cols=5, n=3):
    k_w, k_x = jax.random.split(key)
    w = 0.3 * jax.random.normal(k_w, (rows, cols))
    return w, jax.random.uniform(k_x, (n, rows), minval=-1.0)


MODIFIERS = {
    "additive": Additive(sigma=0.1),
    "multiplicative": Multiplicative(sigma=0.1, per="example"),
    "polynomial": PolynomialNoise(per="example"),
    "device": DeviceNoise(time=20.0, scale=1.5),
}


@pytest.mark.parametrize("name", MODIFIERS)
def test_gradients_of_training(name, key):
    w, x = case(key)
    hardware = Hardware(device=devices.pcm().replace(g_min=1e-7), modifier=MODIFIERS[name])

    def run(hardware, w, x):
        k_w, k_r = jax.random.split(key)
        return mvm(k_r, hardware, unprogrammed(k_w, hardware, w), x)

    slopes = check_gradients(run, hardware, w, x)
    assert all(slope > 0 for path, slope in slopes.items() if path.startswith("0.modifier."))


STD = {
    "additive": (Additive(sigma=0.1), lambda w: np.full_like(w, 0.1)),
    "multiplicative": (Multiplicative(sigma=0.1), lambda w: 0.1 * np.abs(w)),
    "polynomial": (
        PolynomialNoise(sigma=2.0),
        lambda w: 2 * (0.0105392 + 0.0768 * np.abs(w) - 0.046925 * w**2),
    ),
}


@pytest.mark.parametrize("per", ["step", "example"])
@pytest.mark.parametrize("name", STD)
def test_modifiers_add_noise_of_the_stated_size(name, per, key):
    """One weight on a column: what it reads is its weight. False alarm 1.4e-5 for each weight."""
    modifier, std = STD[name]
    w = np.array([[0.2, -0.6, 1.0]], np.float32)
    hardware = Hardware(modifier=modifier.replace(per=per)).replace(**{"mapping.scale_by": "none"})
    n = 20_000

    @jax.jit
    def steps(key):
        if per == "example":
            a, b = jax.random.split(key)
            return aware_mvm(a, b, hardware, w, jnp.ones((n, 1)))
        return jax.vmap(lambda k: aware_mvm(k, None, hardware, w, jnp.ones(1)))(jax.random.split(key, n))

    y = steps(key)
    for j in range(3):
        check_moments(y[:, j], float(w[0, j]), float(std(w)[0, j]), name=f"weight {w[0, j]:g}")


def test_discretized_weights_have_their_levels(key):
    w = jnp.linspace(-1, 1, 101)[None]
    hardware = Hardware(modifier=Discretize(levels=5)).replace(**{"mapping.scale_by": "none"})
    y = aware_mvm(key, None, hardware, w, jnp.ones(1))
    np.testing.assert_allclose(np.unique(y), [-1, -0.5, 0, 0.5, 1], atol=1e-6)
    assert float(jnp.abs(y - w[0]).max()) <= 0.25 + 1e-6


def test_dropped_connections(key):
    w = jnp.ones((1, 40_000))
    y = aware_mvm(key, None, Hardware(modifier=DropConnect(probability=0.3)), w, jnp.ones(1))
    check_moments(y, 0.7, (0.3 * 0.7) ** 0.5)


def test_without_keys_the_weights_are_exact(key):
    w, x = case(key)
    for modifier in MODIFIERS.values():
        y = aware_mvm(None, None, Hardware(modifier=modifier), w, x)
        np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inputs", [None, FixedRange(range=2.0), LearnedRange()])
def test_ideal_backward_keeps_the_value_and_takes_the_gradient_of_the_matrix(inputs, key):
    w, x = case(key)
    exact = presets.standard_aimc().replace(modifier=Additive(sigma=0.1), inputs=inputs, backward="exact")
    ideal = exact.replace(backward="ideal")
    r = 0.8 if isinstance(inputs, LearnedRange) else None
    k_w, k_r, k_g = jax.random.split(key, 3)
    g = jax.random.normal(k_g, (3, 5))

    def loss(hardware, w, x):
        y = aware_mvm(k_w, k_r, hardware, w, x, r)
        return jnp.sum(g * y), y

    (_, y_exact), _ = jax.jit(jax.value_and_grad(loss, has_aux=True))(exact, w, x)
    (_, y_ideal), (dh, dw, dx) = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(ideal, w, x)
    assert np.mean(np.abs(y_exact - y_ideal) > 1e-4) < 0.1  # but for values between two codes
    inside = (jnp.abs(x) < 0.8) if r else jnp.ones(x.shape, bool)
    clipped = jnp.clip(x, -0.8, 0.8) if r else x
    np.testing.assert_allclose(dw, clipped.T @ g, rtol=1e-4, atol=1e-5)
    modified = unprogrammed(k_w, ideal, w)  # inputs see the weights of the forward pass, noise included
    used = join(modified.weights * modified.scale[..., None, :], *w.shape)
    np.testing.assert_allclose(dx, jnp.where(inside, g @ used.T, 0.0), rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(used - w).max()) > 0.05
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(dh))


def test_learned_range_takes_the_published_gradient(key):
    # x = range * clip(x / range) of an ideal tile: the range learns from clipped inputs alone
    w = jnp.eye(3)
    x = jnp.array([[0.5, 2.0, -3.0]])
    hardware = Hardware(inputs=LearnedRange(decay=0.1, coverage=0.95))
    effective = unprogrammed(None, hardware, w)
    g = jnp.array([[1.0, -2.0, 5.0]])
    y, slope = jax.value_and_grad(lambda r: jnp.sum(g * mvm(None, hardware, effective, x, r)))(1.0)
    np.testing.assert_allclose(y, 0.5 * 1 + 1.0 * -2 + -1.0 * 5)
    np.testing.assert_allclose(slope, 1.0 * (-2.0 - 5.0), rtol=1e-6)
