"""Recurrent layers: Flax's own on ideal hardware, fresh noise at every step, arrays that stand still meanwhile."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import anajax
from anajax import nn
from anajax.arrays import Additive, Hardware, OutputNoise

close = np.testing.assert_allclose
CELLS = ("SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell")


def rnn(cell="LSTMCell", **options):
    return nnx.RNN(getattr(nnx, cell)(3, 4, rngs=nnx.Rngs(0)), **options)


def sequence(*shape):
    return jax.random.normal(jax.random.key(1), shape)


@pytest.mark.parametrize("cell", CELLS)
def test_ideal_cells_are_those_of_flax(cell):
    theirs, x = rnn(cell), sequence(2, 7, 3)
    for ours in (nn.convert(theirs, Hardware()), nn.RNN(getattr(nn, cell)(3, 4, rngs=nnx.Rngs(0)))):
        assert type(ours) is nn.RNN
        close(ours(x), theirs(x), rtol=1e-4, atol=1e-6)
    names = [row.kind for row in nn.report(ours).rows]
    assert names == ["Linear"] * len(names)


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"time_major": True}, {}),
        ({"reverse": True}, {}),
        ({"reverse": True, "keep_order": True}, {"seq_lengths": True}),
        ({}, {"seq_lengths": True}),
        ({"return_carry": True}, {"seq_lengths": True}),
        ({"return_carry": True, "time_major": True, "unroll": 3}, {}),
        ({}, {"return_carry": True, "reverse": True, "keep_order": True}),
    ],
)
def test_sequences_run_as_in_flax(options, call):
    theirs = rnn("GRUCell", **options)
    ours = nn.convert(theirs, Hardware())
    x = sequence(7, 2, 3) if options.get("time_major") else sequence(2, 7, 3)
    call = call | ({"seq_lengths": jnp.array([3, 7])} if "seq_lengths" in call else {})
    jax.tree.map(lambda a, b: close(a, b, rtol=1e-4, atol=1e-6), ours(x, **call), theirs(x, **call))
    start = {"initial_carry": jnp.ones((2, 4))}
    jax.tree.map(lambda a, b: close(a, b, rtol=1e-4, atol=1e-6), ours(x, **start), theirs(x, **start))


def test_both_directions():
    parts = [rnn("SimpleCell"), rnn("LSTMCell")]
    theirs, x = nnx.Bidirectional(*parts), sequence(2, 7, 3)
    ours = nn.convert(theirs, Hardware())
    assert type(ours.backward_rnn) is nn.RNN
    close(ours(x), theirs(x), rtol=1e-4, atol=1e-6)
    assert type(nn.to_digital(ours).backward_rnn) is nnx.RNN
    close(nn.to_digital(ours)(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_without_analog_layers_it_is_the_one_of_flax():
    theirs, x = rnn(), sequence(2, 7, 3)
    close(nn.RNN(theirs.cell)(x), theirs(x), rtol=1e-6)


class Sums(nnx.Module):
    """A cell that forgets: each step returns the reads of the same input."""

    num_feature_axes = 1

    def __init__(self, hardware):
        self.layer = nn.Linear(3, 2, hardware=hardware, rngs=nnx.Rngs(0))

    def initialize_carry(self, shape, rngs=None):
        return jnp.zeros(())

    def __call__(self, carry, x):
        return carry, self.layer(x)


def test_noise_is_fresh_at_every_step_and_what_it_should_be(key):
    """2,000 steps of a constant input: independent normals of the output noise's own deviation."""
    hw = Hardware(output_noise=OutputNoise(sigma=0.1))
    apply, params, hw, _ = nn.split(nn.RNN(Sums(hw)))
    y = apply(params, hw, jnp.ones((1, 2000, 3)), key=key)[0]
    x = np.asarray(y - y.mean(0))
    scale = np.abs(np.asarray(params["cell"]["layer"]["kernel"][...])).max(axis=0)  # noise is in full-scale weights
    # 5 standard deviations of a standard deviation, and of a correlation: one false alarm in a million
    close(x.std(axis=0) / scale, 0.1, rtol=5 / np.sqrt(2 * 2000))
    for lag in (1, 2, 3):
        assert np.all(np.abs((x[lag:] * x[:-lag]).mean(0) / x.var(0)) < 5 / np.sqrt(2000))
    assert abs(np.corrcoef(x.T)[0, 1]) < 5 / np.sqrt(2000)
    np.testing.assert_array_equal(apply(params, hw, jnp.ones((1, 2000, 3)), key=key)[0], y)
    twice = nn.split(nn.RNN(Sums(hw), reverse=True))[0]
    assert not np.array_equal(twice(params, hw, jnp.ones((1, 2000, 3)), key=jax.random.key(3))[0], y)


