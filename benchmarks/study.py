"""Thousands of chips: the rate of a study beside the plain matrix products of the same network, and its memory.

    python benchmarks/study.py [--chips 10000] [--images 1000] [--devices 2] [--data-dir DIR]

MLP 784-256-128-10, standard AIMC model, one time per chip. The limit is the plain network without any noise, on the
same images, timed in turns with a chunk of chips; the whole study follows.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from chip import DAY, images
from network import analog, digital
from timing import compare

import anajax
from anajax import chips, nn
from anajax.chips import running


def agreement(study: chips.Study, devices: int) -> None:
    """Print how much outputs differ between one device and several, whole and in parts."""
    whole = dataclasses.replace(study, metric=lambda outputs, y: outputs, chips=64)
    one, many = (running.program(whole, running.mesh_of(n)) for n in (1, devices))
    index = jnp.arange(64, dtype=jnp.uint32)
    wanted = np.asarray(one(whole.hardware, index))
    ways = {f"{devices} devices": np.asarray(many(whole.hardware, index))}
    for size in (1, 7):
        parts = [one(whole.hardware, index[k : k + size]) for k in range(0, 64, size)]
        ways[f"chunks of {size}"] = np.concatenate(parts)
    for name, found in ways.items():
        other = found != wanted
        furthest = np.max(np.abs(found - wanted)) / np.abs(wanted).max()
        changed = int(np.sum(found.argmax(-1) != wanted.argmax(-1)))
        print(
            f"  64 chips, {name:14s}{int(other.sum()):4d} of {wanted.size:,} outputs not the same to the bit, within"
            f" {furthest:.1e} of the largest; {changed} of {wanted[..., 0].size:,} predictions differ"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=1, help="of the host, each with its own thread")
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", args.devices)
    x = images(args.data_dir)[: args.images]
    apply, params, hw, _ = analog(anajax.presets.standard_aimc())
    params = nn.init_input_ranges(apply, params, [x])
    y = jnp.argmax(digital(params, x), axis=-1)
    study = chips.Study(apply=apply, params=params, hardware=hw, x=x, y=y, chips=max(args.chips, 1), times=[DAY])

    run = running.program(study, running.mesh_of(None))
    index = jnp.arange(10 * args.devices, dtype=jnp.uint32)
    plain = jax.jit(digital)
    best = compare({"plain": lambda: plain(params, x), "chips": lambda: run(hw, index)}, rounds=20)
    each = best["chips"] / len(index)
    print(f"{args.images:,} images, {args.devices} devices  ({jax.devices()[0].device_kind})")
    print(f"  plain matrix products   {1e3 * best['plain']:8.2f} ms")
    print(f"  one chip of a chunk     {1e3 * each:8.2f} ms   share of the plain products {best['plain'] / each:.3f}")
    if args.devices > 1:
        agreement(study, args.devices)
    if args.chips:
        start = time.perf_counter()
        found = study.run(chunk=200)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"  {args.chips:,} chips          {seconds:8.1f} s    {args.chips / seconds:.1f} chips/s, share"
            f" {best['plain'] * args.chips / seconds:.3f}; peak memory {peak:.2f} GiB;"
            f" agree with the plain network: {float(np.mean(found['accuracy'])):.4f}"
        )


if __name__ == "__main__":
    main()
