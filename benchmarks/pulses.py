"""Pulses on a 512 x 512 array: nanoseconds for each cell and pulse, of a jump and of pulses one by one.

    python benchmarks/pulses.py

Every cell gets the same number of pulses, with cycle-to-cycle noise and the device's own spreads. The peer's figure:
AIHWKit 1.1 on two cores takes 0.2 to 0.6 us for each weight and example, in which a cell gets about one pulse.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from timing import compare

from anajax import devices
from anajax.devices import presets

SHAPE = (512, 512)
PULSES = (1, 10, 100)


def main() -> None:
    fields = {"dx": 0.002, "dx_d2d": 0.1, "up_down_d2d": 0.01, "x_max_d2d": 0.05, "x_min_d2d": 0.05, "c2c": 0.3}
    specs = {
        "soft bounds, one jump": devices.SoftBounds(**fields, one_by_one=False),
        "soft bounds, one by one": devices.SoftBounds(**fields, one_by_one=True),
        "ecram, one jump": presets.ecram(),
        "rram_es, one by one": presets.rram_es(),
        "pcm_set, one by one": presets.pcm_set(),
        "pcm_3t1c, one jump": presets.pcm_3t1c(),
    }
    key = jax.random.key(0)
    cells = SHAPE[0] * SHAPE[1]
    pulse = jax.jit(lambda spec, key, cells, counts: spec.pulse(key, cells, counts))
    print(f"{cells:,} cells ({jax.devices()[0].device_kind}): ns for each cell and pulse, million of them a second")
    for name, spec in specs.items():
        made = jax.jit(lambda key, spec=spec: spec.fabricate(key, SHAPE))(key)
        runs = {n: lambda n=n, spec=spec, made=made: pulse(spec, key, made, jnp.full(SHAPE, float(n))) for n in PULSES}
        best = compare(runs, rounds=5)
        shown = "   ".join(
            f"{n:4d}: {1e9 * best[n] / cells / n:7.2f} ns {cells * n / best[n] / 1e6:8.0f} M/s" for n in PULSES
        )
        print(f"  {name:26s} {shown}")


if __name__ == "__main__":
    main()
