"""Where descent by pulses stalls: noisy least squares on devices whose steps shrink towards their bounds.

    python experiments/error_floor.py [--chips 4] [--out error_floor.png]

40 weights per output, 1,200 states, labels with noise. Steps up and down that differ by the state pull
weights to zero as hard as gradients are noisy: plain descent stalls at an excess loss that no time mends. A fast cell
beside the weight averages the noise away.

Wu, Gokmen, Rasch & Chen, NeurIPS 2024 (the floor, and that Tiki-Taka has none); Wu et al., arXiv:2502.06309 (2025),
residual learning.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from _figures import save
from _in_situ import WINDOW
from flax import nnx
from matplotlib.figure import Figure

import anajax
from anajax import devices, nn, optim
from anajax.arrays import Signed

ROWS, COLS, BATCH, NOISE = 40, 10, 8, 0.5
DX = 2 / 1200


def hardware(gamma: float | None = None) -> anajax.Hardware:
    device = devices.SoftBounds(dx=DX, c2c=0.3, **WINDOW)
    pair = devices.ReferencePair(device=device, reference=device)
    cell = pair if gamma is None else devices.Residual(slow=pair, fast=pair, gamma=gamma)
    return anajax.Hardware(device=cell, mapping=Signed(scale_by="none"))


def settings() -> dict[str, tuple[anajax.Hardware, Callable]]:
    """Return name -> hardware, and optimiser of a key."""
    plain, hidden, seen = hardware(), hardware(0.0), hardware(0.1)
    descent = {
        f"descent, rate {rate}": (plain, lambda key, rate=rate: optim.analog_sgd(plain, rate, key=key))
        for rate in (0.1, 0.03, 0.01)
    }
    return descent | {
        "Tiki-Taka, rate 0.01": (hidden, lambda key: optim.tiki_taka(hidden, 0.01, fast_learning_rate=0.01, key=key)),
        "residual learning, rate 0.03": (
            seen,
            lambda key: optim.residual_learning(seen, 0.03, transfer_rate=0.03, key=key),
        ),
    }


def excess_loss(key: jax.Array, hw: anajax.Hardware, make: Callable, steps: int) -> jax.Array:
    """Return the mean squared error of outputs beyond that of their noise, along the run."""
    wanted, made, pulsed, run = jax.random.split(key, 4)
    target = jax.random.uniform(wanted, (ROWS, COLS), minval=-0.5, maxval=0.5)
    layer = nn.Linear(
        ROWS, COLS, use_bias=False, hardware=hw, kernel_init=nnx.initializers.zeros_init(), rngs=nnx.Rngs(0)
    )
    apply, params, _, _ = nn.split(nn.in_situ(made, layer))
    tx = make(pulsed)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        params, state = carry
        noise, draw = jax.random.split(key)
        x = jax.random.normal(draw, (BATCH, ROWS))
        y = x @ target + NOISE * jax.random.normal(noise, (BATCH, COLS))
        grads = jax.grad(lambda p: 0.5 * jnp.mean(jnp.sum((apply(p, hw, x, key=key) - y) ** 2, axis=1)))(params)
        updates, state = tx.update(grads, state, params)
        now = jnp.sum((apply(params, hw, jnp.eye(ROWS), key=key) - target) ** 2) / COLS
        return (optax.apply_updates(params, updates), state), now

    return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(run, steps))[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default="error_floor.png")
    args = parser.parse_args()
    chips, steps = (2, 200) if args.quick else (args.chips, args.steps)
    keys = jax.random.split(jax.random.key(0), chips)

    print(f"{'excess loss':30s} {'here':>10s} {'s':>5s}")
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes, results = figure.subplots(), {}
    for name, (hw, make) in settings().items():
        start = time.perf_counter()
        curve = jax.jit(jax.vmap(lambda key, hw=hw, make=make: excess_loss(key, hw, make, steps)))(keys).mean(axis=0)
        seconds = time.perf_counter() - start
        results[name] = float(curve[-steps // 4 :].mean())
        print(f"{name:30s} {results[name]:10.2e} {seconds:5.0f}", flush=True)
        axes.loglog(1 + jnp.arange(steps), curve, label=name)
    axes.set(xlabel="mini-batch", ylabel="excess loss")
    axes.legend(frameon=False, fontsize="small")
    save(figure, args.out, results)


if __name__ == "__main__":
    main()
