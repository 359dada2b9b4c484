"""Checkpoints: what is saved comes back to the bit, and what is not theirs is refused."""

import gc

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
