"""Ambrogio et al., Nature 558:60 (2018): transfer learning on phase-change memories and capacitors, and what it costs.

    python experiments/ambrogio_2018.py [--size smoke|short|full] [--out ambrogio_2018.png] [--data-dir DIR]

The last layer of a network, 2049 x 10 and 2049 x 100 weights, learns in the array on features that stay as they are.
The paper takes Inception-v3's of CIFAR; its weights are not at hand. Features here stand in for them: 2,048 random
projections with rectifiers, of Fashion-MNIST for 10 classes, and of pairs of MNIST digits side by side for 100 (of
small digits for both, where these are not prepared). Cells are those of `unit_cell.py`, which asks the same of networks
that are trained as a whole.

Energy and density are those of `anajax.cost.presets.ambrogio`, inverse-fitted to the published figures, not the paper's
table of components.
"""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from _claims import Claims, interval, options
from _figures import save
from _in_situ import epochs, network
from _networks import load
from matplotlib.figure import Figure
from unit_cell import BATCH, cells, hardware, optimiser

from anajax import cost, data, nn, optim

FEATURES, MISMATCH, RATE = 2048, 0.3, 1.0
NAMES = ("numbers", "2 PCM", "2 PCM + 3T1C", "2 PCM + 3T1C, inverted")
SIZES = {
    "smoke": {"images": 400, "test": 100, "epochs": 1, "seeds": 2, "heads": (10,), "every": 200},
    "short": {"images": 4000, "test": 1000, "epochs": 4, "seeds": 3, "heads": (10, 100), "every": 2000},
    "full": {"images": 8000, "test": 2000, "epochs": 5, "seeds": 3, "heads": (10, 100), "every": 4000},
}
PUBLISHED = {10: ("88.29", "88.27"), 100: ("67.96", "68.01")}  # mixed hardware and software, software; recalled


