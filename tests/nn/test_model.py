"""Models: conversion, training, ageing, and the functions around a training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import anajax
from anajax import chips, nn
from anajax.arrays import Additive, Hardware, OutputNoise

DAY = 86400.0


class CNN(nnx.Module):
    """An ordinary Flax model: batch norm, dropout, nested blocks, and a call that knows no keys and no time."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([nnx.Sequential(nnx.Conv(4, 4, (3, 3), strides=2, rngs=rngs), nnx.relu)])
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.head = nnx.Linear(64, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x.reshape(x.shape[0], -1)))


@pytest.fixture
def hardware():
    return anajax.presets.standard_aimc().replace(modifier=Additive(sigma=0.03))


def _stripes(key, n=128):
    """Images 8 x 8 of horizontal or vertical stripes, with noise."""
    label = jnp.arange(n) % 2
    wave = jnp.sin(jnp.arange(8.0))
    image = jnp.where(label[:, None, None] == 0, wave[None, :, None], wave[None, None, :])
    return (image + 0.3 * jax.random.normal(key, (n, 8, 8)))[..., None], label


def test_converted_model_is_named_by_path_and_equal_on_ideal_hardware(key):
    model = CNN(nnx.Rngs(0))
    model.eval()
    converted = nn.convert(model, Hardware())
    assert {name for name, _ in nn.layers(converted)} == {"stem", "blocks.0.layers.0", "head"}
    assert type(model.stem) is nnx.Conv  # the original stays
    x, _ = _stripes(key, 4)
    np.testing.assert_allclose(converted(x), model(x), rtol=1e-4, atol=1e-5)


def test_convert_where(hardware):
    converted = nn.convert(CNN(nnx.Rngs(0)), hardware, where=lambda name, layer: name != "head")
    assert {name for name, _ in nn.layers(converted)} == {"stem", "blocks.0.layers.0"}
    assert type(converted.head) is nnx.Linear
    alone = nn.convert(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), hardware)
    assert [name for name, _ in nn.layers(alone)] == ["self"]


def test_convert_keeps_shared_layers_shared(hardware):
    class Tied(nnx.Module):
        def __init__(self):
            self.a = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
            self.b = self.a

    converted = nn.convert(Tied(), hardware)
    assert converted.a is converted.b
    assert isinstance(converted.a, nn.Linear)


def test_converted_model_trains_ages_and_is_evaluated(key, hardware):
    """A model whose call knows neither keys nor time: trained hardware-aware, aged a month, recalibrated."""
    apply, params, hw, rest = nn.split(nn.convert(CNN(nnx.Rngs(0)), hardware))
    x, y = _stripes(key)
    params = nn.init_input_ranges(apply, params, [x])
    tx = optax.adam(1e-2)

    @jax.jit
    def train(params, rest, key):
        def step(carry, key):
            params, rest, state = carry

            def loss(params):
                logits, new = apply.updating(params, hw, x, key=key, rest=rest, train=True)
                return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new

            (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), rest, state), value

        (params, rest, _), losses = jax.lax.scan(step, (params, rest, tx.init(params)), jax.random.split(key, 40))
        return params, rest, losses

    params, rest, losses = train(params, rest, key)
    assert float(losses[-5:].mean()) < 0.3 * float(losses[0])
    chip = apply.program(key, params, hw)
    rest = nn.recalibrate(apply, params, hw, [x[:64], x[64:]], key=key, chip=chip, time=30 * DAY, rest=rest)
    test_x, test_y = _stripes(jax.random.fold_in(key, 1))
    outputs = apply(params, hw, test_x, key=key, chip=chip, time=30 * DAY, rest=rest, train=False)
    assert float(chips.accuracy(outputs, test_y)) > 0.9
    study = chips.evaluate(apply, params, hw, test_x, test_y, chips=3, times=[20.0, 30 * DAY], rest=rest)
    assert float(study["accuracy"].mean()) > 0.9


def test_dropout_takes_its_mask_from_the_key(key):
    apply, params, hw, _ = nn.split(nn.convert(CNN(nnx.Rngs(0)), Hardware()))
    x, _ = _stripes(key, 4)
    one = apply(params, hw, x, key=key, train=True)
    np.testing.assert_array_equal(one, apply(params, hw, x, key=key, train=True))
    other = apply(params, hw, x, key=jax.random.fold_in(key, 1), train=True)
    assert float(jnp.abs(one - other).max()) > 1e-3
    np.testing.assert_array_equal(apply(params, hw, x, key=key, train=False), apply(params, hw, x, train=False))


