"""Mehonic et al., Front. Neurosci. 13:593 (2019): six nonidealities of RRAM, and the cure of one of them by mapping.

    python experiments/mehonic_2019.py [--size smoke|short|full] [--out mehonic_2019.png] [--data-dir DIR]

A perceptron 784-100-100-10 with sigmoids is trained on MNIST in exact numbers (digits, where MNIST is not prepared),
and mapped in two ways. Proportional: a weight is the conductance of one cell of a pair, from that of the high-resistive
state up; the other cell is unformed, and conducts nothing. Mid-point: both cells conduct, the middle of the window plus
and minus. In both the largest 1.5 % of the weights of a layer are clipped, which alone costs a third of a percent.
Printed is the accuracy lost, in percent, means over networks and chips. The paper's figures are not at hand: compared
are its statements.
"""

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _claims import Claims, interval, options
from _figures import save
from _networks import load
from flax import nnx
from matplotlib.figure import Figure

import anajax
from anajax import chips, nn, perceptron
from anajax.arrays import Differential
from anajax.devices import Faulty, LogNormal
from anajax.devices.conduction import Power
from anajax.devices.curves import Polynomial

G_MAX, V_READ = 100e-6, 0.2
UNFORMED = 1e-6  # of g_max
MAPPINGS = ("proportional", "mid-point")
EXCLUDED = 0.015  # of the largest weights are clipped
SIZES = {
    "smoke": {"nets": 2, "steps": 60, "chips": 2, "images": 100},
    "short": {"nets": 5, "steps": 4000, "chips": 5, "images": 1000},
    "full": {"nets": 8, "steps": 6000, "chips": 8, "images": 2000},
}
#: nonideality -> strengths, the mildest first
SWEEPS: dict[str, tuple] = {
    "dynamic range (HRS/LRS)": (10, 5, 3, 2, 1.5),
    "states of a cell": (16, 8, 4, 2),
    "programming nonlinearity": (1, 2, 4, 6),
    "current-voltage nonlinearity": (2.25, 2.5, 3, 4),
    "stuck, unformed (%)": (1, 5, 10, 20),
    "stuck at HRS (%)": (1, 5, 10, 20),
    "stuck at LRS (%)": (1, 5, 10, 20),
    "device to device (sigma)": (0.05, 0.1, 0.25, 0.5, 1.0),
}
RATIO = 5.0  # of the window, where it is not what varies


def states(count: int, bend: float = 0.0) -> np.ndarray:
    """Return the states of a cell within its window, 0 to 1: even, or where equal pulses lead with NeuroSim's label."""
    k = np.arange(count) / (count - 1)
    return k if not bend else (1 - np.exp(-k * bend / 1.25)) / (1 - np.exp(-bend / 1.25))


def held(w: np.ndarray, mapping: str, ratio: float, levels: np.ndarray | None) -> np.ndarray:
    """Return the weights that cells with these states hold, of a layer's weights."""
    peak = np.quantile(np.abs(w), 1 - EXCLUDED)
    w = np.clip(w / peak, -1, 1)
    nearest = (lambda u: u) if levels is None else (lambda u: levels[np.abs(u[..., None] - levels).argmin(-1)])
    if mapping == "mid-point":
        return peak * (nearest((1 + w) / 2) - nearest((1 - w) / 2))
    least = 1 / ratio
    size = least + (1 - least) * nearest(np.clip((np.abs(w) - least) / (1 - least), 0, 1))
    return peak * np.where(np.abs(w) < least / 2, 0.0, np.sign(w) * size)  # below half of the least: no cell is formed


def hardware(
    mapping: str, ratio: float = RATIO, *, sigma: float = 0.0, gamma: float = 2.0, **stuck: Any
) -> anajax.Hardware:
    """Return crossbars of such cells."""
    off = UNFORMED if mapping == "proportional" else 1 / ratio
    device = LogNormal(g_max=G_MAX, g_min=off * G_MAX, spread_on=sigma, spread_off=sigma)
    if stuck:
        device = Faulty(device=device, **stuck)
    scheme = "lowest" if mapping == "proportional" else "midpoint"
    law = {} if gamma == 2.0 else {"conduction": Power(gamma=gamma, v_ref=V_READ), "v_read": V_READ}
    return anajax.Hardware(device=device, mapping=Differential(scheme=scheme, scale_by="array"), **law)


def condition(name: str, strength: float, mapping: str) -> tuple[anajax.Hardware, dict[str, Any]]:
    """Return the hardware of a nonideality at a strength, and what it does to weights before they are mapped."""
    cells: dict[str, Any] = {}
    weights: dict[str, Any] = {"ratio": RATIO, "levels": None}
    if name.startswith("dynamic"):
        cells["ratio"] = weights["ratio"] = strength
    elif name.startswith("states"):
        weights["levels"] = states(int(strength))
    elif name.startswith("programming"):
        weights["levels"] = states(32, strength)
    elif name.startswith("current"):
        cells = {"gamma": strength}
    elif name.startswith("device"):
        cells = {"sigma": strength}
    elif "HRS" in name:
        cells = {"drawn": strength / 100, "values": Polynomial(coefficients=(G_MAX / RATIO,))}
    else:
        cells = {"unformed" if "unformed" in name else "high": strength / 100}
    return hardware(mapping, **cells), weights


def networks(size: dict, data_dir: str | None) -> tuple[Any, list[Any], Any, Any]:
    """Return `apply`, the parameters of several networks, and test images."""
    images = load("mnist", data_dir)
    x, x_test = (jnp.asarray(a.reshape(len(a), -1)) for a in (images.x_train, images.x_test[: size["images"]]))
    y, y_test = jnp.asarray(images.y_train), jnp.asarray(images.y_test[: size["images"]])
    trained = []
    for seed in range(size["nets"]):
        net = perceptron.network((x.shape[1], 100, 100, 10), anajax.Hardware(), seed, nnx.sigmoid)
        apply, params, exact, _ = nn.split(net)
        trained.append(nn.train(apply, params, exact, x, y, size["steps"], jax.random.key(seed), learning_rate=5e-3)[0])
    return apply, trained, x_test, y_test


