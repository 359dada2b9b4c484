"""Training on the crossbar: weights in conductances, what a backward pass tells them, and pulses through optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import anajax
from anajax import arrays, devices, nn, optim
from anajax.arrays import DAC, Examples, Offset, OutputNoise, PulseTrain, Sums

EVEN = devices.ConstantStep(dx=1e-4, g_min=50e-6, g_max=100e-6)  # fine and even steps: nearly a number


def hardware(device=EVEN, **fields):
    return anajax.Hardware(device=device, mapping=Offset(scale_by="none"), **fields)


def mlp(hw, sizes=(6, 5, 3)):
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nn.Linear(*sizes[:2], hardware=hw, rngs=rngs), nnx.tanh, nn.Linear(*sizes[1:], hardware=hw, rngs=rngs)
    )


def batch(key, n=7, rows=6, cols=3):
    k_x, k_y = jax.random.split(key)
    return jax.random.normal(k_x, (n, rows)), jax.random.normal(k_y, (n, cols))


def weights(params, hw):
    """Return name -> the weights that conductances stand for."""
    found = {}
    for path, v in jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda v: isinstance(v, nn.Conductance)):
        if isinstance(v, nn.Conductance):
            own = jax.tree.map(lambda a: a[0], v.get_value())
            found[path[-2].key] = arrays.tile.as_matrix(hw, arrays.stand(None, hw, own))
    return found


def trained(model, hw, tx, key, order="aggregate", steps=1, n=7):
    apply, params, _, _ = nn.split(model)
    x, y = batch(key, n)
    if order == "sequential":
        params = nn.by_example(apply, params, hw, x)
    state = tx.init(params)

    @jax.jit
    def step(params, state, key):
        grads = jax.grad(lambda p: jnp.mean((apply(p, hw, x, key=key) - y) ** 2))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, grads

    for k in range(steps):
        params, state, grads = step(params, state, jax.random.fold_in(key, k))
    return params, state, grads


def both(hw, rate, key=None):
    return optim.partition(optim.analog_sgd(hw, rate, key=key), optax.sgd(rate))


# -- layers ------------------------------------------------------------------------------------------------------------


def test_a_model_computes_the_same_once_it_lives_in_conductances(key):
    hw = hardware()
    model = mlp(hw)
    learning = nn.in_situ(None, model)
    x, _ = batch(key)
    apply, params, _, _ = nn.split(learning)
    np.testing.assert_allclose(apply(params, hw, x, key=key), model(x), rtol=1e-4, atol=1e-5)
    assert isinstance(learning.layers[0].kernel, nn.Conductance)
    assert isinstance(model.layers[0].kernel, nnx.Param)
    np.testing.assert_allclose(weights(params, hw)[0], model.layers[0].kernel[...], atol=1e-5)


@pytest.mark.slow
def test_arrays_scales_and_convolutions(key):
    hw = hardware(array_shape=(7, 3)).replace(mapping=Offset())
    model = nnx.Sequential(
        nn.Conv(2, 4, (3, 3), feature_group_count=2, hardware=hw, rngs=nnx.Rngs(0)),
        lambda x: x.reshape(len(x), -1),
        nn.Linear(4 * 25, 3, hardware=hw, rngs=nnx.Rngs(1)),
    )
    x = jax.random.normal(key, (4, 5, 5, 2))
    apply, params, _, _ = nn.split(nn.in_situ(None, model))
    np.testing.assert_allclose(apply(params, hw, x, key=key), model(x), rtol=1e-3, atol=1e-4)
    plain, given, _, _ = nn.split(model)
    wanted = jax.grad(lambda x: (plain(given, hw, x) ** 2).sum())(x)
    found = jax.grad(lambda x: (apply(params, hw, x, key=key) ** 2).sum())(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-3)
    by_example = nn.by_example(apply, params, hw, x)
    assert by_example["layers"][0]["kernel"].get_value().seen.x.shape == (2, 1, 4 * 25, 9)


def test_a_backward_pass_tells_cells_what_a_crossbar_sees(key):
    """Sums of the outer products, of their magnitudes; or inputs and errors themselves."""
    hw, (x, y) = hardware(), batch(key)
    model = nn.Linear(6, 3, hardware=hw, rngs=nnx.Rngs(0))
    apply, params, _, _ = nn.split(nn.in_situ(None, model))

    def loss(p):
        return 0.5 * jnp.sum((apply(p, hw, x, key=key) - y) ** 2)

    d = apply(params, hw, x, key=key) - y
    seen = jax.grad(loss)(params)["kernel"].get_value().seen
    assert isinstance(seen, Sums)
    np.testing.assert_allclose(seen.gradient[0, 0, 0], x.T @ d, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.magnitude[0, 0, 0], jnp.abs(x).T @ jnp.abs(d), rtol=1e-4)
    seen = jax.grad(loss)(nn.by_example(apply, params, hw, x))["kernel"].get_value().seen
    assert isinstance(seen, Examples)
    np.testing.assert_allclose(seen.x[0, 0], x)
    np.testing.assert_allclose(seen.d[0, 0], d, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ["aggregate", "sequential"])
def test_conductances_that_numbers_changed_are_not_read(order, key):
    """An ordinary optimiser would move states, scales and scores, for free and without a pulse."""
    hw = hardware()
    apply, params, _, _ = nn.split(nn.in_situ(None, mlp(hw)))
    x, y = batch(key)
    if order == "sequential":
        params = nn.by_example(apply, params, hw, x)
    grads = jax.grad(lambda p: jnp.mean((apply(p, hw, x, key=key) - y) ** 2))(params)
    spoiled = optax.apply_updates(params, jax.tree.map(lambda g: -0.1 * g, grads))
    with pytest.raises(ValueError, match=r"changed by numbers, not by pulses: .*anajax\.optim\.partition"):
        apply(spoiled, hw, x, key=key)
    assert np.isnan(jax.jit(lambda p: apply(p, hw, x, key=key))(spoiled)).all()


def test_references_of_a_whole_model_are_shifted_and_its_pulses_found(key):
    """Biases stay; counts are found in whatever holds the optimiser."""
    uneven = devices.SoftBounds(dx=0.01, up_down_d2d=0.3, g_min=50e-6, g_max=100e-6)
    pair = devices.ReferencePair(device=uneven, reference=uneven.replace(up_down_d2d=None))
    hw = anajax.Hardware(device=devices.Residual(slow=pair, fast=pair), mapping=arrays.Signed(scale_by="none"))
    _, params, _, _ = nn.split(nn.in_situ(key, mlp(hw)))
    shifted = optim.zero_shift(key, hw, params)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), params, shifted)
    assert any(jax.tree.leaves(moved))
    variables = jax.tree.leaves(moved, is_leaf=lambda v: isinstance(v, nnx.Variable))
    biases = [v.get_value() for v in variables if not isinstance(v, nn.Conductance)]
    assert biases == [False, False]
    tx = optax.chain(optax.identity(), optim.partition(optim.agad(hw, 0.1, key=key), optax.sgd(0.1)))
    found = optim.pulses(tx.init(shifted))
    assert list(found) == ["layers.0", "layers.2"]
    assert [p.shape for p in found["layers.0"]] == [(1, 1, 1, 6, 5)] * 2


def test_what_cannot_be_trained_is_refused(key):
    with pytest.raises(ValueError, match=r"Hardware\.device of layer '.*' must be one that pulses change; got PCM"):
        nn.in_situ(key, mlp(anajax.presets.standard_aimc()))
    with pytest.raises(ValueError, match=r"Hardware\.compensation of layer '.*' must be None"):
        nn.in_situ(key, mlp(hardware(compensation=arrays.DriftCompensation())))
    with pytest.raises(TypeError, match=r"model must be an nnx\.Module, after the key"):
        nn.in_situ(mlp(hardware()), key)


def test_errors_go_back_through_converters_and_noise_of_their_own(key):
    x, y = batch(key, n=4000)
    slopes, outputs = {}, {}
    for name, back in (("ideal", None), ("coarse", {"dac": DAC(bits=3), "output_noise": OutputNoise(sigma=0.1)})):
        hw = hardware()
        hw = hw if back is None else hw.replace(transposed=hw.replace(inputs=arrays.AbsMax(), **back))
        apply, params, _, _ = nn.split(nn.in_situ(None, nn.Linear(6, 3, hardware=hw, rngs=nnx.Rngs(0))))
        outputs[name] = apply(params, hw, x, key=key)
        slopes[name] = jax.grad(lambda x, a=apply, p=params, h=hw: jnp.sum(a(p, h, x, key=key) * y))(x)
    np.testing.assert_array_equal(outputs["coarse"], outputs["ideal"])
    error = np.asarray(slopes["coarse"] - slopes["ideal"])
    assert 0.1 < error.std() / np.asarray(slopes["ideal"]).std() < 1
    assert abs(error.mean()) < 5 * error.std() / np.sqrt(error.size)


def test_trained_cells_drift_and_are_read_like_any_other(key):
    hw = hardware(EVEN.replace(drift=devices.Drift(nu=0.1)))
    apply, params, _, _ = nn.split(nn.in_situ(None, nn.Linear(6, 3, use_bias=False, hardware=hw, rngs=nnx.Rngs(0))))
    x, _ = batch(key)
    day = apply(params, hw, x, key=key, time=86400.0)
    now = apply(params, hw, x, key=key)
    assert 0.1 < float(jnp.abs(day - now).mean() / jnp.abs(now).mean()) < 2


# -- optimisers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["aggregate", "sequential"])
@pytest.mark.parametrize(
    "mapping",
    [
        Offset(scale_by="none"),
        *(
            pytest.param(m, marks=pytest.mark.slow)
            for m in (Offset(fill=0.5), arrays.Differential(scheme="midpoint", fill=0.5))
        ),
    ],
)
def test_fine_even_steps_are_gradient_descent(order, mapping, key):
    """One step of a whole network, cut into arrays: that of optax.sgd, in weights and in biases."""
    hw = hardware(pulses=PulseTrain(kind="deterministic", length=10_000), array_shape=(4, 2)).replace(mapping=mapping)
    model = mlp(hw)
    params, _, _ = trained(nn.in_situ(None, model), hw, both(hw, 0.05), key, order)
    apply, start, _, _ = nn.split(model)
    x, y = batch(key)
    slope = jax.grad(lambda p: jnp.mean((apply(p, hw, x) - y) ** 2))(start)
    wanted = optax.apply_updates(start, jax.tree.map(lambda g: -0.05 * g, slope))
    for k in (0, 2):
        np.testing.assert_allclose(weights(params, hw)[k], wanted["layers"][k]["kernel"][...], atol=1e-3)
        moved = np.abs(weights(params, hw)[k] - start["layers"][k]["kernel"][...]).max()
        assert moved > 5e-3
        np.testing.assert_allclose(
            params["layers"][k]["bias"][...], wanted["layers"][k]["bias"][...], rtol=1e-3, atol=1e-5
        )


class Recurrent(nnx.Module):
    """An LSTM, unrolled over time: its layers are called once for every step."""

    def __init__(self, hw):
        self.cell = nn.convert(nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0)), hw)

    def __call__(self, x):
        carry = y = (jnp.zeros((len(x), 3)),) * 2
        for t in range(x.shape[1]):
            carry, y = self.cell(carry, x[:, t])
        return y


@pytest.mark.slow
@pytest.mark.parametrize("order", ["aggregate", "sequential"])
def test_every_step_of_a_recurrent_layer_is_a_vector(order, key):
    hw = hardware(EVEN.replace(dx=1e-5), pulses=PulseTrain(kind="deterministic", length=10_000)).replace(
        mapping=Offset(fill=0.5)
    )
    x = jax.random.normal(key, (4, 3, 2))
    plain, start, _, _ = nn.split(Recurrent(hw))
    wanted = jax.grad(lambda p: jnp.sum(plain(p, hw, x)))(start)["cell"]
    apply, params, _, _ = nn.split(nn.in_situ(None, Recurrent(hw)))
    if order == "sequential":
        params = nn.by_example(apply, params, hw, x)
    tx = both(hw, 0.05)
    grads = jax.grad(lambda p: jnp.sum(apply(p, hw, x, key=key)))(params)
    updates, _ = tx.update(grads, tx.init(params), params)
    after = optax.apply_updates(params, updates)
    for name, before in weights(params, hw).items():
        moved = np.asarray(weights(after, hw)[name] - before)
        np.testing.assert_allclose(moved, -0.05 * wanted[name]["kernel"][...], atol=3e-4, err_msg=name)
    assert np.abs(moved).max() > 3e-3
    assert len(weights(params, hw)) == 8


@pytest.mark.parametrize("order", ["aggregate", pytest.param("sequential", marks=pytest.mark.slow)])
def test_training_on_noisy_cells_learns_counts_pulses_and_repeats(order, key):
    rough = devices.SoftBounds(dx=0.005, dx_d2d=0.3, c2c=0.3, g_min=50e-6, g_max=100e-6)
    hw = hardware(rough)
    model = nn.in_situ(key, mlp(hw))
    tx = both(hw, optax.exponential_decay(0.1, 50, 0.5), key=key)
    apply, start, _, _ = nn.split(model)
    x, y = batch(key)

    def loss(params):
        return float(jnp.mean((apply(params, hw, x, key=key) - y) ** 2))

    params, state, _ = trained(model, hw, tx, key, order, steps=60)
    again, _, _ = trained(model, hw, tx, key, order, steps=60)
    assert loss(params) < 0.6 * loss(start)
    pulses = state.inner_states["analog"].inner_state.pulses
    assert set(pulses) == {"layers.0", "layers.2"}
    assert all(float(p.min()) > 0 for p in pulses.values())
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_nothing_to_learn_changes_nothing(key):
    rough = devices.SoftBounds(dx=0.01, c2c=0.3, g_min=50e-6, g_max=100e-6)
    hw = hardware(rough)
    model = nn.in_situ(key, mlp(hw))
    _, start, _, _ = nn.split(model)
    params, state, _ = trained(model, hw, both(hw, 0.0, key=key), key)
    for k in (0, 2):
        np.testing.assert_array_equal(weights(params, hw)[k], weights(start, hw)[k])
    assert all(float(p.sum()) == 0 for p in state.inner_states["analog"].inner_state.pulses.values())


@pytest.mark.slow
def test_chips_train_side_by_side(key):
    """Chips that differ in fabrication only, in one vmapped program: as one by one."""
    rough = devices.SoftBounds(dx=0.01, dx_d2d=0.3, c2c=0.3, g_min=50e-6, g_max=100e-6)
    hw = hardware(rough)
    apply, _, _, _ = nn.split(nn.in_situ(key, mlp(hw)))
    x, y = batch(key)

    def run(key):
        made, pulsed = jax.random.split(key)
        _, params, _, _ = nn.split(nn.in_situ(made, mlp(hw)))
        tx = both(hw, 0.1, key=pulsed)
        state = tx.init(params)

        def step(carry, k):
            params, state = carry
            grads = jax.grad(lambda p: jnp.mean((apply(p, hw, x, key=k) - y) ** 2))(params)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, state), jax.random.split(key, 5))
        return weights(params, hw)[2]

    keys = jax.random.split(key, 3)
    together = jax.jit(jax.vmap(run))(keys)
    np.testing.assert_allclose(together[1], jax.jit(run)(keys[1]), rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(together[0] - together[1]).max()) > 1e-3


def test_a_gradient_over_chips_is_that_of_each(key):
    """`grad` of a sum over `vmap`, inputs shared: what one chip is told must not reach another."""
    hw, (x, y) = hardware(), batch(key)
    apply, params, _, _ = nn.split(nn.in_situ(None, nn.Linear(6, 3, use_bias=False, hardware=hw, rngs=nnx.Rngs(0))))
    fleet = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), params)

    def loss(p):
        return jnp.sum((apply(p, hw, x, key=key) - y) ** 2)

    together = jax.grad(lambda fleet: jax.vmap(loss)(fleet).sum())(fleet)
    for k in range(2):
        alone = jax.grad(loss)(jax.tree.map(lambda a, k=k: a[k], fleet))
        found = jax.tree.map(lambda a, k=k: a[k], together)
        np.testing.assert_allclose(
            found["kernel"].get_value().seen.gradient, alone["kernel"].get_value().seen.gradient, rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_the_final_loss_has_derivatives_by_the_device(key, x64):
    """Through twenty steps of training, against finite differences: asymmetry, step and cycle-to-cycle noise."""
    base = devices.SoftBounds(dx=0.002, up_down=0.2, c2c=0.3, g_min=50e-6, g_max=100e-6, one_by_one=False)
    hw = hardware(base, pulses=PulseTrain(kind="deterministic"))
    model = nn.Linear(6, 3, use_bias=False, hardware=hw, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    apply, params, _, _ = nn.split(nn.in_situ(None, model))
    x, y = (a.astype(jnp.float64) for a in batch(key))

    def final(device):
        spec = hw.replace(device=device)
        tx = optim.analog_sgd(spec, 0.05, key=key)

        def loss(p):
            return jnp.mean((apply(p, spec, x, key=key) - y) ** 2)

        def step(carry, _):
            p, state = carry
            updates, state = tx.update(jax.grad(loss)(p), state, p)
            return (optax.apply_updates(p, updates), state), None

        (p, _), _ = jax.lax.scan(step, (params, tx.init(params)), None, length=20)
        return loss(p)

    slope = jax.jit(jax.grad(final))(base)
    run = jax.jit(final)
    for name in ("dx", "up_down", "c2c"):
        at = getattr(base, name)
        up, down = (run(base.replace(**{name: at * (1 + s * 1e-4)})) for s in (1, -1))
        np.testing.assert_allclose(getattr(slope, name), (up - down) / (2e-4 * at), rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_random_pulses_leave_derivatives_of_many_updates_finite_and_right(key):
    """By the learning rate, over 16 chips, where most cells get less than a pulse: a wide difference agrees."""
    base = devices.SoftBounds(dx=0.01, c2c=0.3, one_by_one=False, g_min=50e-6, g_max=100e-6)
    hw = hardware(base)
    model = nn.Linear(6, 3, use_bias=False, hardware=hw, rngs=nnx.Rngs(0))
    x, y = batch(key, n=20)

    def final(log_rate, key):
        apply, params, _, _ = nn.split(nn.in_situ(None, model))
        tx = optim.analog_sgd(hw, jnp.exp(log_rate), key=key)

        def loss(p):
            return jnp.mean((apply(p, hw, x, key=key) - 0.3 * y) ** 2)

        def step(carry, _):
            p, state = carry
            updates, state = tx.update(jax.grad(loss)(p), state, p)
            return (optax.apply_updates(p, updates), state), None

        return loss(jax.lax.scan(step, (params, tx.init(params)), None, length=40)[0][0])

    keys = jax.random.split(key, 16)
    mean = jax.jit(lambda log_rate: jax.vmap(lambda k: final(log_rate, k))(keys).mean())
    at = jnp.log(0.02)
    found, wanted = jax.grad(mean)(at), (mean(at + 0.3) - mean(at - 0.3)) / 0.6
    assert abs(wanted) > 0.02
    np.testing.assert_allclose(found, wanted, rtol=0.25)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_errors(key):
    hw = hardware()
    model = mlp(hw)
    apply, params, _, _ = nn.split(nn.in_situ(None, model))
    x, _ = batch(key)
    with pytest.raises(TypeError, match=r"\['bias'\].* does not live in conductances"):
        optim.analog_sgd(hw, 0.1, key=key).init(params)
    with pytest.raises(ValueError, match="is noisy and was called without a key"):
        apply(params, hw, x)
    with pytest.raises(ValueError, match="chip must be None where weights live in conductances"):
        apply(params, hw, x, key=key, chip=nn.program(key, model))
    with pytest.raises(ValueError, match="programmed already"):
        nn.program(key, nn.in_situ(None, model))
    with pytest.raises(ValueError, match="has no analog layers"):
        nn.in_situ(key, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"Hardware\.slices must be None"):
        nn.in_situ(key, nn.Linear(2, 2, hardware=hw.replace(slices=arrays.Slices()), rngs=nnx.Rngs(0)))
    seen = nn.by_example(apply, params, hw, x)
    with pytest.raises(ValueError, match="room for 7 examples, and the layer is given 2 vectors"):
        jax.grad(lambda p: apply(p, hw, x[:2], key=key).sum())(seen)
    only = nn.split(nn.in_situ(None, nn.Linear(6, 3, use_bias=False, hardware=hw, rngs=nnx.Rngs(0))))[1]
    tx = optim.analog_sgd(hw, 0.1, key=key)
    with pytest.raises(ValueError, match="analog_sgd needs params"):
        tx.update(only, tx.init(only))
