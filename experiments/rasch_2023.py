"""Rasch et al., Nat. Commun. 14:5282 (2023): networks of four kinds, mapped directly and trained aware, over a year.

    python experiments/rasch_2023.py [--size smoke|short|full] [--out rasch_2023.png] [--data-dir DIR]
                                   [--nets NAME ...] [--adc-bound 10]

A perceptron and a residual network classify Fashion-MNIST, an LSTM and a transformer predict the next character of
Tiny Shakespeare. Each is trained in exact numbers, then put on chips of the standard AIMC model as it is (direct: input
ranges from data), and after hardware-aware training (HWA: noise of the device with a ramp, clipped weights, the digital
network as a teacher). Accuracies are normalised: 100 % is that of exact numbers, 0 % that of the commonest class.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _claims import Claims, interval, options
from _figures import save
from _networks import IMAGES, TEXTS, examples, make
from matplotlib.figure import Figure

import anajax
from anajax import chips, nn
from anajax.arrays import DeviceNoise

TIMES = {"1 s": 1.0, "1 h": 3600.0, "1 day": 86400.0, "1 year": 365 * 86400.0}
#: published means over eleven networks: accuracy lost after an hour
PUBLISHED = "published, after an hour, mean of eleven large networks: direct 11.3 % lost, HWA 1.1 %"
NETS = (*IMAGES, *TEXTS)
#: of each network, steps of both trainings, chips, and images for testing (a tenth as many texts)
SIZES = {
    "smoke": {"perceptron": (20, 2, 64)},
    "short": {
        "perceptron": (1000, 16, 1000),
        "residual": (200, 10, 300),
        "LSTM": (500, 8, 500),
        "transformer": (300, 8, 500),
    },
    "full": {
        "perceptron": (4000, 25, 5000),
        "residual": (1200, 20, 1000),
        "LSTM": (3000, 20, 2000),
        "transformer": (2000, 20, 2000),
    },
}


def study(
    name: str, size: tuple[int, int, int], hw: anajax.Hardware, data_dir: str | None = None, seed: int = 0
) -> dict:
    """Train one network both ways, and measure both on the same chips."""
    start, (n, count, test) = time.perf_counter(), size
    data = examples(name, data_dir, test)
    apply, params, hw, rest = nn.split(nn.convert(make(name, data.classes, seed, data.x[0].size), hw))
    exact, keys = anajax.Hardware(), jax.random.split(jax.random.key(seed), 3)
    batch, rate = data.batch, data.rate
    params, rest = nn.train(
        apply, params, exact, data.x, data.y, n, keys[0], batch=batch, learning_rate=rate, rest=rest
    )
    digital = jax.jit(lambda x: apply(params, exact, x, rest=rest, train=False))
    best = float((jnp.argmax(digital(data.x_test), -1) == data.y_test).mean())
    ranged = nn.init_input_ranges(apply, params, [data.x[k * batch : (k + 1) * batch] for k in range(20)], rest=rest)
    aware = hw.replace(modifier=DeviceNoise(time=20.0, scale=2.0))
    shown = min(len(data.x), n * batch)
    teacher = jnp.concatenate([digital(data.x[k : min(k + 500, shown)]) for k in range(0, shown, 500)])
    hwa, hwa_rest = nn.train(
        apply,
        ranged,
        aware,
        data.x[:shown],
        (data.y[:shown], teacher),
        n,
        keys[1],
        batch=batch,
        learning_rate=rate / 2,
        loss=nn.distilled(),
        after=lambda p: nn.clip(p, sigmas=2.5),
        ramp=0.2,
        rest=rest,
    )
    chance = float(np.bincount(np.ravel(data.y_test)).max() / data.y_test.size)
    found = {"digital": 100 * best, "chance": 100 * chance, "parameters": sum(p.size for p in jax.tree.leaves(params))}
    for label, p, r in (("direct", ranged, rest), ("HWA", hwa, hwa_rest)):
        one = chips.evaluate(apply, p, hw, data.x_test, data.y_test, chips=count, times=list(TIMES.values()), rest=r)
        found[label] = (100 * (one["accuracy"].values - chance) / (best - chance)).T.tolist()  # [times, chips]
    print(
        f"{name:12s} {found['parameters']:8,d} parameters   digital {100 * best:5.2f} %  chance {100 * chance:5.2f} %",
        end="",
    )
    print(f"   ({time.perf_counter() - start:.0f} s)")
    for label in ("direct", "HWA"):
        line = [interval(v) for v in found[label]]
        print(f"  {label:8s}" + "".join(f"{t:>8s} {m:6.2f} ± {h:4.2f}" for t, (m, h) in zip(TIMES, line, strict=True)))
    return found


def judge(found: dict[str, dict], claims: Claims) -> None:
    """Hold what the paper says against what was found."""
    print(f"\nclaims ({PUBLISHED})")
    gain = {name: np.asarray(f["HWA"]) - np.asarray(f["direct"]) for name, f in found.items()}
    for name, difference in gain.items():
        claims.above(f"{name}: training aware gains after a year", difference[-1])
    for k, label in ((1, "an hour"), (3, "a year")):
        lost = {way: 100 - np.mean([np.mean(f[way][k]) for f in found.values()]) for way in ("direct", "HWA")}
        text = f"direct {lost['direct']:.2f} %, HWA {lost['HWA']:.2f} % lost"
        claims.check(f"less than half is lost after {label}, mean of networks", lost["HWA"] < lost["direct"] / 2, text)
    for name, f in found.items():
        claims.above(
            f"{name}: a year costs more than an hour, mapped directly", np.subtract(f["direct"][1], f["direct"][3])
        )


def draw(found: dict[str, dict], out: Path) -> None:
    """Normalised accuracy over time, a panel for each network."""
    figure = Figure(figsize=(3.2 * len(found), 3.6), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (name, f) in zip(panels, found.items(), strict=True):
        for label, colour in (("direct", "C1"), ("HWA", "C0")):
            line = [interval(v) for v in f[label]]
            means, ends = zip(*line, strict=True)
            axes.errorbar(list(TIMES.values()), means, ends, fmt="o-", color=colour, capsize=3, label=label)
        axes.axhline(99, color="0.5", linestyle=":", linewidth=1)
        axes.set(xscale="log", title=f"{name}, {f['digital']:.1f} %")
        axes.set_xticks(list(TIMES.values()), list(TIMES), fontsize="small")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("normalised accuracy (%)")
    panels[0].legend(frameon=False)
    save(figure, out, found)


def main() -> None:
    parser = options(__doc__, SIZES, "rasch_2023")
    parser.add_argument("--nets", nargs="*", choices=NETS)
    parser.add_argument("--adc-bound", type=float, default=10.0, help="largest output of an array, in full inputs")
    args = parser.parse_args()
    size, claims = SIZES[args.size], Claims(args.size != "smoke")
    standard = anajax.presets.standard_aimc()
    hw = standard.replace(adc=standard.adc.replace(bound=args.adc_bound), backward="exact")
    found = {name: study(name, size[name], hw, args.data_dir) for name in args.nets or size}
    judge(found, claims)
    draw(found, args.out)
    claims.end()


if __name__ == "__main__":
    main()
