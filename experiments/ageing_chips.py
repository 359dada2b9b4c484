"""Hardware-aware training as a page of Flax and optax: train, program a thousand chips, let them age.

    python experiments/ageing_chips.py [--chips 1000] [--out ageing_chips.png]

What `anajax demo` does, written out as a user would: an ordinary training loop with `anajax.nn.Linear` in
the place of `nnx.Linear`, optax unmodified.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from _figures import save
from flax import nnx

import anajax
from anajax import chips, data, nn, plot
from anajax.arrays import DeviceNoise

DAY = 86400.0
TIMES = [20.0, 3600.0, DAY, 30 * DAY, 365 * DAY]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", default="ageing_chips.png")
    args = parser.parse_args()
    digits = data.load("digits")
    x, x_test = (jnp.asarray(a.reshape(len(a), -1)) for a in (digits.x_train, digits.x_test))
    y, y_test = jnp.asarray(digits.y_train), jnp.asarray(digits.y_test)

    hw = anajax.presets.standard_aimc().replace(modifier=DeviceNoise(scale=2.0))
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nn.Linear(64, 64, hardware=hw, rngs=rngs), nnx.relu, nn.Linear(64, 10, hardware=hw, rngs=rngs)
    )
    apply, params, hw, _ = nn.split(model)
    params = nn.init_input_ranges(apply, params, [x])
    tx = optax.adam(optax.cosine_decay_schedule(2e-3, args.steps))
    state = tx.init(params)

    @jax.jit
    def step(params, state, key):
        batch_key, noise_key = jax.random.split(key)
        batch = jax.random.randint(batch_key, (64,), 0, len(x))

        def loss(params):
            logits = apply(params, hw, x[batch], key=noise_key, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y[batch]).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return nn.clip(optax.apply_updates(params, updates), sigmas=2.0), state, value

    for i in range(args.steps):
        params, state, value = step(params, state, jax.random.fold_in(jax.random.key(1), i))
        if i % 250 == 0:
            print(f"step {i:5d}  loss {float(value):.3f}")

    digital = chips.accuracy(apply(params, anajax.Hardware(), x_test), y_test)
    study = chips.evaluate(apply, params, hw, x_test, y_test, chips=args.chips, times=TIMES, progress=True)
    print(f"digital {float(digital):.4f}")
    print(chips.summarise(study, threshold=float(digital) - 0.01).to_dataframe().round(4))
    save(plot.accuracy_over_time({"hardware-aware": study}), args.out)


if __name__ == "__main__":
    main()
