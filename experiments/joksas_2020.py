"""Joksas et al., Nat. Commun. 11:4273 (2020): committees of networks on faulty memristors and resistive wires.

    python experiments/joksas_2020.py [--size smoke|short|full] [--out joksas_2020.png] [--data-dir DIR]

Perceptrons 784-25-10 with sigmoids learn MNIST (digits, where MNIST is not prepared) and are mapped in proportion onto
Ta/HfO2 memristors of 1 to 10.48 kOhm, in arrays of 128 x 64 cells with wires of 0.35 (word) and 0.32 (bit) ohm
between cells, solved for exactly. A committee averages the probabilities of five networks, each on chips of its own.
Sorted are rows so that strong inputs enter near the sensed ends.

Only figures of the paper show where memristors were stuck, how far the others spread, and the amplitudes of telegraph
noise. Assumed here: 10.1 % are stuck, anywhere in their window alike; the rest is left out. Biases are digital.
"""

import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _claims import Claims, interval, options
from _figures import save
from _networks import load, reordered
from flax import nnx
from matplotlib.figure import Figure

import anajax
from anajax import arrays, chips, nn, perceptron
from anajax.arrays.mapping import cut
from anajax.devices import Faulty, Ideal, Uniform

R_ON, RATIO = 1e3, 10.48
WINDOW = {"g_max": 1 / R_ON, "g_min": 1 / (RATIO * R_ON)}
MEMBERS = 5
EXCLUDED = 0.001  # of the weights of a layer, the largest ones, are clipped, as published
SIZES = {
    "smoke": {"nets": 5, "steps": 60, "chips": 1, "images": 100},
    "short": {"nets": 15, "steps": 4000, "chips": 4, "images": 2000},
    "full": {"nets": 20, "steps": 10000, "chips": 4, "images": 4000},
}


class Condition(NamedTuple):
    """What arrays are made of, whether rows are reordered, and the published medians (%) of one and of five."""

    flawed: bool
    wires: float | None
    sorted: bool
    published: tuple[float | None, float | None]

    @property
    def hardware(self) -> anajax.Hardware:
        """Return the crossbars; `wires` is the factor on the resistances, `None` for none."""
        device = Ideal(**WINDOW)
        if self.flawed:
            stuck = Uniform(low=WINDOW["g_min"], high=WINDOW["g_max"])
            device = Faulty(device=device, drawn=0.101, values=stuck)
        wires = None
        if self.wires is not None:
            wires = arrays.Wires(word_line=0.35 * self.wires, bit_line=0.32 * self.wires, layout="columns")
        mapping = arrays.Differential(scheme="lowest", scale_by="array")
        return anajax.Hardware(device=device, mapping=mapping, wires=wires, array_shape=(128, 32))


CONDITIONS = {
    "ideal cells": Condition(False, None, False, (95.9, None)),
    "faults": Condition(True, None, False, (None, None)),
    "faults, wires": Condition(True, 1.0, False, (91.0, 95.7)),
    "wires": Condition(False, 1.0, False, (95.6, 96.6)),
    "wires, sorted": Condition(False, 1.0, True, (95.7, 96.8)),
    "wires x 5": Condition(False, 5.0, False, (91.0, 92.6)),
    "wires x 5, sorted": Condition(False, 5.0, True, (None, 94.6)),
}


def networks(hidden: int, nets: int, size: dict, data: Any) -> tuple[Any, list[Any]]:
    """Return `apply`, and the parameters of several networks."""
    trained, apply = [], None
    for seed in range(nets):
        net = perceptron.network((data[0].shape[1], hidden, 10), anajax.Hardware(), seed, nnx.sigmoid)
        apply, params, exact, _ = nn.split(net)
        key = jax.random.key(seed)
        params, _ = nn.train(apply, params, exact, data[0], data[1], size["steps"], key, learning_rate=5e-3)
        trained.append(jax.tree.map(clipped, params))
    return apply, trained


def clipped(value: Any) -> Any:
    """Clip the largest weights of a layer, a share of `EXCLUDED`; biases stay."""
    peak = jnp.quantile(jnp.abs(value), 1 - EXCLUDED)
    return jnp.clip(value, -peak, peak) if value.ndim == 2 else value


