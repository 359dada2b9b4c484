"""Products of attention on arrays: Flax's own on ideal hardware, and written anew at every call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import anajax
from anajax import nn
from anajax.arrays import AbsMax, Additive, Hardware, Maximum
from anajax.devices import presets

close = np.testing.assert_allclose
LENGTH, HEADS, DEPTH = 5, 4, 3


def activations(kv_heads=HEADS, batch=(2,)):
    keys, heads = jax.random.split(jax.random.key(0), 3), (HEADS, kv_heads, kv_heads)
    return [jax.random.normal(k, (*batch, LENGTH, h, DEPTH)) for k, h in zip(keys, heads, strict=True)]


def model(products=None):
    plain = nnx.MultiHeadAttention(HEADS, 16, decode=False, rngs=nnx.Rngs(0))
    return plain, nn.convert(plain, Hardware(), products=products)


OPTIONS = {
    "plain": {},
    "causal": {"is_causal": True},
    "mask": {"mask": np.tri(LENGTH, dtype=bool)[::-1, ::-1][None, None]},
    "bias": {"bias": np.linspace(-1, 1, HEADS * LENGTH).reshape(1, HEADS, 1, LENGTH)},
    "dropout": {"dropout_rng": jax.random.key(3), "dropout_rate": 0.4},
    "dropout of each": {"dropout_rng": jax.random.key(3), "dropout_rate": 0.4, "broadcast_dropout": False},
    "without dropout": {"dropout_rng": jax.random.key(3), "dropout_rate": 0.4, "deterministic": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_ideal_products_are_those_of_flax(options):
    ours = nn.AttentionProducts(Hardware(array_shape=(2, 2)))
    x = activations()
    close(ours(*x, **options), nnx.dot_product_attention(*x, **options), rtol=1e-5, atol=1e-6)


def test_any_batch_and_fewer_heads_of_keys():
    ours = nn.AttentionProducts(Hardware())
    for kv_heads, batch in ((1, (2,)), (2, ()), (HEADS, (2, 3))):
        x = activations(kv_heads, batch)
        close(ours(*x), nnx.dot_product_attention(*x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="must be a multiple of those of keys; got 4 and 3"):
        ours(*activations(3))


def test_slopes_of_ideal_products_are_those_of_flax():
    ours, x = nn.AttentionProducts(Hardware()), activations()
    g = jax.random.normal(jax.random.key(1), x[0].shape)
    slopes = [jax.grad(lambda x, f=f: jnp.sum(g * f(*x, is_causal=True)))(x) for f in (ours, nnx.dot_product_attention)]
    for a, b in zip(*slopes, strict=True):
        close(a, b, rtol=1e-4, atol=1e-5)


def test_what_is_masked_does_not_matter_on_noisy_arrays():
    """Each query attends to one key: whatever the noise of scores, its output is that key's value."""
    ours = nn.AttentionProducts(Hardware(output_noise=anajax.arrays.OutputNoise(sigma=0.1)))
    wrapped = nnx.MultiHeadAttention(2, 6, attention_fn=ours, decode=False, rngs=nnx.Rngs(0))
    apply, params, hw, _ = nn.split(wrapped)
    x = jax.random.normal(jax.random.key(0), (2, 4, 6))
    mask = np.eye(4, dtype=bool)[None, None]
    run = jax.jit(lambda keys: apply(params, hw, x, keys, x, mask=mask, key=jax.random.key(1)))
    off = run(x) - wrapped.out(wrapped.value(x))
    assert 0.01 < float(jnp.std(off)) < 0.3  # the noise of reading values alone
    close(run(10 * x + 1), run(x), atol=1e-5)


def test_each_matrix_and_call_is_written_anew():
    """Two equal examples, two equal heads and two calls with other keys all differ by the errors of writing."""
    hw = Hardware(device=presets.pcm(), inputs=AbsMax())
    _, ours = model(hw)
    apply, params, hardware, _ = nn.split(ours)
    assert set(hardware) == {"query", "key", "value", "out", "attention_fn"}
    x = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (LENGTH, 16)), (2, LENGTH, 16))
    run = jax.jit(lambda k: apply(params, hardware, x, key=k))
    y, again, other = (run(jax.random.key(k)) for k in (1, 1, 2))
    assert float(jnp.abs(y[0] - y[1]).max()) > 1e-3
    assert float(jnp.abs(y - other).max()) > 1e-3
    close(y, again)
    chip = apply.program(jax.random.key(3), params, hardware)
    assert "attention_fn" not in chip
    on_chip = apply(params, hardware, x, key=jax.random.key(1), time=3600.0, chip=chip)
    close(on_chip, y, atol=1e-5)  # the layers are ideal


def test_training_reaches_all_weights_through_written_activations():
    _, ours = model(Hardware(device=presets.pcm(), inputs=AbsMax(), modifier=Additive(sigma=0.1)))
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, 16))
    apply, params, hardware, _ = nn.split(ours)
    for backward in ("ideal", "exact"):
        each = {n: h.replace(backward=backward) for n, h in hardware.items()}
        slope = jax.jit(jax.grad(lambda p, h=each: jnp.sum(apply(p, h, x, key=jax.random.key(1)) ** 2)))(params)
        for path, leaf in jax.tree_util.tree_leaves_with_path(slope):
            assert bool(jnp.isfinite(leaf).all()), path
            if "kernel" in str(path):
                assert float(jnp.abs(leaf).max()) > 1e-4, path


