"""Joksas et al., Adv. Sci. 9:2105784 (2022): training that knows of nonlinear and uneven cells, and the power it saves.

    python experiments/joksas_2022.py [--size smoke|short|full] [--out joksas_2022.png] [--data-dir DIR]

A perceptron 784-25-10 with sigmoids learns MNIST (digits, where MNIST is not prepared) for one kind of cells, and is
tested on all: ideal ones; SiOx of high resistance, whose current-voltage curves are strongly nonlinear (Poole-Frenkel);
cells whose resistances spread log-normally by 0.25; and cells with both. Published are the curves with the scatter that
cells had about them, whose size is in a figure only: to be compared with the last kind. The power of the arrays is that
of their cells, at inputs up to 0.5 V.
"""

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
from anajax.arrays import DeviceNoise, Differential
from anajax.devices import conduction, presets

V_READ, T_READ = 0.5, 50e-9
SIZES = {
    "smoke": {"nets": 2, "steps": 60, "aware": 3, "chips": 2, "images": 20},
    "short": {"nets": 3, "steps": 4000, "aware": 300, "chips": 3, "images": 300},
    "full": {"nets": 4, "steps": 8000, "aware": 600, "chips": 4, "images": 800},
}
#: published median test errors (%), trained for the row, tested on the column
PUBLISHED = {
    "ideal": (3.9, None, 26.5, 41.6),
    "nonlinear": (None, None, None, None),
    "spread": (4.9, None, 7.2, 10.0),
    "both": (5.6, None, 7.3, 9.1),
}


def kinds() -> dict[str, anajax.Hardware]:
    """Return arrays of each kind of cells, a window of 5 from 381 kOhm."""
    mapping, shape = Differential(scheme="lowest", scale_by="array"), None
    window = {"g_max": 1 / 381e3, "g_min": 1 / 1.905e6}
    ideal = anajax.Hardware(device=presets.ideal(**window), mapping=mapping, array_shape=shape)
    curves = {"conduction": conduction.siox_high_resistance(), "v_read": V_READ}
    spread = {"device": presets.rram_lognormal(), "modifier": DeviceNoise()}
    return {
        "ideal": ideal,
        "nonlinear": ideal.replace(**curves),
        "spread": ideal.replace(**spread),
        "both": ideal.replace(**curves, **spread),
    }


def power(apply: Any, params: Any, hardware: anajax.Hardware, x: Any) -> float:
    """Return the mean power [W] of all cells while an image is read."""
    seen: dict[str, list] = {}
    model = apply.merge(params, hardware, inputs=seen, key=jax.random.key(0), train=False)
    model(x)
    law = conduction.Ohmic() if hardware.conduction is None else hardware.conduction
    total = 0.0
    for name, layer in nn.layers(model):
        w = layer.matrices()[0]
        g = hardware.mapping.encode(hardware.device, w / jnp.abs(w).max())  # [cells, rows, cols]
        v = V_READ * seen[name][0].reshape(-1, w.shape[0])

        def read(v: Any, g: Any = g) -> Any:
            return jnp.sum(law.current(g, v[:, None], {}) * v[:, None])

        total += float(jax.lax.map(read, v).mean())
    return total


def study(x: Any, y: Any, x_test: Any, y_test: Any, size: dict) -> tuple[dict, dict, float]:
    """Return test errors (%) by `[trained for][tested on]`, powers (W), and errors in exact numbers."""
    specs, errors, powers, exact = kinds(), {}, {}, []
    for seed in range(size["nets"]):
        net = perceptron.network((x.shape[1], 25, 10), specs["ideal"], seed, nnx.sigmoid)
        apply, start, _, _ = nn.split(net)
        keys = jax.random.split(jax.random.key(seed), 5)
        start, _ = nn.train(apply, start, anajax.Hardware(), x, y, size["steps"], keys[0], learning_rate=1e-2)
        exact.append(100 * float((jnp.argmax(apply(start, anajax.Hardware(), x_test), -1) != y_test).mean()))
        made = {"ideal": start}
        for k, (trained, spec) in enumerate(specs.items()):
            if trained != "ideal":  # curves are computed cell by cell: few steps, for both after those for the spread
                steps = size["aware"] * (10 if trained == "spread" else 1)
                first = made["spread"] if trained == "both" else start
                made[trained], _ = nn.train(apply, first, spec, x, y, steps, keys[1 + k], learning_rate=3e-3)
            params = made[trained]
            for tested, other in specs.items():
                found = chips.evaluate(apply, params, other, x_test, y_test, chips=size["chips"])
                errors.setdefault(trained, {}).setdefault(tested, []).append(
                    100 * (1 - found["accuracy"].values.ravel())
                )
            powers.setdefault(trained, []).append(power(apply, params, specs["nonlinear"], x_test[:20]))
    return {a: {b: np.array(v) for b, v in row.items()} for a, row in errors.items()}, powers, float(np.mean(exact))


