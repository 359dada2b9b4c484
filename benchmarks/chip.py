"""One chip against the plain network: program, age a day, read 10,000 images; MLP 784-256-128-10.

    python benchmarks/chip.py [--data-dir DIR]

Reads MNIST's test images where tensorflow-datasets has them, otherwise uniform random ones (the time does
not depend on the values). Standard AIMC model, with learned input ranges and global drift compensation.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
from network import analog, digital
from timing import compare, show

import anajax
from anajax import data, nn

DAY = 86400.0


def images(data_dir: str | None) -> jax.Array:
    try:
        x = data.load("mnist", data_dir).x_test
    except (FileNotFoundError, ModuleNotFoundError) as error:
        print(f"random images: {error}")
        return jax.random.uniform(jax.random.key(1), (10_000, 784))
    return jnp.asarray(x.reshape(len(x), -1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    x = images(parser.parse_args().data_dir)
    hw = anajax.presets.standard_aimc()
    apply, params, hw, _ = analog(hw)
    params = nn.init_input_ranges(apply, params, [x[:1000]])
    key = jax.random.key(0)

    @jax.jit
    def settled(params, hw, key):
        chip = apply.program(key, params, hw)
        return apply.settle(params, hw, key=key, time=DAY, chip=chip)

    @jax.jit
    def chip(params, hw, x, key):
        return apply(params, hw, x, key=key, chip=settled(params, hw, key))

    read = jax.jit(lambda params, hw, x, key, chip: apply(params, hw, x, key=key, chip=chip))
    plain = jax.jit(digital)
    arrays = settled(params, hw, key)
    without = {
        "converters": hw.replace(dac=None, adc=None),
        "wires": hw.replace(wires=None),
        "output noise": hw.replace(output_noise=None),
    }
    candidates = {
        "plain digital forward": lambda: plain(params, x),
        "one chip: program, one day, read": lambda: chip(params, hw, x, key),
        "  program and settle": lambda: settled(params, hw, key),
        "  read": lambda: read(params, hw, x, key, arrays),
    }
    for name, h in without.items():
        candidates[f"  read without {name}"] = lambda h=h: read(params, h, x, key, arrays)
    no_weight = hw.replace(weight_noise=None)
    candidates["  read without weight noise"] = lambda: read(params, no_weight, x, key, arrays)
    show("one chip, 10,000 images", compare(candidates))
    memory = chip.lower(params, hw, x, key).compile().memory_analysis()
    print(f"  temporary memory of the chip's program: {memory.temp_size_in_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