def test_chips_by_vmap_and_sweeps():
    _, ours = model(Hardware(device=presets.pcm(), inputs=AbsMax()))
    apply, params, hardware, _ = nn.split(ours)
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, 16))

    def one(i):
        made, read = anajax.chips.keys(0, i)
        return apply(params, hardware, x, key=read, time=3600.0, chip=apply.program(made, params, hardware))

    many = jax.jit(jax.vmap(one))(jnp.arange(3))
    for i in range(3):
        close(many[i], one(i), rtol=1e-4, atol=1e-3)

    def error(scale):
        device = hardware["attention_fn"].device.replace(program_scale=scale)
        noisy = hardware | {"attention_fn": hardware["attention_fn"].replace(device=device)}
        return jnp.std(apply(params, noisy, x, key=jax.random.key(1)) - apply(params, Hardware(), x))

    value, slope = jax.value_and_grad(error)(1.0)
    assert 0 < float(value) < 2
    assert float(slope) > 0


def test_there_and_back_and_the_report():
    plain, ours = model(Hardware())
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, 16))
    close(ours(x, is_causal=True), plain(x, is_causal=True), rtol=1e-5, atol=1e-6)
    assert plain.attention_fn is nnx.dot_product_attention
    row = next(r for r in nn.report(ours).rows if r.kind == "AttentionProducts")
    assert (row.layer, row.weights, row.arrays) == ("attention_fn", 0, None)
    assert "by length" in str(nn.report(ours))
    back = nn.to_digital(ours)
    assert jax.tree.structure(nnx.split(back)) == jax.tree.structure(nnx.split(plain))
    close(back(x), plain(x), rtol=1e-6)


def test_decoding_from_a_cache_is_that_of_flax():
    plain, ours = model(Hardware())
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, 16))
    for one in (plain, ours):
        one.init_cache(x.shape)
    for t in range(LENGTH):
        y = [one(x[:, t : t + 1], decode=True) for one in (plain, ours)]
        close(*y, rtol=1e-5, atol=1e-6)


def test_refusals():
    x = jnp.ones((2, LENGTH, 16))
    with pytest.raises(ValueError, match=r"share no learned range: give AttentionProducts, .* inputs=AbsMax"):
        model(anajax.presets.standard_aimc())
    _, ours = model(Hardware(device=presets.pcm()))
    with pytest.raises(ValueError, match="AttentionProducts is noisy and was called without a key"):
        ours(x)
    with pytest.raises(TypeError, match="hardware must be a Hardware; got int"):
        nn.AttentionProducts(3)
    with pytest.raises(ValueError, match="precision is not supported"):
        nn.AttentionProducts(Hardware())(*activations(), precision="highest")
    own = nnx.MultiHeadAttention(2, 4, attention_fn=lambda *a, **k: a[0], decode=False, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="cannot replace an attention_fn of one's own"):
        nn.convert(own, Hardware(), products=Hardware())


def test_ranges_are_found_for_the_layers_around():
    _, ours = model(Hardware(device=presets.pcm(), inputs=AbsMax()))
    ours = nn.convert(
        nn.to_digital(ours), anajax.presets.standard_aimc(), products=ours.attention_fn.hardware.get_value()
    )
    apply, params, hardware, _ = nn.split(ours)
    x = jax.random.normal(jax.random.key(0), (2, LENGTH, 16))
    ranged = nn.init_input_ranges(apply, params, [x])
    close(ranged["query"]["input_range"].get_value(), 3 * x.std(), rtol=1e-5)
    found = nn.calibrate_adc(apply, ranged, hardware, [x], Maximum(), key=jax.random.key(0))
    assert found["attention_fn"] is not None
    assert set(found) == set(hardware)
    assert apply(ranged, found, x, key=jax.random.key(1)).shape == x.shape


def test_loops_draw_fresh_noise_of_products(key):
    class Step(nnx.Module):
        """Attends among the features of a carry."""

        def __init__(self):
            self.attend = nnx.MultiHeadAttention(2, 6, decode=False, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return nn.over_time(lambda c, _: (c, self.attend(c)), self, x, jnp.zeros(3))[1]

    x = jax.random.normal(jax.random.key(0), (2, 4, 6))
    ours = nn.convert(Step(), Hardware(), products=Hardware(device=presets.pcm()))
    apply, params, hardware, _ = nn.split(ours)
    y = jax.jit(lambda k: apply(params, hardware, x, key=k))(key)
    for a, b in ((0, 1), (1, 2)):
        assert float(jnp.abs(y[a] - y[b]).max()) > 1e-3
    close(apply(params, Hardware(), x)[0], Step()(x)[0], rtol=1e-5, atol=1e-6)


def test_types_stay_and_a_second_conversion_changes_nothing():
    x = [a.astype(jnp.bfloat16) for a in activations()]
    assert nn.AttentionProducts(Hardware())(*x).dtype == jnp.bfloat16
    _, ours = model(Hardware(device=presets.pcm()))
    again = nn.convert(ours, Hardware(array_shape=(8, 8)), products=Hardware())
    assert "PCM" in repr(again.attention_fn.hardware.get_value().device)


def test_products_alone_are_evaluated():
    plain = nnx.MultiHeadAttention(HEADS, 16, decode=False, rngs=nnx.Rngs(0))
    alone = nn.convert(plain, Hardware(), where=lambda name, layer: False, products=Hardware(device=presets.pcm()))
    apply, params, hardware, _ = nn.split(alone)
    x = jax.random.normal(jax.random.key(0), (4, LENGTH, 16))
    found = anajax.chips.evaluate(
        apply, params, hardware, x, plain(x), chips=3, metric=lambda y, wanted: jnp.abs(y - wanted).mean()
    )
    assert float(found.to_dataarray().min()) > 0
