"""The best step of a device and the best rate of its pulses, by gradients through whole trainings.

    python experiments/best_steps.py [--chips 4] [--out best_steps.png]

A small network (64-12-10, digits) is trained in conductances for 150 mini-batches. The loss at the end, plus what
pulses cost, is differentiated through every update by the step of the device and by the learning rate, and both follow
the gradient, in logarithms. Fine steps need many pulses, coarse ones are noisy: the optimum lies between. A scan of the
step checks what the gradient finds.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _figures import save
from _in_situ import WINDOW
from flax import nnx
from matplotlib.figure import Figure

import anajax
from anajax import arrays, devices, nn, optim

PRICE = 2e-4  # of a pulse of a weight, in units of the loss
BATCH = 32


def problem(steps: int, chips: int) -> Any:
    """Return `cost(log dx, log rate) -> (cost, (loss, pulses of a weight))`, averaged over chips."""
    data = anajax.data.load("digits")
    x, y = jnp.asarray(data.x_train).reshape(-1, 64), jnp.asarray(data.y_train)
    x_test, y_test = jnp.asarray(data.x_test).reshape(-1, 64), jnp.asarray(data.y_test)
    base = devices.SoftBounds(dx=0.01, c2c=0.3, x_max_d2d=0.3, x_min_d2d=0.3, one_by_one=False, **WINDOW)
    hardware = anajax.Hardware(device=base, mapping=arrays.Offset(scale_by="none"))
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nn.Linear(64, 12, use_bias=False, hardware=hardware, rngs=rngs),
        nnx.tanh,
        nn.Linear(12, 10, use_bias=False, hardware=hardware, rngs=rngs),
    )
    order = jax.random.randint(jax.random.key(1), (steps, BATCH), 0, len(y))

    def one(key: jax.Array, log_dx: jax.Array, log_rate: jax.Array) -> tuple[jax.Array, Any]:
        made, pulsed, run = jax.random.split(key, 3)
        spec = hardware.replace(**{"device.dx": jnp.exp(log_dx)})
        learner, params, _, _ = nn.split(nn.in_situ(made, model))
        tx = optim.analog_sgd(spec, jnp.exp(log_rate), key=pulsed)

        def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(learner(params, spec, x, key=run), y).mean()

        @jax.checkpoint
        def step(carry: Any, index: jax.Array) -> tuple[Any, None]:
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params, x[index], y[index]), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), order)
        pulses = sum(p.sum() for p in state.pulses.values()) / sum(p.size for p in state.pulses.values())
        final = loss(params, x_test, y_test)
        return final + PRICE * pulses, (final, pulses)

    def cost(design: jax.Array) -> tuple[jax.Array, Any]:
        keys = jax.random.split(jax.random.key(2), chips)
        return jax.tree.map(jnp.mean, jax.vmap(lambda k: one(k, design[0], design[1]))(keys))

    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default="best_steps.png")
    args = parser.parse_args()
    steps, chips, rounds = (10, 2, 2) if args.quick else (150, args.chips, args.rounds)
    cost = problem(steps, chips)
    slope = jax.jit(jax.value_and_grad(cost, has_aux=True))

    design, tx = jnp.log(jnp.array([0.002, 0.05])), optax.adam(0.15)
    state, path, start = tx.init(design), [], time.perf_counter()
    print(f"{'round':>5s} {'step':>8s} {'rate':>7s} {'loss':>7s} {'pulses':>7s} {'cost':>7s}")
    for k in range(rounds + 1):
        (value, (loss, pulses)), gradient = slope(design)
        path.append((float(jnp.exp(design[0])), float(value)))
        if k % 10 == 0 or k == rounds:
            dx, rate = jnp.exp(design)
            print(f"{k:5d} {dx:8.4f} {rate:7.3f} {loss:7.3f} {pulses:7.1f} {value:7.4f}", flush=True)
        if k < rounds:
            updates, state = tx.update(gradient, state)
            design = optax.apply_updates(design, updates)
    print(f"{rounds + 1} gradients through {steps} updates of {chips} chips: {time.perf_counter() - start:.0f} s")

    nearby = np.exp(np.linspace(-1.5, 1.5, 3 if args.quick else 9))
    scan = [float(jax.jit(cost)(design + jnp.log(jnp.array([f, 1.0])))[0]) for f in nearby]
    print("scan of the step about it: " + ", ".join(f"{f:.2f} x {c:.4f}" for f, c in zip(nearby, scan, strict=True)))
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(*zip(*path, strict=True), "o-", markersize=3, label="by gradient, step and rate")
    axes.plot(float(jnp.exp(design[0])) * nearby, scan, "k.--", label="scan of the step, at the rate found")
    axes.set(xlabel="step of the device, of the bound", ylabel="loss at the end + cost of pulses")
    axes.legend(frameon=False, fontsize="small")
    save(figure, args.out)


if __name__ == "__main__":
    main()
