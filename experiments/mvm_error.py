"""The MVM error of the standard AIMC model, and what contributes to it.

    python experiments/mvm_error.py [--out mvm_error.png]

The setting of Rasch et al., Nat. Commun. 14:5282 (2023): W ~ N(0, 0.246) clipped to [-1, 1], 512 x 512, mapped
as it is; x ~ U(-1, 1); error = mean ||y - W x|| / mean ||W x||, 20 s after programming (no drift). The paper
states about 15 %; the reference column is an independent NumPy implementation with the same constants.
"""

import argparse

import jax
import jax.numpy as jnp
from _figures import save
from matplotlib.figure import Figure

import anajax
from anajax import arrays
from anajax.arrays import Differential

REFERENCE = {
    "all of the standard model": 13.9,
    "programming noise": 10.4,
    "1/f read noise at 20 s": 8.2,
    "weight read noise": 3.2,
    "IR drop": 1.6,
    "DAC and ADC": 1.5,
    "output noise": 1.2,
}


def settings() -> dict[str, anajax.Hardware]:
    """Return the standard model, and each of its nonidealities alone."""
    whole = anajax.presets.standard_aimc().replace(
        inputs=None, compensation=None, mapping=Differential(scale_by="none")
    )
    ideal = anajax.devices.presets.ideal()
    bare = anajax.Hardware(mapping=whole.mapping, array_shape=whole.array_shape, device=ideal)
    return {
        "all of the standard model": whole,
        "programming noise": bare.replace(device=whole.device.replace(read_scale=0.0)),
        "1/f read noise at 20 s": bare.replace(device=whole.device.replace(program_scale=0.0)),
        "weight read noise": bare.replace(weight_noise=whole.weight_noise),
        "IR drop": bare.replace(wires=whole.wires),
        "DAC and ADC": bare.replace(dac=whole.dac, adc=whole.adc),
        "output noise": bare.replace(output_noise=whole.output_noise),
    }


@jax.jit
def error(key: jax.Array, hardware: anajax.Hardware, weights: jax.Array, x: jax.Array) -> jax.Array:
    made, read = jax.random.split(key)
    y = arrays.read(read, hardware, arrays.program(made, hardware, weights), weights, x, 0.0)
    ideal = x @ weights
    return jnp.mean(jnp.linalg.norm(y - ideal, axis=1)) / jnp.mean(jnp.linalg.norm(ideal, axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="mvm_error.png")
    parser.add_argument("--chips", type=int, default=10)
    args = parser.parse_args()
    weights_key, x_key, *keys = jax.random.split(jax.random.key(0), 2 + args.chips)
    weights = jnp.clip(0.246 * jax.random.normal(weights_key, (512, 512)), -1, 1)
    x = jax.random.uniform(x_key, (2000, 512), minval=-1, maxval=1)

    print(f"{'MVM error, %':28s} {'here':>14s} {'reference':>10s}")
    here = {}
    for name, hardware in settings().items():
        values = 100 * jnp.stack([error(k, hardware, weights, x) for k in keys])
        here[name] = float(values.mean())
        print(f"{name:28s} {here[name]:7.2f} ± {float(values.std()):4.2f} {REFERENCE[name]:10.1f}")

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    names = list(here)[::-1]
    axes.barh(names, [here[n] for n in names], label="here")
    axes.plot([REFERENCE[n] for n in names], names, "k|", markersize=14, label="reference")
    axes.set(xlabel="MVM error (%)")
    axes.legend(frameon=False)
    save(figure, args.out)


if __name__ == "__main__":
    main()
