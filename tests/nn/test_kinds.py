"""Layers of every kind: Flax's own on ideal hardware, converted and back, each with its matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import anajax
from anajax import nn
from anajax.arrays import Hardware

close = np.testing.assert_allclose

MAKE = {
    "Linear": (nnx.Linear, (6, 4), {}, (3, 6)),
    "LinearGeneral": (nnx.LinearGeneral, (6, 4), {}, (2, 3, 6)),
    "LinearGeneral to two axes": (nnx.LinearGeneral, (6, (2, 4)), {}, (5, 6)),
    "LinearGeneral of two axes": (nnx.LinearGeneral, ((6, 2), 4), {"axis": (-2, 1)}, (3, 6, 2, 5)),
    "LinearGeneral in batches": (nnx.LinearGeneral, (6, (4, 2)), {"batch_axis": {0: 3}}, (3, 5, 6)),
    "LinearGeneral without bias": (nnx.LinearGeneral, ((3, 2), (2, 4)), {"axis": (1, 2), "use_bias": False}, (5, 3, 2)),
    "Einsum": (nnx.Einsum, ("btd,dhk->bthk", (6, 2, 4), (2, 4)), {}, (3, 5, 6)),
    "Einsum with experts": (nnx.Einsum, ("etd,edk->etk", (3, 6, 4), None), {}, (3, 5, 6)),
    "Einsum with an ellipsis": (nnx.Einsum, ("...dh,hdk->...k", (2, 6, 4), (4,)), {}, (5, 3, 6, 2)),
    "Einsum that turns axes": (nnx.Einsum, ("tbd,kd->kbt", (4, 6), (4,)), {}, (5, 3, 6)),
    "Einsum that sums its inputs": (nnx.Einsum, ("btd,dk->bk", (6, 4), None), {}, (3, 5, 6)),
    "Conv": (nnx.Conv, (3, 4, (3, 2)), {"strides": 2}, (2, 5, 6, 3)),
    "ConvTranspose": (nnx.ConvTranspose, (3, 4, (3, 2)), {}, (2, 5, 6, 3)),
    "ConvTranspose with strides": (nnx.ConvTranspose, (3, 4, (3,)), {"strides": (2,)}, (2, 5, 3)),
    "ConvTranspose with wide strides": (nnx.ConvTranspose, (3, 4, (2, 3)), {"strides": (4, 3)}, (2, 3, 4, 3)),
    "ConvTranspose, valid": (nnx.ConvTranspose, (3, 4, (3, 4)), {"strides": (2, 5), "padding": "VALID"}, (5, 6, 3)),
    "ConvTranspose, dilated": (nnx.ConvTranspose, (3, 4, (3,)), {"strides": 2, "kernel_dilation": 2}, (2, 5, 3)),
    "ConvTranspose, padded": (nnx.ConvTranspose, (3, 4, (3, 3)), {"padding": ((1, 0), (2, 1))}, (2, 5, 6, 3)),
    "ConvTranspose, transposed": (
        nnx.ConvTranspose,
        (3, 4, (3, 2)),
        {"strides": (2, 1), "transpose_kernel": True},
        (2, 5, 6, 3),
    ),
}


def twins(name):
    kind, args, options, shape = MAKE[name]
    theirs = kind(*args, rngs=nnx.Rngs(0), **options)
    if theirs.bias is not None:  # Flax's are zero
        theirs.bias[...] = jax.random.normal(jax.random.key(5), theirs.bias.shape)
    return theirs, jax.random.normal(jax.random.key(1), shape)


@pytest.mark.parametrize("name", MAKE)
def test_ideal_layers_are_those_of_flax(name):
    theirs, x = twins(name)
    kind, args, options, _ = MAKE[name]
    ours = getattr(nn, kind.__name__)(*args, rngs=nnx.Rngs(0), **options)
    np.testing.assert_array_equal(ours.kernel[...], theirs.kernel[...])
    converted = nn.convert(theirs, Hardware())
    assert type(converted) is type(ours)
    close(converted(x), theirs(x), rtol=2e-5, atol=2e-6)
    g = jax.random.normal(jax.random.key(2), theirs(x).shape)
    slopes = [jax.grad(lambda x, f=f: jnp.sum(g * f(x)))(x) for f in (converted, theirs)]
    close(*slopes, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", MAKE)
def test_there_and_back(name):
    theirs, x = twins(name)
    there = nn.convert(theirs, anajax.presets.standard_aimc(), learn_output_scale=True)
    factors = jnp.linspace(0.5, 2.0, there.output_scale[...].size)
    there.output_scale.set_value(factors)
    back = nn.to_digital(there)
    assert type(back) is type(theirs)
    assert jax.tree.structure(nnx.split(back)) == jax.tree.structure(nnx.split(theirs))
    exact = nn.convert(theirs, Hardware(), learn_output_scale=True)
    exact.output_scale.set_value(factors)
    close(back(x), exact(x), rtol=2e-5, atol=1e-5)
    assert float(jnp.abs(back(x) - theirs(x)).max()) > 0.1


@pytest.mark.parametrize(
    "name",
    [n if n in ("LinearGeneral in batches", "Einsum") else pytest.param(n, marks=pytest.mark.slow) for n in MAKE],
)
def test_chips_by_vmap_are_chips_one_by_one(name):
    theirs, x = twins(name)
    apply, params, hw, _ = nn.split(nn.convert(theirs, anajax.presets.standard_aimc().replace(array_shape=(8, 8))))

    def one(i):
        made, read = anajax.chips.keys(0, i)
        return apply(params, hw, x, key=read, time=3600.0, chip=apply.program(made, params, hw))

    many = jax.jit(jax.vmap(one))(jnp.arange(3))
    alone = jax.jit(one)
    for i in range(3):
        close(many[i], alone(i), rtol=1e-4, atol=0.03)  # a step of a converter, where sums round otherwise
    exact = theirs(x)
    error = float(jnp.std(many - exact) / jnp.std(exact))
    assert 0.01 < error < 0.6
    assert float(jnp.std(many - many.mean(0))) > 0.005 * float(jnp.std(exact))


@pytest.mark.parametrize("name", MAKE)
def test_remapping_changes_no_output_and_fills_every_column(name):
    theirs, x = twins(name)
    apply, params, hw, _ = nn.split(nn.convert(theirs, Hardware(), learn_output_scale=True))
    for per in ("column", "layer"):
        moved = nn.remap(params, per)
        close(apply(moved, hw, x), theirs(x), rtol=2e-5, atol=1e-5)
        peaks = jnp.abs(apply.merge(moved, hw).matrices()).max(axis=1)
        close(peaks.max() if per == "layer" else peaks, 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", MAKE)
def test_clipping_by_column_knows_the_columns(name):
    theirs, _ = twins(name)
    apply, params, hw, _ = nn.split(nn.convert(theirs, Hardware()))
    before = np.asarray(apply.merge(params, hw).matrices())
    after = apply.merge(nn.clip(params, sigmas=1.0, per="column"), hw).matrices()
    bound = before.std(axis=1, ddof=1, keepdims=True)
    close(after, np.clip(before, -bound, bound), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", MAKE)
def test_adapters_add_a_product_of_low_rank(name, key):
    theirs, x = twins(name)
    adapted = nn.with_adapters(nn.convert(theirs, Hardware(), learn_output_scale=True), 2, rngs=nnx.Rngs(3))
    close(adapted(x), theirs(x), rtol=2e-5, atol=2e-6)
    b = adapted.adapter.b
    b.set_value(jax.random.normal(key, b.get_value().shape))
    off = adapted(x) - theirs(x)
    assert float(jnp.abs(off).max()) > 0.1
    assert np.linalg.matrix_rank(adapted.adapter.matrices()[0]) == 2
    adapted.output_scale.set_value(jnp.full_like(adapted.output_scale[...], 1.5))
    close(nn.to_digital(adapted)(x), adapted(x), rtol=1e-4, atol=2e-5)


def test_adapters_alone_are_trained_and_mend_a_chip(key):
    """Of a chip of a year: half of its error goes, and no weight on arrays has moved."""
    hw = anajax.presets.standard_aimc().replace(compensation=None)
    model = nn.with_adapters(nn.Linear(16, 8, hardware=hw, rngs=nnx.Rngs(0)), 8, rngs=nnx.Rngs(1))
    apply, params, hw, _ = nn.split(model)
    x = jax.random.normal(key, (64, 16))
    exact = apply(params, Hardware(), x)
    params = nn.init_input_ranges(apply, params, [x])
    chip, tx = apply.program(key, params, hw), nn.adapters_only(optax.adam(0.02))

    def off(params, key):
        return jnp.mean((apply(params, hw, x, key=key, chip=chip, time=3e7) - exact) ** 2)

    def step(carry, key):
        value, slope = jax.value_and_grad(off)(carry[0], key)
        updates, state = tx.update(slope, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), value

    train = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), jax.random.split(key, 150)))
    (after, _), errors = train(params)
    assert errors[-10:].mean() < 0.5 * errors[:10].mean()
    np.testing.assert_array_equal(after["kernel"][...], params["kernel"][...])
    np.testing.assert_array_equal(after["bias"][...], params["bias"][...])
    with pytest.raises(ValueError, match="rank must be an integer of at least 1; got 0"):
        nn.with_adapters(model, 0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="Linear has no analog layers to adapt"):
        nn.with_adapters(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), 1, rngs=nnx.Rngs(0))


def test_embed_reads_a_row(key):
    theirs = nnx.Embed(7, 5, rngs=nnx.Rngs(0))
    x = jax.random.randint(key, (3, 4), 0, 7)
    assert isinstance(nn.convert(theirs, Hardware()), nnx.Embed)
    assert not isinstance(nn.convert(theirs, Hardware()), nn.Embed)
    ours = nn.convert(theirs, Hardware(), where=lambda name, layer: True)
    assert isinstance(ours, nn.Embed)
    close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    close(nn.Embed(7, 5, rngs=nnx.Rngs(0))(x), theirs(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(nn.to_digital(ours)(x), theirs(x))
    with pytest.raises(ValueError, match="inputs must be integers; got float32"):
        ours(jnp.ones(3))
    with pytest.raises(NotImplementedError, match="attend reads the table from its columns"):
        ours.attend(jnp.ones(5))


def test_attention_is_that_of_flax_but_for_its_projections(key):
    theirs = nnx.MultiHeadAttention(2, 8, qkv_features=12, decode=False, rngs=nnx.Rngs(0))
    x, mask = jax.random.normal(key, (3, 5, 8)), nnx.make_causal_mask(jnp.ones((3, 5)))
    for ours in (
        nn.convert(theirs, Hardware()),
        nn.MultiHeadAttention(2, 8, qkv_features=12, decode=False, rngs=nnx.Rngs(0)),
    ):
        close(ours(x, mask=mask), theirs(x, mask=mask), rtol=1e-4, atol=1e-5)
    assert [row.layer for row in nn.report(ours).rows] == ["key", "out", "query", "value"]
    assert all(row.arrays == 1 for row in nn.report(ours).rows)
    apply, params, hw, _ = nn.split(nn.convert(theirs, anajax.presets.standard_aimc()))
    near = apply(params, hw, x, key=key, mask=mask)
    assert 0.005 < float(jnp.std(near - theirs(x, mask=mask)) / jnp.std(theirs(x, mask=mask))) < 0.5


def test_dropout_of_attention_is_fresh(key):
    theirs = nnx.MultiHeadAttention(2, 8, dropout_rate=0.5, decode=False, rngs=nnx.Rngs(0))
    apply, params, hw, _ = nn.split(nn.convert(theirs, Hardware()))
    x = jax.random.normal(key, (3, 5, 8))
    a, b, again = (apply(params, hw, x, key=jax.random.key(k), train=True) for k in (0, 1, 0))
    assert float(jnp.abs(a - b).max()) > 0.01
    np.testing.assert_array_equal(a, again)


def test_a_predicate_gives_each_layer_its_hardware():
    model = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(3, 2, rngs=nnx.Rngs(1)))
    few, many = (anajax.presets.standard_aimc().replace(array_shape=(n, n)) for n in (2, 8))

    def own(name, layer):
        return {"layers.0": few}.get(name) if layer.in_features == 4 else many

    report = nn.report(nn.convert(model, own))
    assert [row.arrays for row in report.rows] == [4, 1]
    assert [row.used for row in report.rows] == [12 / 16, 6 / 64]
    left = nn.report(nn.convert(model, lambda name, layer: None if name == "layers.0" else many))
    assert [(row.layer, row.arrays) for row in left.rows] == [("layers.0", 0), ("layers.2", 1)]
    assert left.parameters == 24  # with an input range
    assert "layers.0  Linear       15  4 x 3 + 3  digital" in str(left)


class Tied(nnx.Module):
    def __init__(self):
        self.a = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
        self.b = nnx.List([self.a, nnx.relu])


def test_conversion_keeps_shared_layers_shared_and_counts_them_once():
    there = nn.convert(Tied(), anajax.presets.standard_aimc())
    assert there.a is there.b[0]
    assert isinstance(there.a, nn.Linear)
    report = nn.report(there)
    assert (len(report.rows), report.parameters) == (1, 21)  # with its input range
    back = nn.to_digital(there)
    assert back.a is back.b[0]
    assert type(back.a) is nnx.Linear


def test_weights_in_conductances_are_no_digital_ones(key):
    hw = Hardware(
        device=anajax.devices.ReferencePair(device=anajax.devices.presets.rram_es()), mapping=anajax.arrays.Signed()
    )
    model = nn.in_situ(key, nn.Linear(4, 3, hardware=hw, rngs=nnx.Rngs(0)))
    assert nn.report(model).rows[0].weights == 12
    assert nn.report(model).parameters == 15
    with pytest.raises(ValueError, match="layer 'self' lives in conductances"):
        nn.to_digital(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Einsum("bd,...d->b", (3, 4), rngs=nnx.Rngs(0)),
            "einsum_str must name each axis of the kernel once",
        ),
        (lambda: nn.Einsum("bd,dk->b", (3, 4), rngs=nnx.Rngs(0)), r"inputs or outputs, .* got 'bd,dk->b'"),
        (lambda: nn.Einsum("bd,dd->b", (3, 3), rngs=nnx.Rngs(0)), r"got 'bd,dd->b'"),
        (lambda: nn.Einsum("bd,dk->bk", (3, 4), rngs=nnx.Rngs(0))(jnp.ones((2, 4))), r"sizes \(3,\) on 'd'"),
        (lambda: nn.Einsum("bd,dk->bk", (3, 4), rngs=nnx.Rngs(0))(jnp.ones((2, 3)), "bd,dk->kb"), "that of the layer"),
        (
            lambda: nn.LinearGeneral((2, 3), 4, axis=(1, 2), rngs=nnx.Rngs(0))(jnp.ones((5, 3, 2))),
            r"have \(2, 3\) feat",
        ),
        (lambda: nn.ConvTranspose(2, 3, (3,), padding="CIRCULAR", rngs=nnx.Rngs(0)), "padding='CIRCULAR' is not supp"),
        (
            lambda: nn.convert(nnx.ConvTranspose(2, 3, (3,), padding="CIRCULAR", rngs=nnx.Rngs(0)), Hardware()),
            "padding='CIRCULAR' is not supported",
        ),
        (lambda: nn.ConvTranspose(2, 3, (3,), padding="BEST", rngs=nnx.Rngs(0))(jnp.ones((5, 2))), "got 'BEST'"),
        (lambda: nn.Linear(2, 3, precision="highest", rngs=nnx.Rngs(0)), "precision is not supported .* got 'highest'"),
    ],
)
def test_what_arrays_cannot_do_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_analog_layers_keep_their_hardware():
    model = nnx.Sequential(nnx.Linear(6, 5, rngs=nnx.Rngs(0)), nnx.Linear(5, 4, rngs=nnx.Rngs(1)))
    one, two = Hardware(array_shape=(4, 4)), Hardware(array_shape=(8, 8))
    first = nn.convert(model, one, where=lambda name, layer: name == "layers.0")
    second = nn.convert(first, two)
    assert [layer.hardware.get_value().array_shape for _, layer in nn.layers(second)] == [(4, 4), (8, 8)]