def lost(apply: Any, params: Any, x: Any, y: Any, size: dict, name: str, strength: float, mapping: str) -> np.ndarray:
    """Return the accuracy (%) of each chip."""
    hw, weights = condition(name, strength, mapping)

    def mapped(value: Any) -> Any:
        return jnp.asarray(held(np.asarray(value), mapping, **weights), jnp.float32) if value.ndim == 2 else value

    few = 100 if "current" in name else len(x)  # every cell and image is computed on its own there
    found = chips.evaluate(apply, jax.tree.map(mapped, params), hw, x[:few], y[:few], chips=size["chips"])
    exact = (jnp.argmax(apply(params, anajax.Hardware(), x[:few]), -1) == y[:few]).mean()
    return 100 * (float(exact) - found["accuracy"].values.ravel())


def judge(loss: dict[str, dict[str, np.ndarray]], claims: Claims) -> None:
    """Hold the paper's statements against `loss[name][mapping]`, `[strengths, networks, chips]`."""
    print("\nclaims")
    ratio, spread = loss["dynamic range (HRS/LRS)"], loss["device to device (sigma)"]
    ends = {m: ratio[m][-1].mean(axis=-1) for m in MAPPINGS}
    claims.above("a window of 1.5 costs more, mapped in proportion", ends["proportional"] - ends["mid-point"])
    more = ends["mid-point"] - ratio["mid-point"][0].mean(axis=-1)
    claims.above("the mid-point mapping cures it: a window of 1.5 costs no 0.25 % more than one of 10", 0.25 - more)
    wide, narrow = (ratio["proportional"][k].mean(axis=-1) for k in (0, 2))
    claims.above("a window of 3 costs less than 1 % more than one of 10, mapped in proportion", 1 - (narrow - wide))
    for name, k in (("states of a cell", 1), ("programming nonlinearity", 2), ("current-voltage nonlinearity", 2)):
        worst = loss[name]["mid-point"][k].mean(axis=-1)
        claims.above(
            f"device to device, 0.5, costs more than {name}, {SWEEPS[name][k]}", spread["mid-point"][3].mean(-1) - worst
        )
    stuck = loss["stuck at HRS (%)"]["mid-point"][1].mean(axis=-1)
    claims.above("device to device, 0.5, costs more than 5 % stuck at HRS", spread["mid-point"][3].mean(-1) - stuck)
    for mapping in MAPPINGS:
        claims.above(f"no mapping cures device to device, 1.0 ({mapping})", spread[mapping][4].mean(axis=-1), 5.0)
    difference = (spread["mid-point"] - spread["proportional"])[3].mean(axis=-1)
    claims.above("device to device is worse where every cell conducts", difference)


def draw(loss: dict[str, dict[str, np.ndarray]], out: Path) -> None:
    """Accuracy lost over the strength of each nonideality."""
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    panels = figure.subplots(2, len(loss) // 2, sharey=True, squeeze=False)
    for axes, (name, found) in zip(panels.flat, loss.items(), strict=True):
        places = np.arange(len(SWEEPS[name]))
        for mapping, style in zip(MAPPINGS, ("o-", "s--"), strict=True):
            line = [interval(v.mean(axis=-1)) for v in found[mapping]]
            means, ends = zip(*line, strict=True)
            axes.errorbar(places, means, ends, fmt=style, capsize=3, label=mapping)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_xticks(places, [f"{s:g}" for s in SWEEPS[name]])
        axes.set_title(name, fontsize="medium")
        axes.grid(alpha=0.3)
    for axes in panels[:, 0]:
        axes.set_ylabel("accuracy lost (%)")
    figure.axes[0].legend(frameon=False)
    save(figure, out, {n: {m: v.tolist() for m, v in f.items()} for n, f in loss.items()})


def main() -> None:
    args = options(__doc__, SIZES, "mehonic_2019").parse_args()
    size, claims = SIZES[args.size], Claims(args.size != "smoke")
    apply, trained, x, y = networks(size, args.data_dir)
    exact = [100 * float((jnp.argmax(apply(p, anajax.Hardware(), x), -1) == y).mean()) for p in trained]
    print(f"{len(trained)} networks, exact: {np.mean(exact):.2f} %\naccuracy lost in %, 95 % interval over networks")
    loss: dict[str, dict[str, np.ndarray]] = {}
    names = list(SWEEPS) if args.size != "smoke" else [n for n in SWEEPS if n.startswith(("dynamic", "device"))]
    for name, mapping in itertools.product(names, MAPPINGS):
        found = [[lost(apply, p, x, y, size, name, s, mapping) for p in trained] for s in SWEEPS[name]]
        loss.setdefault(name, {})[mapping] = np.array(found)
        cells = [f"{s:g}: {m:.2f} ± {h:.2f}" for s, (m, h) in _means(name, np.array(found))]
        print(f"  {name:30s}{mapping:14s}" + "   ".join(f"{c:20s}" for c in cells).rstrip(), flush=True)
    if args.size != "smoke":
        judge(loss, claims)
    draw(loss, args.out)
    claims.end()


def _means(name: str, found: np.ndarray) -> list[tuple[float, tuple[float, float]]]:
    return [(s, interval(v.mean(axis=-1))) for s, v in zip(SWEEPS[name], found, strict=True)]


if __name__ == "__main__":
    main()
