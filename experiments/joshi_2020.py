"""Joshi et al., Nat. Commun. 11:2473 (2020): noise on weights while training, and what restores drifting PCM.

    python experiments/joshi_2020.py [--size smoke|short|full] [--out joshi_2020.png] [--data-dir DIR]

A residual network with batch normalisation learns Fashion-MNIST in exact numbers, then goes on with Gaussian noise of
eta_tr times the largest weight of a layer, weights clipped at two standard deviations. Left: the accuracy of each on
pairs of cells whose programming errs by eta, a fraction of the window of one cell. Right: the network that was trained
at the noise of the published chip (0.038), on PCM that drifts: as it is, with global drift compensation (GDC), and with
statistics of batch normalisation measured again besides (AdaBS). Intervals are over chips, of one training each.
"""

import functools
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from _claims import Claims, interval, options
from _figures import save
from _networks import Examples, examples, make
from matplotlib.figure import Figure

import anajax
from anajax import chips, nn
from anajax.arrays import Additive, Differential, DriftCompensation
from anajax.devices import Relaxing, presets
from anajax.devices.curves import Polynomial

G_MAX, PUBLISHED_ETA = 25e-6, 0.038
HOUR, DAY = 3600.0, 86400.0
TIMES = {"25 s": 25.0, "1000 s": 1000.0, "1 h": HOUR, "1 day": DAY, "1 month": 30 * DAY, "1 year": 365 * DAY}
ETAS = (0.0, 0.02, 0.038, 0.06, 0.08, 0.12)
SIZES = {
    "smoke": {"steps": 4, "trained": (0.038,), "etas": (0.0, 0.038, 0.08), "chips": 2, "test": 16, "batches": 1},
    "short": {"steps": 300, "trained": (0.038, 0.08), "etas": ETAS, "chips": 6, "test": 1000, "batches": 5},
    "full": {"steps": 1500, "trained": (0.038, 0.08), "etas": ETAS, "chips": 10, "test": 1000, "batches": 10},
}
PUBLISHED = """  published, ResNet-32 on CIFAR-10, exact 93.87 %: trained with noise 93.7 to 93.9 on PCM, else 91.7
  to 92.8; on the chip 93.75 % after 25 s; after a day at least 92.6 with GDC, 93.5 with AdaBS; without, chance"""


def uneven(eta: float) -> anajax.Hardware:
    """Return pairs of cells whose programming errs by a fraction of their window, whatever their state."""
    device = Relaxing(g_max=G_MAX, times=(0.0,), spread=(Polynomial(coefficients=(eta * G_MAX,)),))
    return anajax.Hardware(device=device, mapping=Differential(scale_by="array"))


def drifting(compensated: bool) -> anajax.Hardware:
    """Return pairs of phase-change memory."""
    compensation = DriftCompensation() if compensated else None
    mapping = Differential(scale_by="array")
    return anajax.Hardware(device=presets.pcm(), mapping=mapping, compensation=compensation)


def trained(data: Examples, size: dict) -> tuple[Any, dict[str, tuple[Any, Any]], float]:
    """Return `apply`, parameters and statistics of each network by name, and the accuracy in exact numbers."""
    net = make("residual", data.classes, 0, data.x[0].size)
    apply, params, exact, rest = nn.split(nn.convert(net, anajax.Hardware()))
    options = {"batch": data.batch, "rest": rest}
    start = nn.train(
        apply, params, exact, data.x, data.y, size["steps"], jax.random.key(0), learning_rate=data.rate, **options
    )
    nets = {"exact": start}
    for k, eta in enumerate(size["trained"]):
        noisy = uneven(0.0).replace(modifier=Additive(sigma=eta))
        nets[f"{eta:g}"] = nn.train(
            apply,
            start[0],
            noisy,
            data.x,
            data.y,
            size["steps"],
            jax.random.key(1 + k),
            learning_rate=data.rate / 2,
            after=lambda p: nn.clip(p, sigmas=2.0),
            ramp=0.2,
            batch=data.batch,
            rest=start[1],
        )
    outputs = apply(start[0], exact, data.x_test, rest=start[1], train=False)
    return apply, nets, 100 * float(chips.accuracy(outputs, data.y_test))


def against_noise(apply: Any, nets: dict, data: Examples, size: dict) -> dict[str, list[list[float]]]:
    """Return the accuracies (%) of all chips, of each network at each noise."""
    found: dict[str, list[list[float]]] = {}
    for name, (params, rest) in nets.items():
        for eta in size["etas"]:
            one = chips.evaluate(apply, params, uneven(eta), data.x_test, data.y_test, chips=size["chips"], rest=rest)
            found.setdefault(name, []).append((100 * one["accuracy"].values.ravel()).tolist())
    return found


