"""Pulsed updates of one 512 x 512 array by a mini-batch of 128: in the order of examples, and at once.

    python benchmarks/updates.py

Dense: inputs and errors uniform within 1, learning rate 0.1, steps of 0.001, trains of at most 31 pulses.
Sparse: errors a hundredth of that. AIHWKit 1.1 takes 7.8 s and 0.13 s for the two, on two cores.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from timing import compare, show

import anajax
from anajax import arrays, devices

SIZE, BATCH = 512, 128


one_by_one = jax.jit(arrays.sequential_update)
at_once = jax.jit(lambda k, h, c, x, d, r: arrays.aggregate_update(k, h, c, arrays.sums(x, d), r))


def main() -> None:
    spreads = {"dx_d2d": 0.3, "c2c": 0.3, "x_max_d2d": 0.3, "x_min_d2d": 0.3, "up_down_d2d": 0.01}
    window = {"g_min": 50e-6, "g_max": 100e-6}
    key = jax.random.key(0)
    x, d = (jax.random.uniform(k, (BATCH, SIZE), minval=-1.0) for k in jax.random.split(key))
    for name, kind in (("constant steps", devices.ConstantStep), ("soft bounds", devices.SoftBounds)):
        hardware = anajax.Hardware(device=kind(dx=0.001, **spreads, **window), mapping=arrays.Offset())
        cells = hardware.device.fabricate(key, hardware.mapping.cells(SIZE, SIZE))
        for regime, errors in (("dense", d), ("sparse", d / 100)):
            given = (key, hardware, cells, x, errors, jnp.asarray(0.1))
            runs = {
                "in the order of examples": lambda given=given: one_by_one(*given),
                "at once": lambda given=given: at_once(*given),
            }
            show(f"{name}, {regime}", compare(runs, 3))


if __name__ == "__main__":
    main()
