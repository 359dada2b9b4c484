"""Layers: equal to Flax's own on ideal hardware, noisy with keys, and never the same noise twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import anajax
from anajax import nn
from anajax.arrays import ADC, Additive, Differential, DriftCompensation, FixedRange, Hardware, OutputNoise, WeightNoise

DAY = 86400.0


def _layer(hardware, rows=8, cols=5, **options):
    return nn.Linear(rows, cols, hardware=hardware, rngs=nnx.Rngs(0), **options)


def test_ideal_linear_is_flax_linear(key):
    ours, theirs = _layer(None), nnx.Linear(8, 5, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (2, 3, 8))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    assert isinstance(ours, nnx.Linear)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((9, 4), dict(kernel_size=3)),
        ((9, 4), dict(kernel_size=(3,), padding="CAUSAL", kernel_dilation=2)),
        ((2, 8, 8, 4), dict(kernel_size=(3, 3))),
        ((2, 8, 7, 4), dict(kernel_size=(3, 2), strides=(2, 1), padding="VALID")),
        ((2, 8, 8, 4), dict(kernel_size=(3, 3), padding=1, feature_group_count=2)),
        ((2, 8, 8, 4), dict(kernel_size=(3, 3), feature_group_count=4, use_bias=False)),
        ((2, 8, 8, 4), dict(kernel_size=(3, 3), padding="CIRCULAR", kernel_dilation=2)),
        ((2, 8, 8, 4), dict(kernel_size=(4, 4), padding="CIRCULAR")),
        ((2, 8, 8, 4), dict(kernel_size=(3, 3), padding="REFLECT")),
        ((2, 8, 8, 4), dict(kernel_size=(2, 3), padding=[(1, 0), (2, 1)])),
        ((2, 8, 8, 4), dict(kernel_size=(3, 3), padding=1, input_dilation=2)),
        ((2, 3, 5, 6, 5, 4), dict(kernel_size=(2, 3, 2), strides=2)),
        ((6, 5, 4), dict(kernel_size=(3, 3))),
    ],
)
def test_ideal_conv_is_flax_conv(key, shape, options):
    ours = nn.Conv(4, 8, rngs=nnx.Rngs(0), **options)
    theirs = nnx.Conv(4, 8, rngs=nnx.Rngs(0), **options)
    x = jax.random.normal(key, shape)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=2e-5, atol=2e-6)


def test_masked_conv_keeps_its_mask(key):
    mask = (jax.random.uniform(key, (3, 3, 2, 4)) > 0.5).astype(float)
    ours = nn.Conv(2, 4, (3, 3), mask=mask, rngs=nnx.Rngs(0))
    theirs = nnx.Conv(2, 4, (3, 3), mask=mask, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (2, 5, 5, 2))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=2e-5, atol=2e-6)


def test_convolution_cut_into_arrays_and_groups_on_a_chip(key):
    """Every group is a matrix of its own, cut into arrays; a noise-free chip returns the convolution."""
    hw = Hardware(array_shape=(5, 3))
    layer = nn.Conv(6, 8, (3,), feature_group_count=2, hardware=hw, rngs=nnx.Rngs(0))
    chip = layer.program(key)
    assert jax.tree.leaves(layer.settle(key, chip, 0.0).weights)[0].shape == (2, 2, 2, 5, 2)  # groups, then the grid
    x = jax.random.normal(key, (4, 7, 6))
    theirs = nnx.Conv(6, 8, (3,), feature_group_count=2, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(layer(x, chip=chip, key=key), theirs(x), rtol=2e-5, atol=2e-6)


def test_noisy_layer_without_a_key_raises():
    layer = _layer(Hardware(output_noise=OutputNoise(sigma=0.1)))
    with pytest.raises(ValueError, match=r"Linear is noisy .* key=jax.random.key"):
        layer(jnp.ones((2, 8)))


def test_wrong_features_are_named():
    with pytest.raises(ValueError, match=r"inputs must have 8 features .* got shape \(2, 7\)"):
        _layer(None)(jnp.ones((2, 7)))


def test_hardware_must_be_hardware():
    with pytest.raises(TypeError, match="hardware must be a Hardware; got float"):
        _layer(0.5)


def _model(hardware, rngs=None):
    rngs = rngs or nnx.Rngs(0)
    return nnx.Sequential(
        nn.Linear(8, 8, hardware=hardware, rngs=rngs), nnx.tanh, nn.Linear(8, 8, hardware=hardware, rngs=rngs)
    )


class Twice(nnx.Module):
    """One layer, called twice in a pass."""

    def __init__(self, hardware):
        self.layer = nn.Linear(8, 8, hardware=hardware, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.layer(x), self.layer(x)


def _noise(hardware, x, key, model=None):
    """Outputs less their noise-free mean."""
    apply, params, hw, _ = nn.split(model or _layer(hardware, 8, 8))
    mean = apply(params, hardware.replace(output_noise=None), x)
    noisy = apply(params, hw, x, key=key)
    return jax.tree.map(lambda a, b: np.asarray(a - b).ravel(), noisy, mean)


def _assert_unrelated(a, b):
    """Correlation of n independent pairs has z = r sqrt(n): |z| < 4.5, a false alarm in 150,000."""
    z = np.corrcoef(a, b)[0, 1] * np.sqrt(a.size)
    assert abs(z) < 4.5, z


def test_noise_never_repeats(key):
    """Not between calls, keys, examples, layers, arrays of one layer, or two calls of a layer in one pass."""
    hw = Hardware(output_noise=OutputNoise(sigma=0.1))
    x = jnp.ones((4000, 8))
    one, other = _noise(hw, x, key), _noise(hw, x, jax.random.fold_in(key, 1))
    np.testing.assert_array_equal(one, _noise(hw, x, key))  # the same key is the same noise
    _assert_unrelated(one, other)
    examples = one.reshape(4000, 8)
    _assert_unrelated(examples[:2000].ravel(), examples[2000:].ravel())
    _assert_unrelated(examples[:, :4].ravel(), examples[:, 4:].ravel())
    _assert_unrelated(*_noise(hw, x, key, Twice(hw)))

    apply, params, hw, _ = nn.split(_model(hw))  # two layers of one model
    layers = dict(nn.layers(apply.merge(params, hw, key=key)))
    first, second = (np.asarray(layer(x) - layer(x, key=None, chip=None)) for layer in layers.values())
    _assert_unrelated(first.ravel(), second.ravel())


def test_noise_differs_between_blocks_and_arrays(key):
    """A batch larger than a block, and the two arrays of a tall matrix."""
    hw = Hardware(output_noise=OutputNoise(sigma=0.1), array_shape=(4, 8), mapping=Differential(scale_by="none"))
    effective = anajax.arrays.unprogrammed(None, hw, jnp.zeros((8, 8)))
    y = np.asarray(anajax.arrays.mvm(key, hw, effective, jnp.ones((3000, 8))))
    assert abs(y.var() / (2 * 0.1**2) - 1) < 4.5 * np.sqrt(2 / y.size)  # two arrays: twice the variance
    _assert_unrelated(y[:1500].ravel(), y[1500:].ravel())
    _assert_unrelated(y[:500].ravel(), y[500:1000].ravel())


def test_chips_differ_and_stay(key):
    hw = anajax.presets.standard_aimc().replace(dac=None, adc=None)
    model = _layer(hw, 64, 64)
    apply, params, hw, _ = nn.split(model)
    quiet = hw.replace(**{"output_noise.sigma": 0.0, "weight_noise.sigma": 0.0, "device.read_scale": 0.0})
    x = jnp.eye(64)

    def weights(i):
        chip = anajax.chips.one(3, i, model)
        return np.asarray(apply(params, quiet, x, key=key, chip=chip, time=DAY)).ravel()

    ideal = np.asarray(apply(params, Hardware(), x)).ravel()
    a, b = weights(0) - ideal, weights(1) - ideal
    np.testing.assert_array_equal(a, weights(0) - ideal)
    _assert_unrelated(a - a.mean(), b - b.mean())


def test_settling_first_equals_settling_inside(key):
    model = _model(anajax.presets.standard_aimc())
    apply, params, hw, _ = nn.split(model)
    chip = nn.program(key, model)
    x = jax.random.normal(key, (16, 8))
    inside = apply(params, hw, x, key=key, chip=chip, time=DAY)
    settled = apply.settle(params, hw, key=key, chip=chip, time=DAY)
    np.testing.assert_array_equal(inside, apply(params, hw, x, key=key, chip=settled))


@pytest.mark.slow
def test_one_field_used_by_three_layers_has_one_summed_gradient(key):
    hw = anajax.presets.standard_aimc().replace(dac=None, adc=None)
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(*(nn.Linear(6, 6, hardware=hw, rngs=rngs) for _ in range(3)))
    apply, params, hw, _ = nn.split(model)
    assert isinstance(hw, Hardware)
    chip = nn.program(key, model)
    x = jax.random.normal(key, (4, 6))

    def loss(h):
        return jnp.sum(apply(params, h, x, key=key, chip=chip, time=DAY) ** 2)

    together = jax.grad(loss)(hw)
    apart = jax.grad(loss)({name: hw for name in apply.names})
    summed = jax.tree.map(lambda *g: sum(g), *apart.values())
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6 * float(jnp.abs(b).max() + 1e-3))
    assert abs(float(together.device.nu_scale)) > 0


def test_layers_may_differ(key):
    rngs = nnx.Rngs(0)
    a, b = Hardware(adc=ADC(bits=4)), Hardware(adc=ADC(bits=8))
    model = nnx.Sequential(nn.Linear(4, 4, hardware=a, rngs=rngs), nn.Linear(4, 2, hardware=b, rngs=rngs))
    apply, params, hw, _ = nn.split(model)
    assert list(hw) == ["layers.0", "layers.1"]
    assert float(hw["layers.0"].adc.bits) == 4
    with pytest.raises(ValueError, match=r"hardware must have one entry .* layers.0, layers.1; got layers.0"):
        apply(params, {"layers.0": a}, jnp.ones((1, 4)))


def test_split_copies_do_not_alias(key):
    model = _layer(None)
    before = np.asarray(model.kernel[...])
    _, params, _, _ = nn.split(model)
    params["kernel"].set_value(params["kernel"].get_value() + 1)
    np.testing.assert_array_equal(model.kernel[...], before)


def test_ideal_backward_is_that_of_the_plain_layer(key):
    """Forward with all noise, gradients of weights and inputs as of x @ w."""
    noisy = anajax.presets.standard_aimc().replace(inputs=FixedRange(range=4.0))
    assert noisy.backward == "ideal"
    x = jax.random.normal(key, (16, 8))
    g = jax.random.normal(key, (16, 5))
    layer = _layer(noisy)
    apply, params, hw, _ = nn.split(layer)
    run = lambda h: lambda p, x: jnp.sum(g * apply(p, h, x, key=key))  # noqa: E731
    ours = jax.grad(run(noisy), argnums=(0, 1))(params, x)
    plain = jax.grad(run(Hardware()), argnums=(0, 1))(params, x)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    exact = jax.grad(run(noisy.replace(backward="exact")), argnums=0)(params, x)
    assert float(jnp.abs(exact["kernel"][...] - ours[0]["kernel"][...]).max()) > 1e-3
    outputs = apply(params, hw, x, key=key), apply(params, noisy.replace(backward="exact"), x, key=key)
    np.testing.assert_array_equal(*outputs)


@pytest.mark.slow
def test_ideal_backward_keeps_groups_and_fleets_apart(key):
    """Where the gradient is taken around a `vmap`, over groups of a convolution or over sets of weights."""
    noisy = anajax.presets.standard_aimc().replace(inputs=FixedRange(range=4.0))
    conv = nn.Conv(4, 6, (3,), feature_group_count=2, hardware=noisy, rngs=nnx.Rngs(0))
    x, dense = jax.random.normal(key, (5, 7, 4)), jax.random.normal(key, (16, 8))
    for layer, inputs in ((conv, x), (_layer(noisy), dense)):
        apply, params, _, _ = nn.split(layer)
        fleet = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), params)
        target = jax.random.normal(key, apply(params, noisy, inputs, key=key).shape)

        def loss(params, hw, apply=apply, inputs=inputs, target=target):
            return jnp.sum(target * apply(params, hw, inputs, key=key))

        ours = jax.grad(lambda p, f=loss: jax.vmap(lambda p: f(p, noisy))(p).sum())(fleet)
        plain = jax.vmap(jax.grad(lambda p, f=loss: f(p, Hardware())))(fleet)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_train_and_eval_switch_the_modifier_only(key):
    hw = Hardware(modifier=Additive(sigma=0.5))
    layer = _layer(hw)
    x = jax.random.normal(key, (4, 8))
    clean = _layer(None)(x)
    layer.eval()
    np.testing.assert_allclose(layer(x), clean, rtol=1e-5, atol=1e-6)  # needs no key
    layer.train()
    assert float(jnp.abs(layer(x, key=key) - clean).max()) > 0.1
    with pytest.raises(ValueError, match="without a key"):
        layer(x)
    noisy = _layer(Hardware(output_noise=OutputNoise(sigma=0.5)))
    noisy.eval()
    assert float(jnp.abs(noisy(x, key=key) - clean).max()) > 0.1


@pytest.mark.parametrize("per", ["step", "example"])
def test_modifier_per_step_and_per_example_have_one_variance(key, per):
    """Each output has the variance sigma**2 sum x**2; examples share the draw per step only."""
    hw = Hardware(modifier=Additive(sigma=0.1, per=per), mapping=Differential(scale_by="none"))
    x = jnp.broadcast_to(jax.random.normal(key, (1, 16)), (2, 16))
    effect = jax.vmap(lambda k: anajax.arrays.aware_mvm(*jax.random.split(k), hw, jnp.zeros((16, 32)), x), in_axes=0)(
        jax.random.split(key, 500)
    )
    y = np.asarray(effect)  # [draws, examples, outputs]
    wanted = 0.01 * float(jnp.sum(x[0] ** 2))
    assert abs(y.var() / wanted - 1) < 4.5 * np.sqrt(2 / (y.size / 2))
    shared = np.corrcoef(y[:, 0].ravel(), y[:, 1].ravel())[0, 1]
    assert shared > 0.999 if per == "step" else abs(shared) * np.sqrt(y[:, 0].size) < 4.5


def test_learned_range_moves_with_training(key):
    hw = anajax.presets.standard_aimc()
    apply, params, hw, _ = nn.split(_layer(hw))
    x = 10 * jax.random.normal(key, (64, 8))  # far beyond the initial range of 3
    grad = jax.grad(lambda p: -jnp.sum(apply(p, hw, x, key=key) * jnp.sign(x @ p["kernel"][...])))(params)
    assert float(grad["input_range"][...]) < 0  # gradient descent would widen it
    assert float(params["input_range"][...]) == 3.0


def test_chip_with_compensation_restores_the_mean(key):
    """Uniform drift and nothing else: compensation returns the layer's own output."""
    device = anajax.devices.presets.state_independent().replace(
        program_scale=0.0, read_scale=0.0, **{"nu_std.coefficients": [0.0]}
    )
    plain = Hardware(device=device)
    layer = _layer(plain.replace(compensation=DriftCompensation()))
    chip = layer.program(key)
    x = jax.random.normal(key, (4, 8))
    np.testing.assert_allclose(layer(x, key=key, chip=chip, time=DAY), _layer(None)(x), rtol=1e-4, atol=1e-5)
    drifted = _layer(plain)(x, key=key, chip=chip, time=DAY)
    np.testing.assert_allclose(drifted, _layer(None)(x) * (1 + DAY / 20) ** -0.1, rtol=1e-4, atol=1e-5)


def test_weight_noise_is_output_referred_in_a_layer(key):
    hw = Hardware(weight_noise=WeightNoise(sigma=0.1, kind="constant"), mapping=Differential(scale_by="none"))
    x = jnp.ones((4000, 8))
    y = np.asarray(_layer(hw, 8, 8, kernel_init=nnx.initializers.zeros)(x, key=key))
    assert abs(y.var() / (0.01 * 8) - 1) < 4.5 * np.sqrt(2 / y.size)