def over_time(apply: Any, net: tuple[Any, Any], data: Examples, size: dict) -> dict[str, list[list[float]]]:
    """Return the accuracies (%) of all chips at each time, as they are, with GDC, and with AdaBS besides."""
    params, rest = net
    batches = [data.x[k * data.batch * 4 : (k + 1) * data.batch * 4] for k in range(size["batches"])]

    @functools.partial(jax.jit, static_argnames="fresh")
    def accuracy(hardware: Any, i: Any, seconds: Any, fresh: bool) -> Any:
        made, read = chips.keys(0, i)
        at = {"chip": apply.program(made, params, hardware), "time": seconds}
        keys, used = jax.random.split(read), rest
        if fresh:
            used = nn.recalibrate(apply, params, hardware, batches, key=keys[0], rest=rest, **at)
        y = apply(params, hardware, data.x_test, key=keys[1], rest=used, train=False, **at)
        return 100 * chips.accuracy(y, data.y_test)

    found: dict[str, list[list[float]]] = {}
    for name, gdc, fresh in (("as it is", False, False), ("GDC", True, False), ("GDC and AdaBS", True, True)):
        for seconds in TIMES.values():
            all_chips = [float(accuracy(drifting(gdc), i, seconds, fresh)) for i in range(size["chips"])]
            found.setdefault(name, []).append(all_chips)
    return found


def table(label: str, columns: Any, found: dict[str, list[list[float]]]) -> None:
    print(f"  {label:26s}" + "".join(f"{c:>15}" for c in columns))
    for name, values in found.items():
        cells = [interval(v) for v in values]
        print(f"  {name:26s}" + "".join(f"{f'{m:.2f} ± {h:.2f}':>15}" for m, h in cells))


def judge(noise: dict, aged: dict, exact: float, size: dict, claims: Claims) -> None:
    """Hold the paper's statements against what was found."""
    print("\nclaims")
    for name in noise:
        if name != "exact":
            gain = np.subtract(noise[name][-1], noise["exact"][-1])
            claims.above(f"trained at {name}, better than in exact numbers where cells err by {size['etas'][-1]}", gain)
    at = size["etas"].index(PUBLISHED_ETA)
    kept, lost = exact - np.asarray(noise["0.038"][at]), exact - np.asarray(noise["exact"][at])
    claims.above("trained at 0.038, less than half of the loss there is left", lost / 2 - kept)
    day, year = list(TIMES).index("1 day"), list(TIMES).index("1 year")
    claims.above("GDC gains after a day", np.subtract(aged["GDC"][day], aged["as it is"][day]))
    for k, label in ((day, "a day"), (year, "a year")):
        gain = np.subtract(aged["GDC and AdaBS"][k], aged["GDC"][k])
        claims.above(f"AdaBS gains besides after {label}", gain)
    means = {name: np.mean(values[day]) for name, values in aged.items()}
    text = f"{means['as it is']:.1f} %, exact {exact:.1f} %"
    claims.check("without either the network fails within a day", means["as it is"] < exact / 2, text)


def draw(noise: dict, aged: dict, etas: tuple, exact: float, out: Path) -> None:
    """Accuracy against noise, and over time."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, found, x in ((left, noise, etas), (right, aged, list(TIMES.values()))):
        for name, values in found.items():
            means, ends = zip(*(interval(v) for v in values), strict=True)
            label = name if axes is right else ("exact numbers" if name == "exact" else f"noise {name}")
            axes.errorbar(x, means, ends, fmt="o-", capsize=3, label=label)
        axes.axhline(exact, color="0.5", linestyle=":", linewidth=1)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    left.set(xlabel="programming error, of the window of a cell", ylabel="accuracy (%)", title="trained with")
    right.set(xscale="log", title="on PCM that drifts")
    right.set_xticks(list(TIMES.values()), list(TIMES), fontsize="small", rotation=30)
    right.minorticks_off()
    save(figure, out, {"noise": noise, "time": aged, "exact": exact})


def main() -> None:
    args = options(__doc__, SIZES, "joshi_2020").parse_args()
    size, claims, start = SIZES[args.size], Claims(args.size != "smoke"), time.perf_counter()
    data = examples("residual", args.data_dir, size["test"])
    apply, nets, exact = trained(data, size)
    print(f"accuracy in exact numbers {exact:.2f} %; 95 % intervals over {size['chips']} chips")
    noise = against_noise(apply, nets, data, size)
    table("trained at, tested at", size["etas"], noise)
    aged = over_time(apply, nets[f"{PUBLISHED_ETA:g}"], data, size)
    table("trained at 0.038, after", TIMES, aged)
    print(f"{PUBLISHED}\n  {time.perf_counter() - start:.0f} s")
    judge(noise, aged, exact, size, claims)
    draw(noise, aged, size["etas"], exact, args.out)
    claims.end()


if __name__ == "__main__":
    main()