def test_recalibration_gives_the_statistics_of_the_batches(key):
    apply, params, hw, _ = nn.split(nn.convert(CNN(nnx.Rngs(0)), Hardware()))
    x, _ = _stripes(key)
    rest = nn.recalibrate(apply, params, hw, [x[:64], x[64:]], key=key)
    seen = apply.merge(params, hw).stem(x)
    np.testing.assert_allclose(rest["norm"]["mean"][...], seen.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    batches = jnp.stack([seen[:64], seen[64:]])
    np.testing.assert_allclose(rest["norm"]["var"][...], batches.var((1, 2, 3)).mean(0), rtol=1e-4)
    with pytest.raises(ValueError, match="batches is empty"):
        nn.recalibrate(apply, params, hw, [], key=key)


def _params(kernel, **options):
    rows, cols = np.shape(kernel)
    layer = nn.Linear(rows, cols, rngs=nnx.Rngs(0), **options)
    layer.kernel.set_value(jnp.asarray(kernel))
    return nn.split(layer)


def test_remap_to_columns_and_layer():
    """aihwkit.md 8.2 item 34: [[.1, .2, .3], [.4, .5, .6]] by layer -> / .6; by rows there, columns here."""
    apply, params, hw, _ = _params([[0.1, 0.4], [0.2, 0.5], [0.3, -0.7]], learn_output_scale=True)
    x = jnp.eye(3)
    columns = nn.remap(params)
    np.testing.assert_allclose(columns["output_scale"][...], [0.3, 0.7], rtol=1e-6)
    np.testing.assert_allclose(jnp.abs(columns["kernel"][...]).max(0), 1, rtol=1e-6)
    layer = nn.remap(params, per="layer")
    np.testing.assert_allclose(layer["output_scale"][...], [0.7, 0.7], rtol=1e-6)
    for p in (columns, layer):
        np.testing.assert_allclose(apply(p, hw, x), apply(params, hw, x), rtol=1e-5)
    with pytest.raises(ValueError, match="learn_output_scale"):
        nn.remap(_params([[1.0]])[1])
    with pytest.raises(ValueError, match="per must be 'column' or 'layer'; got 'row'"):
        nn.remap(params, per="row")


def test_clip_rules():
    kernel = np.linspace(-1, 1, 12).reshape(4, 3) ** 3
    _, params, _, _ = _params(kernel)
    assert float(jnp.abs(nn.clip(params, value=0.3)["kernel"][...]).max()) == pytest.approx(0.3)
    by_sigma = nn.clip(params, sigmas=0.5)["kernel"][...]
    assert float(jnp.abs(by_sigma).max()) == pytest.approx(0.5 * kernel.std(ddof=1), rel=1e-5)  # N - 1
    by_column = nn.clip(params, mean_column_max=True)["kernel"][...]
    assert float(jnp.abs(by_column).max()) == pytest.approx(np.abs(kernel).max(0).mean(), rel=1e-5)
    np.testing.assert_allclose(params["kernel"][...], kernel, rtol=1e-6)  # the original stays
    with pytest.raises(ValueError, match="exactly one of value, sigmas, mean_column_max"):
        nn.clip(params, value=1.0, sigmas=2.0)


def test_input_ranges_are_three_standard_deviations(key):
    hw = anajax.presets.standard_aimc()
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nn.Linear(8, 8, hardware=hw, rngs=rngs), nn.Linear(8, 2, hardware=hw, rngs=rngs))
    apply, params, _, _ = nn.split(model)
    x = jax.random.normal(key, (2, 50, 8))
    params = nn.init_input_ranges(apply, params, x)
    found = [float(params["layers"][i]["input_range"][...]) for i in (0, 1)]
    hidden = x @ params["layers"][0]["kernel"][...]
    wanted = [3 * float(np.mean([v.std() for v in values])) for values in (np.asarray(x), np.asarray(hidden))]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    with pytest.raises(ValueError, match="batches is empty"):
        nn.init_input_ranges(apply, params, [])


def test_program_needs_analog_layers():
    with pytest.raises(ValueError, match=r"Linear has no analog layers; see anajax.nn.convert"):
        nn.program(None, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))


def test_models_and_chips_transform(key, hardware):
    """jit, vmap over chips and vmap of grad agree with loops."""
    model = nn.convert(nnx.Linear(6, 3, rngs=nnx.Rngs(0)), hardware.replace(dac=None, adc=None))
    apply, params, hw, _ = nn.split(model)
    x = jax.random.normal(key, (4, 6))

    @jax.jit
    def loss(hw, i):
        chip = chips.one(5, i, model)
        return jnp.sum(apply(params, hw, x, key=jax.random.fold_in(key, i), chip=chip, time=DAY) ** 2)

    index = jnp.arange(3)
    loop = [loss(hw, i) for i in range(3)]
    np.testing.assert_allclose(jax.vmap(loss, in_axes=(None, 0))(hw, index), loop, rtol=1e-5)
    gradient = jax.jit(jax.grad(loss))
    grads = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(hw, index)
    for i in range(3):
        one = gradient(hw, i)
        for a, b, field in zip(*map(jax.tree.leaves, (grads, one, hw)), strict=True):
            # relative to what a relative change of the field does to the loss: fields are in SI units
            np.testing.assert_allclose(a[i] * field, b * field, rtol=1e-3, atol=1e-5 * float(loop[i]))


def test_hardware_may_be_made_where_it_is_traced():
    """Layers whose specs are not known to be the same keep their own."""

    @jax.jit
    def outputs(sigma):
        rngs = nnx.Rngs(0)
        specs = [Hardware(output_noise=OutputNoise(sigma=k * sigma)) for k in (1, 2)]
        layers = [nn.Linear(3, 3, hardware=hw, rngs=rngs) for hw in specs]
        apply, params, hardware, _ = nn.split(nnx.Sequential(*layers))
        assert set(hardware) == set(apply.names)
        return apply(params, hardware, jnp.ones((2, 3)), key=jax.random.key(0))

    assert outputs(0.1).shape == (2, 3)
    assert not jnp.array_equal(outputs(0.1), outputs(0.2))
