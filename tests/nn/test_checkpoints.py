"""Checkpoints: what is saved comes back to the bit, and what is not theirs is refused."""

import gc
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import anajax
from anajax import devices, nn
from anajax.arrays import Signed


@pytest.fixture
def model():
    return nn.Linear(4, 3, hardware=anajax.presets.standard_aimc(), rngs=nnx.Rngs(0))


def test_parameters_optimisers_and_keys_come_back(model, key, tmp_path):
    _, params, _, _ = nn.split(model)
    everything = {"params": params, "state": optax.adam(1e-3).init(params), "key": key, "step": 7}
    folder = nn.save(everything, tmp_path / "checkpoint")
    back = nn.load(folder, jax.tree.map(lambda a: a if a is key else 0 * a, everything))
    assert jax.tree.structure(back) == jax.tree.structure(everything)
    back["key"], everything["key"] = jax.random.key_data(back["key"]), jax.random.key_data(key)
    jax.tree.map(np.testing.assert_array_equal, back, everything)


def test_cells_that_train_in_situ_come_back(key, tmp_path):
    part = devices.SoftBounds(dx=0.01, c2c=0.3, g_min=50e-6, g_max=100e-6)
    cell = devices.ReferencePair(device=part, reference=part)
    model = nn.Linear(4, 3, hardware=anajax.Hardware(device=cell, mapping=Signed()), rngs=nnx.Rngs(0))
    apply, params, hardware, _ = nn.split(nn.in_situ(key, model))
    back = nn.load(nn.save(params, tmp_path / "cells"), jax.tree.map(jnp.zeros_like, params))
    x = jnp.ones((2, 4))
    found, wanted = (apply(p, hardware, x, key=key) for p in (back, params))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax, of a read that failed
def test_what_is_not_theirs_is_refused(model, tmp_path):
    _, params, _, _ = nn.split(model)
    folder = nn.save(params, tmp_path / "checkpoint")
    with pytest.raises(FileExistsError, match="exists already"):
        nn.save(params, folder)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        nn.load(tmp_path / "nothing", params)
    wider = nn.split(nn.Linear(4, 5, hardware=model.hardware.get_value(), rngs=nnx.Rngs(0)))[1]
    with pytest.raises(ValueError, match=r"something else .*kernel.*float32\[4,3\] there, float32\[4,5\] here"):
        nn.load(folder, wider)
    with pytest.raises(ValueError, match=r"kernel.*float32\[4,3\] there, float16\[4,3\] here"):
        nn.load(folder, jax.tree.map(lambda a: a.astype(jnp.float16), params))
    for part in sorted(folder.glob("**/d/*")):
        part.write_bytes(part.read_bytes()[:10])
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        nn.load(folder, params)
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        nn.load(tmp_path / "other", params)
    gc.collect()


NETWORKS = """
import hashlib, sys
import jax, jax.numpy as jnp, optax
from flax import nnx
import anajax
from anajax import devices, nn, optim
from anajax.arrays import Signed

class Mixed(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(5, 8, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(8, 8, rngs=rngs))
        self.attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.norm, self.out = nnx.LayerNorm(8, rngs=rngs), nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        x = self.rnn(self.embed(x))
        return self.out(self.norm(x + self.attend(x, is_causal=True)))

part = devices.SoftBounds(dx=0.01, c2c=0.3, g_min=50e-6, g_max=100e-6)
cells = anajax.Hardware(device=devices.ReferencePair(device=part, reference=part), mapping=Signed())
key = jax.random.key(int(sys.argv[2]))
x, y = jnp.arange(12).reshape(2, 6) % 5, jnp.arange(12).reshape(2, 6) % 3

apply, params, hw, _ = nn.split(nn.convert(Mixed(nnx.Rngs(key)), anajax.presets.standard_aimc()))
chip = apply.program(key, params, hw)
run, weights, _, _ = nn.split(nn.in_situ(key, nn.convert(nnx.Linear(5, 5, rngs=nnx.Rngs(key)), cells)))
tx = optim.partition(optim.mixed_precision(cells, 0.1, key=key), optax.adam(0.1))
state = tx.init(weights)

def step(weights, state, key):
    def loss(w):
        logits = run(w, cells, jnp.eye(5), key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(5)).mean()

    updates, state = tx.update(jax.grad(loss)(weights), state, weights)
    return optax.apply_updates(weights, updates), state

if sys.argv[3] == "save":
    weights, state = step(weights, state, key)
    nn.save({"params": params, "chip": chip, "weights": weights, "state": state}, sys.argv[1])
else:
    found = nn.load(sys.argv[1], {"params": params, "chip": chip, "weights": weights, "state": state})
    params, chip, weights, state = (found[name] for name in ("params", "chip", "weights", "state"))
read = jax.random.key(9)
outputs = [apply(params, hw, x, key=read, time=3600.0, chip=chip, train=False)]
for k in range(3):  # training goes on
    weights, state = step(weights, state, jax.random.fold_in(read, k))
    outputs.append(run(weights, cells, jnp.eye(5), key=read))
print(*(hashlib.sha256(jnp.asarray(o).tobytes()).hexdigest()[:16] for o in outputs))
"""


@pytest.mark.slow
def test_recurrent_attending_and_training_networks_go_on_in_a_new_process(tmp_path):
    """What another process reads computes the same to the bit, and trains on to the same conductances."""

    def run(seed, what):
        command = [sys.executable, "-c", NETWORKS, str(tmp_path / "kept"), str(seed), what]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.split()[-4:]

    saved = run(1, "save")
    assert len(set(saved)) == 4
    assert run(2, "load") == saved
