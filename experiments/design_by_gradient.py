"""Design by gradient: resolution, range and noise of the periphery for the least energy at a year of age.

    python experiments/design_by_gradient.py [--data mnist] [--steps 80] [--out design_by_gradient.png]

Minimised is the cross-entropy of chips a year old plus a weight times the energy of an inference, over the bits of DAC
and ADC, the range of the ADC and the noise of the amplifiers. Energies, besides those of `anajax.cost`: an input of b
bits is a train of 2**b clock cycles, each of `DAC_CYCLE`; an amplifier's thermal noise costs energy as 1 / sigma**2
(kT / C), `AMPLIFIER` at sigma = 0.04.

The rival is the best of a grid of points that fill the bounds evenly (Sobol), at the same cost: as many chips are
evaluated, where a step of the gradient counts three times, for its backward pass. Both choices, and the start, are then
judged by chips that neither has seen.
"""

import argparse
import time
from typing import Any

import jax
import numpy as np
import optax
from _aware import network
from _figures import save
from matplotlib.figure import Figure

import anajax
from anajax import chips, cost
from anajax._record import get

YEAR = 365 * 86400.0
DAC_CYCLE, AMPLIFIER = 1e-15, 1e-12  # J
START = anajax.presets.standard_aimc().replace(backward="exact", **{"dac.bits": 7.0, "adc.bits": 7.0})
BOUNDS = {"dac.bits": (2, 10), "adc.bits": (2, 10), "adc.bound": (2, 40), "output_noise.sigma": (0.005, 1.0)}
GRADIENT = 3  # evaluations that a value and a gradient cost


def energy(apply: Any, params: Any, hardware: anajax.Hardware, x: jax.Array) -> jax.Array:
    """Return joules for an inference."""
    sigma = hardware.output_noise.sigma
    technology = cost.Technology(
        dac=DAC_CYCLE * 2**hardware.dac.bits, integrator=AMPLIFIER * (0.04 / sigma) ** 2, adc_step=20e-15
    )
    layers = cost.inference(apply, params, hardware, technology, x[:1])
    return cost.combined(list(layers.values())).joules


def objective_of(job: Any, weight: float, n: int) -> Any:
    """Return `objective(hardware, key)` of `n` chips of the key."""
    apply, params, x, y = job

    def one(hardware: anajax.Hardware, key: jax.Array) -> jax.Array:
        made, read = jax.random.split(key)
        chip = apply.program(made, params, hardware)
        logits = apply(params, hardware, x, key=read, time=YEAR, chip=chip)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def objective(hardware: anajax.Hardware, key: jax.Array) -> jax.Array:
        losses = jax.lax.map(lambda k: one(hardware, k), jax.random.split(key, n))
        return losses.mean() + weight * 1e9 * energy(apply, params, hardware, x)

    return objective


def best_drawn(objective: Any, points: int) -> dict[str, float]:
    """Return the best of so many points that fill the bounds evenly, in logarithms."""
    design = chips.sobol(BOUNDS, points, log=True)

    @jax.jit
    def value(point: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        return objective(START.replace(**point), key)

    found = [float(value(design.point(k), jax.random.key(1))) for k in range(points)]
    return design.point(int(np.argmin(found)))


def judged(job: Any, weight: float, settings: dict[str, float], n: int) -> dict[str, float]:
    """Return what `n` new chips of a design come to."""
    apply, params, x, y = job
    hardware = START.replace(**settings)
    study = chips.evaluate(apply, params, hardware, x, y, chips=n, times=[YEAR], seed=99)
    joules = float(energy(apply, params, hardware, x))
    value = jax.jit(objective_of(job, weight, n))(hardware, jax.random.key(99))
    return settings | {
        "objective": float(value),
        "energy (nJ)": 1e9 * joules,
        "accuracy (%)": 100 * float(study["accuracy"].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", choices=("digits", "mnist", "fashion_mnist"))
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--chips", type=int, default=4)
    parser.add_argument("--weight", type=float, default=0.2, help="nat for each nJ")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--judges", type=int, default=400)
    parser.add_argument("--out", default="design_by_gradient.png")
    args = parser.parse_args()
    job = network(args.data, START.replace(backward="ideal"), args.epochs, 360)
    objective = objective_of(job, args.weight, args.chips)
    clock = time.perf_counter()
    found = chips.minimise(objective, START, BOUNDS, steps=args.steps, progress=True)
    spent = {"gradient": time.perf_counter() - clock}
    clock = time.perf_counter()
    points = GRADIENT * args.steps
    drawn = best_drawn(objective, points)
    spent["drawn points"] = time.perf_counter() - clock
    designs = {
        "start": {path: float(get(START, path)) for path in BOUNDS},
        f"best of {points} points": drawn,
        f"{args.steps} steps of gradient": {p: float(found.path[p][-args.steps // 4 :].mean()) for p in BOUNDS},
    }
    rows = {name: judged(job, args.weight, design, args.judges) for name, design in designs.items()}
    print(f"seconds: {', '.join(f'{name} {s:.0f}' for name, s in spent.items())}; judged by {args.judges} new chips")
    print("".join(f"{name:>20s}" for name in ("", *next(iter(rows.values())))))
    for name, row in rows.items():
        print(f"{name:>20s}" + "".join(f"{value:20.4f}" for value in row.values()))
    picture = Figure(figsize=(11, 4), layout="constrained")
    left, right = picture.subplots(1, 2)
    for path in BOUNDS:
        left.plot(found.path["step"], found.path[path] / float(found.path[path][0]), label=path)
    left.set(xlabel="step", ylabel="field, of its start", yscale="log", title="the design along the gradient")
    left.legend(loc="upper right")
    for name, row in rows.items():
        right.plot(row["energy (nJ)"], row["accuracy (%)"], "o", label=f"{name}: objective {row['objective']:.3f}")
    right.set(xlabel="energy of an inference (nJ)", ylabel="accuracy at a year (%)", xscale="log", title="new chips")
    right.legend()
    save(picture, args.out, rows)


if __name__ == "__main__":
    main()