@functools.partial(jax.jit, static_argnames="apply")
def probabilities(apply: Any, params: Any, hardware: anajax.Hardware, x: Any, key: Any, index: Any) -> Any:
    """Return those of each chip, `[chips, images, classes]`."""

    def one(i: Any) -> Any:
        made, read = chips.keys(key, i)
        chip = apply.program(made, params, hardware)
        return jax.nn.softmax(apply(params, hardware, x, key=read, chip=chip, train=False))

    return jax.lax.map(one, index)


def accuracies(votes: np.ndarray, members: int, y: Any) -> np.ndarray:
    """Return the accuracies (%) of committees, of `votes [nets, chips, images, classes]`: `[committees, chips]`."""
    count = len(votes) // members
    votes = votes[: count * members].reshape(count, members, *votes.shape[1:]).mean(axis=1)
    return 100 * (votes.argmax(-1) == np.asarray(y)).mean(axis=-1)


def lost(params: Any, hardware: anajax.Hardware, x: Any) -> list[float]:
    """Return the current (%) that the wires of each array of the first layer take, at the mean image."""
    w = params["layers"][0]["kernel"].get_value()
    parts = cut(w / jnp.abs(w).max(), hardware.array_shape)[:, 0]
    mean = cut(x.mean(axis=0)[:, None], hardware.array_shape)[:, 0, :, 0]
    found = []
    for part, v in zip(parts, mean, strict=True):
        g = hardware.mapping.encode(hardware.device, part)  # [2, rows, cols]
        g = jnp.moveaxis(g, 0, 2).reshape(g.shape[1], -1)
        sensed = arrays.solve(g, v, hardware.wires).currents
        found.append(100 * float(1 - sensed.sum() / (v @ g).sum()))
    return found


def study(apply: Any, nets: list[Any], x: Any, y: Any, x_train: Any, size: dict) -> dict[str, dict[str, Any]]:
    """Return, for each condition, the accuracies (%) of single networks and of committees, and the currents lost."""
    found: dict[str, dict[str, Any]] = {}
    for name, condition in CONDITIONS.items():
        hw, votes, taken = condition.hardware, [], []
        for seed, params in enumerate(nets):
            images = x
            if condition.sorted:
                params, order = reordered(params, x_train[:2000], hw.array_shape, jax.nn.sigmoid)
                images = x[:, order]
            n = size["chips"] if condition.flawed else 1
            votes.append(probabilities(apply, params, hw, images, jax.random.key(seed), jnp.arange(n)))
            if condition.wires is not None and not condition.flawed and seed == 0:
                taken = lost(params, hw, images)
        votes = np.stack(votes)
        single, committee = (accuracies(votes, k, y) for k in (1, MEMBERS))
        found[name] = {"single": single.tolist(), "committee": committee.tolist(), "lost": taken}
        cells = f"{name:24s}{figures(single):>20s}{figures(committee):>20s}"
        shown = [f"{p:5.1f}" if p else "    -" for p in condition.published]
        print(cells + "".join(f"{p:>12s}" for p in shown) + span(taken), flush=True)
    return found


def figures(values: np.ndarray) -> str:
    """Return the mean over networks and the ends of its interval, where there are several."""
    each = values.mean(axis=-1)
    if len(each) == 1:
        return f"{each[0]:.2f}"
    mean, half = interval(each)
    return f"{mean:.2f} ± {half:.2f}"


def span(taken: list[float]) -> str:
    return f"    {min(taken):.1f} to {max(taken):.1f} % lost" if taken else ""


