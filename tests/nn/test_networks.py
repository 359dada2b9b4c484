"""Whole networks of the experiments: converted, on chips by vmap and one by one, and back."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anajax
from anajax import nn
from anajax.arrays import AbsMax, Hardware
from anajax.devices import presets

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
pytestmark = pytest.mark.slow
close = np.testing.assert_allclose


def network(name, monkeypatch):
    """A plain network in Flax, and inputs."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    sys.modules.pop("_networks", None)
    from _networks import LENGTH, make

    if name == "residual":
        return make(name, 10, 0), jax.random.normal(jax.random.key(0), (4, 28, 28, 1))
    return make(name, 65, 0), jax.random.randint(jax.random.key(0), (4, LENGTH), 0, 65)


@pytest.mark.parametrize("name", ["residual", "LSTM", "transformer", "transformer, products on arrays"])
def test_converted_networks_on_ideal_hardware_and_on_chips(name, monkeypatch):
    plain, x = network(name.partition(",")[0], monkeypatch)
    plain.eval()
    on_arrays = "products" in name
    ideal = nn.convert(plain, Hardware(), products=Hardware() if on_arrays else None)
    exact = plain(x)
    close(ideal(x), exact, rtol=1e-4, atol=1e-5)
    close(nn.to_digital(ideal)(x), exact, rtol=1e-6, atol=1e-6)

    memory = Hardware(device=presets.rram_cmo(), inputs=AbsMax()) if on_arrays else None
    apply, params, hw, rest = nn.split(nn.convert(plain, anajax.presets.standard_aimc(), products=memory))
    params = nn.init_input_ranges(apply, params, [x], rest=rest)

    def one(i):
        made, read = anajax.chips.keys(0, i)
        chip = apply.program(made, params, hw)
        return apply(params, hw, x, key=read, time=3600.0, chip=chip, rest=rest, train=False)

    alone = jax.jit(one)
    many, each = jax.jit(jax.vmap(one))(jnp.arange(3)), jnp.stack([alone(i) for i in range(3)])
    spread = float(each.std(axis=0).mean())
    assert spread > 0.01 * float(exact.std())  # chips differ
    # sums that round otherwise move a converter by a step here and there
    assert float(jnp.sqrt(jnp.mean((many - each) ** 2))) < 0.05 * spread