def test_arrays_stand_still_during_a_sequence(key):
    """Programming noise, 1/f noise and the modifier of training are drawn once, fresh noise at each step."""
    hw = Hardware(device=anajax.devices.presets.pcm(), modifier=Additive(sigma=0.3))
    apply, params, hw, _ = nn.split(nn.RNN(Sums(hw)))
    x = jnp.ones((1, 50, 3))
    chip = apply.program(key, params, hw)
    aged = apply(params, hw, x, key=key, chip=chip, time=3600.0)[0]
    close(aged, jnp.broadcast_to(aged[0], aged.shape), rtol=1e-6)
    other = apply(params, hw, x, key=jax.random.key(1), chip=chip, time=3600.0)[0]
    assert float(jnp.abs(other - aged).max()) > 1e-4  # another 1/f draw
    trained = apply(params, hw, x, key=key, train=True)[0]
    close(trained, jnp.broadcast_to(trained[0], trained.shape), rtol=1e-6)
    exact = apply(params, Hardware(), x)[0]
    assert float(jnp.abs(trained - exact).max()) > 0.01
    close(apply(params, hw, x, key=key, train=False)[0], exact, rtol=1e-5, atol=1e-6)


def test_a_loop_is_its_steps(key):
    """Without fresh noise a scan over a chip is the cell, step by step."""
    hw = Hardware(device=anajax.devices.presets.pcm())
    apply, params, hw, _ = nn.split(nn.convert(rnn(), hw))
    x, chip = sequence(2, 6, 3), apply.program(key, params, hw)
    whole = apply(params, hw, x, key=key, chip=chip, time=60.0)
    settled = apply.settle(params, hw, chip=chip, key=key, time=60.0)
    model = apply.merge(params, hw, key=key, chip=settled)
    carry, steps = (jnp.zeros((2, 4)),) * 2, []
    for t in range(6):
        carry, y = model.cell(carry, x[:, t])
        steps.append(y)
    close(whole, jnp.stack(steps, axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backward", ["exact", "ideal"])
def test_gradients_go_through_time(key, backward):
    """Of a loop with one draw of the modifier, against differences; `ideal` leaves out how weights change noise."""
    hw = Hardware(modifier=Additive(sigma=0.2), backward=backward)
    apply, params, hw, _ = nn.split(nn.convert(rnn("SimpleCell"), hw))
    x = sequence(2, 5, 3)

    def loss(params):
        return jnp.sum(jnp.sin(jnp.arange(4.0)) * apply(params, hw, x, key=key, train=True))

    slope = jax.grad(loss)(params)
    assert jax.tree.structure(slope) == jax.tree.structure(params)
    leaves = jax.tree.leaves(params)
    draws = jax.random.split(key, len(leaves))
    move = [jax.random.normal(k, p.shape) for k, p in zip(draws, leaves, strict=True)]
    move = jax.tree.unflatten(jax.tree.structure(params), move)
    along = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(move), strict=True))
    ends = [loss(jax.tree.map(lambda p, m, s=s: p + s * 1e-3 * m, params, move)) for s in (1, -1)]
    if backward == "exact":
        close(along, (ends[0] - ends[1]) / 2e-3, rtol=2e-2)
    assert float(jnp.abs(along)) > 0.1


def test_chips_of_an_lstm_by_vmap_are_chips_one_by_one():
    apply, params, hw, _ = nn.split(nn.convert(rnn("OptimizedLSTMCell"), anajax.presets.standard_aimc()))
    x = sequence(2, 6, 3)

    def one(i):
        made, read = anajax.chips.keys(0, i)
        return apply(params, hw, x, key=read, time=3600.0, chip=apply.program(made, params, hw))

    many, alone = jax.jit(jax.vmap(one))(jnp.arange(3)), jax.jit(one)
    for i in range(3):
        close(many[i], alone(i), rtol=1e-3, atol=0.01)
    assert float(jnp.std(many, axis=0).mean()) > 1e-3


