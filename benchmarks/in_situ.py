"""Training steps on the crossbar: a network by every optimiser, and 32 chips at once against 32 one by one.

    python benchmarks/in_situ.py

784-256-128-10 with sigmoids, a mini-batch of 64 in one jump; devices with soft bounds, 200 states, spreads of 0.3. The
chips are networks of 64-32-10, a mini-batch of 32.
"""

from __future__ import annotations

import functools
import itertools
import resource
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from timing import compare, show

import anajax
from anajax import arrays, devices, nn, optim

SIZES, BATCH = (784, 256, 128, 10), 64
WINDOW = {"g_min": 50e-6, "g_max": 100e-6}
SPREADS = dict.fromkeys(("x_min_d2d", "x_max_d2d", "dx_d2d", "up_down_d2d", "c2c"), 0.3)


def hardware(residual: bool) -> anajax.Hardware:
    rough = devices.SoftBounds(dx=0.01, reference=devices.Reference(symmetry=True), **SPREADS, **WINDOW)
    pair = devices.ReferencePair(device=rough, reference=devices.SoftBounds(dx=0.01, **WINDOW))
    cell = devices.Residual(slow=pair, fast=pair) if residual else pair
    return anajax.Hardware(device=cell, mapping=arrays.Signed(scale_by="none"))


def network(sizes: tuple[int, ...], hw: anajax.Hardware | None) -> nnx.Module:
    rngs, layers = nnx.Rngs(0), []
    for rows, cols in itertools.pairwise(sizes):
        linear = nnx.Linear(rows, cols, rngs=rngs)
        layers += [linear if hw is None else nn.convert(linear, hw), nnx.sigmoid]
    return nnx.Sequential(*layers[:-1])


def step_of(apply: Callable[..., jax.Array], hw: Any, tx: optax.GradientTransformation) -> Callable[..., Any]:
    """Return one training step: `step(params, state, x, y, key) -> (params, state)`."""

    def step(params: Any, state: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(apply(params, hw, x, key=key), y).mean()

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    return step


def networks() -> None:
    key = jax.random.key(0)
    x, y = jax.random.uniform(key, (BATCH, SIZES[0])), jnp.arange(BATCH) % 10
    single, both = hardware(residual=False), hardware(residual=True)
    rules = {
        "numbers": (None, None),
        "analog_sgd": (single, optim.analog_sgd(single, 0.1, key=key)),
        "mixed_precision": (single, optim.mixed_precision(single, 0.1, key=key)),
        "tiki_taka_v2": (both, optim.tiki_taka_v2(both, 0.1, every=2, key=key)),
        "agad": (both, optim.agad(both, 0.1, every=2, key=key)),
    }
    runs = {}
    for name, (hw, analog) in rules.items():
        model = network(SIZES, hw)
        apply, params, _, _ = nn.split(model if hw is None else nn.in_situ(key, model))
        tx = optax.sgd(0.1) if analog is None else optim.partition(analog, optax.sgd(0.1))
        step, state = jax.jit(step_of(apply, hw, tx)), tx.init(params)
        runs[name] = functools.partial(step, params, state, x, y, key)
    show("a training step of 784-256-128-10, batch 64", compare(runs))


def chips(n: int = 32, steps: int = 10) -> None:
    hw = hardware(residual=False)
    model = network((64, 32, 10), hw)
    apply, _, _, _ = nn.split(nn.in_situ(None, model))
    x, y = jax.random.uniform(jax.random.key(1), (32, 64)), jnp.arange(32) % 10

    def train(key: jax.Array) -> Any:
        made, pulsed, run = jax.random.split(key, 3)
        _, params, _, _ = nn.split(nn.in_situ(made, model))
        tx = optim.partition(optim.analog_sgd(hw, 0.1, key=pulsed), optax.sgd(0.1))
        step = step_of(apply, hw, tx)

        def one(carry: Any, key: jax.Array) -> tuple[Any, None]:
            return step(*carry, x, y, key), None

        return jax.lax.scan(one, (params, tx.init(params)), jax.random.split(run, steps))[0][0]

    keys = jax.random.split(jax.random.key(2), n)
    alone, together = jax.jit(train), jax.jit(jax.vmap(train))
    runs = {
        f"{n} chips one by one": lambda: [alone(k) for k in keys],
        f"{n} chips at once": lambda: together(keys),
    }
    show(f"{steps} steps of 64-32-10, batch 32", compare(runs, 5))


def main() -> None:
    networks()
    chips()
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
