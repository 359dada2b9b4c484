"""One hardware-aware training step against the plain step: MLP 784-256-128-10, batch 64, Adam.

python benchmarks/training.py
"""

from __future__ import annotations

import jax
import optax
from network import analog, digital
from timing import compare, show

import anajax
from anajax.arrays import Additive, DeviceNoise, FixedRange, PolynomialNoise

STEPS = 50


def main() -> None:
    hw = anajax.presets.standard_aimc()
    apply, params, hw, _ = analog(hw)
    x = jax.random.uniform(jax.random.key(1), (STEPS, 64, 784))
    y = jax.random.randint(jax.random.key(2), (STEPS, 64), 0, 10)
    tx = optax.adam(1e-3)

    def steps(forward):
        def step(carry, batch):
            params, state, hw = carry
            key, x, y = batch

            def loss(params):
                logits = forward(params, hw, x, key)
                return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state, hw), None

        run = jax.jit(
            lambda params, hw, key: jax.lax.scan(
                step, (params, tx.init(params), hw), (jax.random.split(key, STEPS), x, y)
            )[0][0]
        )
        return lambda hw: lambda: run(params, hw, jax.random.key(0))

    plain = steps(lambda params, hw, x, key: digital(params, x))
    aware = steps(lambda p, h, x, k: apply(p, h, x, key=k, train=True))
    noisy = anajax.Hardware(inputs=FixedRange(), backward="ideal")
    candidates = {
        "plain step": plain(hw),
        "weight noise alone, per example": aware(noisy.replace(modifier=Additive(sigma=0.03, per="example"))),
        "weight noise alone, per batch": aware(noisy.replace(modifier=Additive(sigma=0.03, per="step"))),
        "standard model, no modifier": aware(hw),
        "standard model, weight noise per example": aware(hw.replace(modifier=PolynomialNoise(per="example"))),
        "standard model, weight noise per batch": aware(hw.replace(modifier=PolynomialNoise(per="step"))),
        "standard model, device noise per example": aware(hw.replace(modifier=DeviceNoise(per="example"))),
        "standard model, device noise per batch": aware(hw.replace(modifier=DeviceNoise(per="step"))),
    }
    show(f"{STEPS} training steps, batch 64", compare(candidates, rounds=8))


if __name__ == "__main__":
    main()