def budget(small: tuple[Any, list[Any]], size: dict, data: Any, x: Any, y: Any, claims: Claims) -> None:
    """Compare one network of 50 hidden neurons with two of 25: as many memristors."""
    hw, index, votes = CONDITIONS["faults"].hardware, jnp.arange(size["chips"]), {}
    for hidden, (apply, nets) in ((25, small), (50, networks(50, size["nets"] // 2, size, data))):
        votes[hidden] = np.stack([probabilities(apply, p, hw, x, jax.random.key(k), index) for k, p in enumerate(nets)])
    two, one = accuracies(votes[25], 2, y).mean(axis=-1), accuracies(votes[50], 1, y).mean(axis=-1)
    claims.above("two of 25 beat one of 50, as many memristors (published 0.9)", two[: len(one)] - one)


def judge(found: dict[str, dict[str, Any]], claims: Claims) -> None:
    """Hold the paper's statements against what was found; differences are paired by committee."""
    single = {name: np.asarray(f["single"]).mean(axis=-1) for name, f in found.items()}
    whole = {name: np.asarray(f["committee"]).mean(axis=-1) for name, f in found.items()}
    members = {name: s[: MEMBERS * len(whole[name])].reshape(-1, MEMBERS) for name, s in single.items()}
    flawed = "faults, wires"
    claims.above("faults and wires cost accuracy", single["ideal cells"] - single[flawed])
    for name in (flawed, "wires", "wires x 5"):
        gain = np.repeat(whole[name], MEMBERS) - members[name].ravel()
        claims.above(f"{name}: a committee of five is better than its members", gain)
    back = np.repeat(whole[flawed], MEMBERS) - members["ideal cells"].ravel()
    loss = (members["ideal cells"] - members[flawed]).ravel()
    claims.check(
        "it wins back most of the loss",
        back.mean() > -loss.mean() / 2,
        f"{loss.mean():.2f} % lost, {-back.mean():.2f} left",
    )
    for factor in ("", " x 5"):
        name = f"wires{factor}"
        less = np.mean(found[name]["lost"]) - np.mean(found[f"{name}, sorted"]["lost"])
        text = f"{np.mean(found[name]['lost']):.1f} to {np.mean(found[f'{name}, sorted']['lost']):.1f} %"
        claims.check(f"{name}: sorted rows lose less current", less > 0, text)
    claims.above("wires x 5: sorted rows are better", single["wires x 5, sorted"] - single["wires x 5"])


def draw(found: dict[str, dict[str, Any]], out: Path) -> None:
    """Accuracies of single networks and committees, and the published ones."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    for k, (name, f) in enumerate(found.items()):
        for shift, kind, colour in ((-0.15, "single", "C1"), (0.15, "committee", "C0")):
            values = np.asarray(f[kind]).mean(axis=-1)
            axes.plot(np.full(len(values), k + shift), values, "o", color=colour, alpha=0.5, markersize=4)
            published = CONDITIONS[name].published[kind == "committee"]
            if published is not None:
                axes.plot(k + shift, published, "k_", markersize=16)
    axes.plot([], [], "o", color="C1", label="single")
    axes.plot([], [], "o", color="C0", label="committee of 5")
    axes.plot([], [], "k_", label="published median")
    axes.set_xticks(range(len(found)), list(found), rotation=30, ha="right", fontsize="small")
    axes.set(ylabel="accuracy (%)")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, axis="y")
    save(figure, out, found)


def main() -> None:
    args = options(__doc__, SIZES, "joksas_2020").parse_args()
    size, claims, start = SIZES[args.size], Claims(args.size != "smoke"), time.perf_counter()
    images = load("mnist", args.data_dir)
    x_train, x = (jnp.asarray(a.reshape(len(a), -1)) for a in (images.x_train, images.x_test[: size["images"]]))
    y_train, y = jnp.asarray(images.y_train), jnp.asarray(images.y_test[: size["images"]])
    apply, nets = networks(25, size["nets"], size, (x_train, y_train))
    print(f"accuracy (%) of {size['nets']} networks, 95 % interval; committees of {MEMBERS}; published medians of both")
    found = study(apply, nets, x, y, x_train, size)
    print("  published: wires take 12 to 16 % of the current of a column, 5 to 9 % where rows are sorted\n\nclaims")
    judge(found, claims)
    budget((apply, nets), size, (x_train, y_train), x, y, claims)
    print(f"  {time.perf_counter() - start:.0f} s")
    draw(found, args.out)
    claims.end()


if __name__ == "__main__":
    main()