def judge(errors: dict, claims: Claims) -> None:
    """Hold the paper's statements against what was found; differences are paired by network."""
    print("\nclaims")
    mean = {a: {b: v.mean(axis=-1) for b, v in row.items()} for a, row in errors.items()}
    for kind in ("spread", "both"):
        claims.above(
            f"{kind}: spoils a network that was trained for ideal cells", mean["ideal"][kind] - mean["ideal"]["ideal"]
        )
        claims.above(f"{kind}: training for such cells gains there", mean["ideal"][kind] - mean[kind][kind])
    kept = mean["both"]["both"] - mean["ideal"]["ideal"]
    claims.above("trained for both, less than 8 % more errors than ideal on ideal", 8 - kept)
    alone, whole = (mean["ideal"][kind] - mean["ideal"]["ideal"] for kind in ("nonlinear", "both"))
    claims.above("curves that are alike in all cells cost less than a quarter of what both cost", whole / 4 - alone)


def draw(errors: dict, out: Path, numbers: Any) -> None:
    """The matrix of errors, trained for by tested on."""
    names = list(errors)
    table = np.array([[errors[a][b].mean() for b in names] for a in names])
    figure = Figure(figsize=(6, 4.8), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(table, cmap="magma_r", vmin=0)
    for (a, b), value in np.ndenumerate(table):
        published = PUBLISHED[names[a]][b]
        colour = "white" if value > table.max() / 2 else "black"
        shown = f"{value:.1f}" if published is None else f"{value:.1f}\n({published})"
        axes.text(b, a, shown, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="tested on", ylabel="trained for", title="test error (%), and published")
    figure.colorbar(picture)
    save(figure, out, numbers)


def main() -> None:
    args = options(__doc__, SIZES, "joksas_2022").parse_args()
    size, claims = SIZES[args.size], Claims(args.size != "smoke")
    images = load("mnist", args.data_dir)
    n = size["images"]
    x, x_test = (jnp.asarray(a.reshape(len(a), -1)) for a in (images.x_train, images.x_test[:n]))
    errors, powers, exact = study(x, jnp.asarray(images.y_train), x_test, jnp.asarray(images.y_test[:n]), size)
    print(f"test errors in %, 95 % interval over networks (published median); exact numbers {exact:.2f}")
    print(f"{'trained for':14s}" + "".join(f"{b:>25s}" for b in errors))
    for a, row in errors.items():
        cells = [(*interval(v.mean(axis=-1)), p) for v, p in zip(row.values(), PUBLISHED[a], strict=True)]
        known = ["" if p is None else f"({p:.1f})" for *_, p in cells]
        print(f"{a:14s}" + "".join(f"{m:11.2f} ± {h:4.2f} {p:>6s}" for (m, h, _), p in zip(cells, known, strict=True)))
    synapses = (x.shape[1] + 1) * 25 + 26 * 10
    for a, watts in powers.items():
        watts = float(np.mean(watts))
        print(
            f"  arrays of SiOx trained for {a}: {1e3 * watts:.3f} mW, {2e-12 * synapses / (T_READ * watts):.0f} TOPS/W"
        )
    print(
        "  published: 234 TOPS/W where trained for it (381 with a penalty on large weights), 0.715 for low resistance"
    )
    judge(errors, claims)
    draw(errors, args.out, {a: {b: v.tolist() for b, v in row.items()} for a, row in errors.items()})
    claims.end()


if __name__ == "__main__":
    main()