@pytest.mark.slow
def test_an_lstm_trains_aware_of_its_hardware(key):
    """It learns to tell whether a sequence had more ups than downs; input ranges come from the sequences."""
    hw = anajax.presets.standard_aimc().replace(modifier=Additive(sigma=0.03))

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.rnn, self.out = nnx.RNN(nnx.LSTMCell(1, 8, rngs=rngs)), nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            return self.out(self.rnn(x)[:, -1])

    apply, params, hw, _ = nn.split(nn.convert(Model(nnx.Rngs(0)), hw))
    x = jnp.sign(jax.random.normal(key, (256, 9, 1)))
    y = (x.sum((1, 2)) > 0).astype(int)
    params = nn.init_input_ranges(apply, params, [x])
    tx = optax.adam(2e-2)

    @jax.jit
    def step(carry, key):
        params, state = carry

        def loss(params):
            logits = apply(params, hw, x, key=key, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        value, slope = jax.value_and_grad(loss)(params)
        updates, state = tx.update(slope, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(key, 60))
    assert losses[0] > 0.6
    chip = apply.program(key, params, hw)
    right = jnp.argmax(apply(params, hw, x, key=key, chip=chip, time=86400.0, train=False), -1) == y
    assert float(right.mean()) > 0.9


@pytest.mark.slow
def test_cells_in_conductances_learn_from_every_step(key):
    hw = Hardware(
        device=anajax.devices.ReferencePair(device=anajax.devices.presets.rram_es()), mapping=anajax.arrays.Signed()
    )
    model = nn.in_situ(key, nn.convert(rnn("SimpleCell"), hw))
    apply, params, hw, _ = nn.split(model)
    slope = jax.grad(lambda p: apply(p, hw, sequence(2, 5, 3), key=key).sum())(params)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slope))


def test_a_loop_within_a_loop_draws_afresh_at_every_step_of_both(key):
    hw = Hardware(output_noise=OutputNoise(sigma=0.1), device=anajax.devices.presets.pcm())

    class Twice(nnx.Module):
        def __init__(self):
            self.rnn = nn.RNN(Sums(hw))

        def __call__(self, x):
            return nn.over_time(lambda c, x: (c, self.rnn(x)[0]), self.rnn, 0.0, jnp.stack([x, x, x]))[1]

    apply, params, hw_, _ = nn.split(Twice())
    x = jnp.ones((1, 4, 3))
    chip = apply.program(key, params, hw_)
    y = apply(params, hw_, x, key=key, chip=chip)  # [3, 4, 2]
    assert len(np.unique(np.asarray(y[..., 0]))) == 12
    quiet = apply(params, hw_.replace(output_noise=None), x, key=key, chip=chip)
    close(quiet, jnp.broadcast_to(quiet[0, 0], quiet.shape), rtol=1e-6)  # arrays settle once for both


def test_loops_of_ones_own_are_named(key):
    """A scan within a model repeats no noise silently; `over_time` is the one that draws it afresh."""

    class Model(nnx.Module):
        def __init__(self, loop, hardware):
            self.layer, self.loop = nn.Linear(3, 3, hardware=hardware, rngs=nnx.Rngs(0)), loop

        def __call__(self, x):
            return self.loop(self, x)

    def plain(model, x):
        return jax.lax.scan(lambda c, x: (c, model.layer(x)), 0.0, x)[1]

    def fresh(model, x):
        return nn.over_time(lambda c, x: (c, model.layer(x)), model, 0.0, x)[1]

    hw, x = Hardware(output_noise=OutputNoise(sigma=0.1)), jnp.ones((4, 3))
    apply, params, hw, _ = nn.split(Model(plain, hw))
    with pytest.raises(ValueError, match="over_time"):
        apply(params, hw, x, key=key)
    apply, params, hw, _ = nn.split(Model(fresh, hw))
    y = apply(params, hw, x, key=key)
    assert len(np.unique(np.asarray(y[:, 0]))) == 4


def test_what_a_loop_cannot_do_is_refused(key):
    cell = nn.LSTMCell(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="state_axes and broadcast_rngs are not supported"):
        nn.RNN(cell, state_axes={...: None})(sequence(2, 7, 3))
    noisy = nn.RNN(nn.LSTMCell(3, 4, hardware=anajax.presets.standard_aimc(), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="called without a key"):
        noisy(sequence(2, 7, 3))
