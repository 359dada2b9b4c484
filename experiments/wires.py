"""What wires do: current lost against the size of an array, and accuracy with each remedy against resistance.

    python experiments/wires.py [--quick] [--out wires.png]

Left: square arrays of cells uniform from 0.1 to 1 of the largest conductance, all rows driven; the part of the current
that is lost, against the resistance of a segment over the least resistance of a cell, by the exact circuit. Right: a
64-32-10 network on the embedded digits, pairs of cells from 1 to 100 uS on neighbouring bit lines of one array for each
layer, without any other nonideality: programmed as it is; with its inputs ordered so that large ones enter near the
sensed ends; with weights compensated by gradient through the circuit; trained with the wires, by their exact circuit.
Accuracy is the mean over three trainings, ± their standard deviation.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _figures import save
from _networks import reordered
from flax import nnx
from matplotlib.figure import Figure

import anajax
from anajax import arrays, chips, data, nn

CELL = anajax.devices.Ideal(g_min=1e-6, g_max=100e-6)
SIZES = (16, 32, 64, 128, 256)
RATIOS = (1e-5, 1e-4, 1e-3, 1e-2)
RESISTANCES = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # of a segment, over the least resistance of a cell
NETWORKS = ("direct", "reordered", "compensated", "trained with wires")


def losses(sizes: tuple[int, ...]) -> dict[float, list[float]]:
    """Return the part of the current lost, for each ratio and size."""
    found: dict[float, list[float]] = {}
    for ratio in RATIOS:
        for n in sizes:
            g = jax.random.uniform(jax.random.key(n), (n, n), minval=0.1, maxval=1.0) * CELL.g_max
            wires = arrays.Wires(word_line=ratio / CELL.g_max, bit_line=ratio / CELL.g_max)
            currents = arrays.solve(g, jnp.ones(n), wires).currents
            found.setdefault(ratio, []).append(1 - float(currents.sum() / g.sum()))
    return found


def hardware(ratio: float | None) -> anajax.Hardware:
    """Return ideal hardware with wires of that resistance."""
    if ratio is None:
        return anajax.Hardware(device=CELL)
    r = ratio / CELL.g_max
    return anajax.Hardware(device=CELL, wires=arrays.Wires(word_line=r, bit_line=r, layout="columns"))


def network(seed: int) -> tuple[Any, Any]:
    rngs = nnx.Rngs(seed)
    made = anajax.Hardware(device=CELL)
    model = nnx.Sequential(
        nn.Linear(64, 32, hardware=made, rngs=rngs), nnx.relu, nn.Linear(32, 10, hardware=made, rngs=rngs)
    )
    apply, params, _, _ = nn.split(model)
    return apply, params


def accuracies(seed: int, resistances: tuple[float, ...], epochs: int) -> dict[str, list[float]]:
    """Return the accuracy of each network at each resistance."""
    dataset = data.load("digits")
    x, x_test = (jnp.asarray(a.reshape(len(a), -1)) for a in (dataset.x_train, dataset.x_test))
    y, y_test = jnp.asarray(dataset.y_train), jnp.asarray(dataset.y_test)
    apply, start = network(seed)
    steps, key = epochs * len(x) // 64, jax.random.key(seed)
    ideal = hardware(None)
    params, _ = nn.train(apply, start, ideal, x, y, steps, key)
    sorted_params, order = reordered(params, x, None, jax.nn.relu)

    found: dict[str, list[float]] = {name: [] for name in ("ideal", *NETWORKS)}
    for ratio in resistances:
        wired = hardware(ratio)
        trained, _ = nn.train(apply, start, wired, x, y, steps, key)
        candidates = {
            "ideal": (params, ideal, x_test),
            "direct": (params, wired, x_test),
            "reordered": (sorted_params, wired, x_test[:, order]),
            "compensated": (nn.compensate(apply, params, wired), wired, x_test),
            "trained with wires": (trained, wired, x_test),
        }
        for name, (p, at, inputs) in candidates.items():
            found[name].append(100 * float(chips.accuracy(apply(p, at, inputs), y_test)))
    return found


def draw(lost: dict, sizes: tuple[int, ...], resistances: tuple[float, ...], found: dict[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ratio, values in lost.items():
        left.plot(sizes, 100 * np.asarray(values), "o-", label=f"{ratio:g}")
    left.set(xlabel="rows = columns", ylabel="current lost (%)", xscale="log", ylim=(0, 100))
    left.set_xticks(sizes, [str(n) for n in sizes])
    left.minorticks_off()
    left.legend(title="segment / cell", frameon=False)
    for name, values in found.items():
        style = "k:" if name == "ideal" else "o-"
        right.errorbar(resistances, values.mean(0), values.std(0), fmt=style, label=name, capsize=2)
    right.set(xlabel="resistance of a segment / least of a cell", ylabel="accuracy (%)", xscale="log")
    right.legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one training of two epochs, one resistance")
    parser.add_argument("--out", type=Path, default=Path("wires.png"))
    options = parser.parse_args()
    sizes = SIZES[:2] if options.quick else SIZES
    resistances = RESISTANCES[3:4] if options.quick else RESISTANCES
    seeds, epochs = (1, 2) if options.quick else (3, 30)

    lost = losses(sizes)
    print("current lost (%), by segment over least cell resistance\n" + " " * 8 + "".join(f"{n:>8}" for n in sizes))
    for ratio, values in lost.items():
        print(f"{ratio:8g}" + "".join(f"{100 * x:8.1f}" for x in values))
    runs = [accuracies(seed, resistances, epochs) for seed in range(seeds)]
    found = {name: np.asarray([run[name] for run in runs]) for name in runs[0]}
    print("\naccuracy (%)" + " " * 8 + "".join(f"{r:>14g}" for r in resistances))
    for name, values in found.items():
        cells = zip(values.mean(0), values.std(0), strict=True)
        print(f"{name:20s}" + "".join(f"{f'{m:.1f} ± {s:.1f}':>14}" for m, s in cells))
    numbers = {
        "lost": lost,
        "sizes": sizes,
        "resistances": resistances,
        "accuracy": {n: v.tolist() for n, v in found.items()},
    }
    save(draw(lost, sizes, resistances, found), options.out, numbers)


if __name__ == "__main__":
    main()
