"""The loop of training: it learns, ramps, distils, and keeps Flax's other state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import anajax
from anajax import nn
from anajax.arrays import Additive, DeviceNoise, Discretize, Hardware
from anajax.nn import recipe


def blobs(key, n=300):
    y = jnp.arange(n) % 3
    return 2 * jax.nn.one_hot(y, 4) + 0.5 * jax.random.normal(key, (n, 4)), y


def accuracy(logits, y):
    return float((jnp.argmax(logits, -1) == y).mean())


def test_it_learns_and_leaves_no_noise_to_evaluation(key):
    hw = anajax.presets.standard_aimc().replace(modifier=DeviceNoise(time=20.0))
    apply, params, hw, _ = nn.split(nn.Linear(4, 3, hardware=hw, rngs=nnx.Rngs(0)))
    x, y = blobs(key)
    params = nn.init_input_ranges(apply, params, [x])
    first, _ = nn.train(apply, params, hw, x, y, 100, key, learning_rate=0.03, after=lambda p: nn.clip(p, sigmas=2.0))
    again, _ = nn.train(apply, params, hw, x, y, 100, key, learning_rate=0.03, after=lambda p: nn.clip(p, sigmas=2.0))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert accuracy(apply(first, hw, x, key=key, train=False), y) > 0.95 > accuracy(apply(params, Hardware(), x), y)


def test_noise_grows_along_the_ramp():
    hw = Hardware(modifier=Additive(sigma=0.4))
    assert float(recipe._ramped(hw, jnp.array(0.25)).modifier.sigma) == pytest.approx(0.1)
    assert float(recipe._ramped({"a": hw}, jnp.array(0.5))["a"].modifier.sigma) == pytest.approx(0.2)
    kept = recipe._ramped(Hardware(modifier=Discretize(levels=5, sigma=0.2)), jnp.array(0.5)).modifier
    assert (float(kept.levels), float(kept.sigma)) == (5, pytest.approx(0.1))
    assert recipe._ramped(Hardware(), jnp.array(0.5)).modifier is None


def test_the_first_of_two_steps_has_half_of_the_noise(key):
    x, y = blobs(key)
    once = optax.sgd(lambda count: jnp.where(count == 0, 1.0, 0.0))  # the second step goes nowhere

    def after(sigma, ramp):
        hw = Hardware(modifier=Additive(sigma=sigma))
        apply, params, hw, _ = nn.split(nn.Linear(4, 3, hardware=hw, rngs=nnx.Rngs(0)))
        return nn.train(apply, params, hw, x, y, 2, key, tx=once, ramp=ramp)[0]["kernel"][...]

    np.testing.assert_allclose(after(0.4, 1.0), after(0.2, 0.0), rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(after(0.4, 1.0) - after(0.4, 0.0)).max()) > 1e-3


def test_a_teacher_counts_as_much_as_it_should(key):
    logits, teacher = jax.random.normal(key, (2, 50, 3))
    y = jnp.arange(50) % 3
    only = nn.distilled(temperature=2.0, weight=1.0)
    wanted = -4 * (jax.nn.softmax(teacher / 2) * jax.nn.log_softmax(logits / 2)).sum(-1).mean()
    np.testing.assert_allclose(only(logits, (y, teacher)), wanted, rtol=1e-5)
    np.testing.assert_allclose(nn.distilled(weight=0.0)(logits, (y, teacher)), nn.cross_entropy(logits, y), rtol=1e-6)
    slope = jax.grad(only)(teacher, (y, teacher))  # a pupil that is its teacher has nothing to learn
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_statistics_of_batches_come_along(key):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer, self.norm = nnx.Linear(4, 3, rngs=rngs), nnx.BatchNorm(3, momentum=0.5, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.layer(x))

    apply, params, hw, rest = nn.split(nn.convert(Model(nnx.Rngs(0)), Hardware()))
    x, y = blobs(key)
    params, after = nn.train(apply, params, hw, x + 3, y, 60, key, learning_rate=0.02)
    assert float(jnp.abs(after["norm"]["mean"][...] - rest["norm"]["mean"][...]).max()) > 0.5
    assert accuracy(apply(params, hw, x + 3, rest=after, train=False), y) > 0.9
    on, _ = nn.train(apply, params, hw, {"x": x}["x"], (y,)[0], 1, key, rest=after)
    assert jax.tree.structure(on) == jax.tree.structure(params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1; got 0"),
        ({"batch": 2.5}, r"batch must be an integer of at least 1; got 2\.5"),
        ({"ramp": 1.5}, r"ramp must be at least 0 and at most 1; got 1\.5"),
    ],
)
def test_impossible_training_is_refused(options, message, key):
    apply, params, hw, _ = nn.split(nn.Linear(4, 3, rngs=nnx.Rngs(0)))
    x, y = blobs(key)
    with pytest.raises(ValueError, match=message):
        nn.train(apply, params, hw, x, y, **({"steps": 1, "key": key} | options))
    with pytest.raises(ValueError, match=r"weight must be at least 0 and at most 1; got 2"):
        nn.distilled(weight=2)