def pairs(images: Any, labels: Any, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of images side by side, and their classes: the first counts ten times."""
    left, right = np.random.default_rng(seed).integers(len(labels), size=(2, n))
    return np.concatenate([images[left], images[right]], axis=2), (10 * labels[left] + labels[right]).astype(np.int32)


def features(head: int, size: dict, data_dir: str | None) -> data.Dataset:
    """Return rectified random projections of images, for the head."""
    images = load("fashion_mnist" if head == 10 else "mnist", data_dir)
    train, test = (images.x_train, images.y_train), (images.x_test, images.y_test)
    if head == 100:
        train, test = pairs(*train, size["images"], 0), pairs(*test, size["test"], 1)
    x, x_test = train[0][: size["images"]], test[0][: size["test"]]
    x, x_test = (a.reshape(len(a), -1) for a in (x, x_test))
    mean, spread = x.mean(axis=0), x.std()
    projection = np.random.default_rng(2).normal(size=(x.shape[1], FEATURES)).astype(np.float32)
    x, x_test = (
        np.maximum((a - mean) / spread @ projection / np.sqrt(16 * x.shape[1]), 0).astype(np.float32)
        for a in (x, x_test)
    )
    labels = (train[1][: size["images"]], test[1][: size["test"]])
    return data.Dataset("features", x, labels[0], x_test, labels[1], head)


def study(head: int, size: dict, data_dir: str | None) -> dict[str, list[float]]:
    """Return the accuracies (%) of each cell, seed by seed."""
    found: dict[str, list[float]] = {}
    learned, kinds = features(head, size, data_dir), cells(MISMATCH)
    steps = len(learned.y_train) // BATCH * size["epochs"]
    rate = optax.linear_schedule(RATE, 0.1 * RATE, steps)
    for name in NAMES:
        start, hw = time.perf_counter(), None if kinds[name] is None else hardware(kinds[name])
        for seed in range(size["seeds"]):
            apply, params, _, _ = nn.split(network(hw, (FEATURES, head), seed))
            tx = optax.sgd(rate)
            if hw is not None:
                tx = optim.partition(optimiser(hw, rate, size["every"]), tx)
            key = jax.random.key(100 + seed)
            *_, last = epochs(key, apply, params, hw, tx, learned, batch=BATCH, epochs=size["epochs"])
            found.setdefault(name, []).append(last[2])
        mean, half = interval(found[name])
        print(f"  {name:26s}{mean:8.2f} ± {half:.2f}   ({time.perf_counter() - start:.0f} s)", flush=True)
    return found


def costs(claims: Claims) -> None:
    """Print energy and density of training in place, for an array and for the heads."""
    spec, technology = cost.presets.ambrogio()
    print("energy and density of training in place, inverse-fitted to 28,065 GOP/s/W and 3.6 TOP/s/mm2")
    for rows, cols in ((512, 512), (FEATURES + 1, 10), (FEATURES + 1, 100)):
        one = cost.training(spec, technology, (rows, cols))
        print(
            f"  {rows:5d} x {cols:<4d}{1e3 * float(one.tops_per_watt):10,.0f} GOP/s/W{float(one.tops_per_mm2):8.2f}"
            f" TOP/s/mm2{1e9 * float(one.joules):10.2f} nJ and{1e9 * float(one.latency):6.0f} ns an example"
        )
    whole = cost.training(spec, technology, (512, 512))
    close = abs(float(whole.tops_per_watt) / 28.065 - 1) < 1e-3 and abs(float(whole.tops_per_mm2) / 3.6 - 1) < 1e-3
    claims.check("a full array has the published figures", close, "by construction")


def judge(found: dict[int, dict[str, list[float]]], claims: Claims) -> None:
    """Hold the paper's order against what was found; differences are paired by seed."""
    for head, of in found.items():
        right = {name: np.asarray(values) for name, values in of.items()}
        mixed, inverted = right["2 PCM + 3T1C"], right["2 PCM + 3T1C, inverted"]
        claims.above(f"{head} classes: capacitors help, whose polarity is inverted", inverted - right["2 PCM"])
        claims.above(f"{head} classes: inverting it helps capacitors that are uneven", inverted - mixed)
        lost, left = right["numbers"] - right["2 PCM"], right["numbers"] - inverted
        claims.above(f"{head} classes: less than a third is left of what 2 PCM lose to numbers", lost / 3 - left)


def draw(found: dict[int, dict[str, list[float]]], out: Path) -> None:
    """Accuracies of each cell, a panel for each head."""
    figure = Figure(figsize=(4.2 * len(found), 3.4), layout="constrained")
    for axes, (head, of) in zip(np.atleast_1d(figure.subplots(1, len(found))), found.items(), strict=True):
        for k, values in enumerate(of.values()):
            axes.plot(np.full(len(values), k), values, "o", color=f"C{k}")
        axes.set_xticks(range(len(of)), list(of), rotation=20, ha="right", fontsize="small")
        axes.set(ylabel="test accuracy (%)", title=f"{FEATURES + 1} x {head}")
        axes.grid(alpha=0.3, axis="y")
    save(figure, out, {str(head): of for head, of in found.items()})


def main() -> None:
    args = options(__doc__, SIZES, "ambrogio_2018").parse_args()
    size, claims, start, found = SIZES[args.size], Claims(args.size != "smoke"), time.perf_counter(), {}
    for head in size["heads"]:
        hybrid, software = PUBLISHED[head]
        print(f"{FEATURES + 1} x {head}, accuracy (%), 95 % interval over seeds; published, of CIFAR and recalled:")
        print(f"  {hybrid} mixed, {software} in software")
        found[head] = study(head, size, args.data_dir)
    print(f"  {time.perf_counter() - start:.0f} s\n\nclaims")
    judge(found, claims)
    costs(claims)
    draw(found, args.out)
    claims.end()


if __name__ == "__main__":
    main()
