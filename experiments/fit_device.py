"""Fit a device with its spread to the noisy pulse responses of a population of cells, and compare with the truth.

    python experiments/fit_device.py [--cells 500] [--pulses 400] [--quick] [--out fit_device.png]

The data are synthetic: cells whose steps shrink linearly towards hard bounds (LinearStep), with spread from device
to device, cycle-to-cycle noise and write noise, read as conductances after each of the pulses: up, down, up. The fit
starts from the default device. The table is also written as a CSV file beside the figure.
"""

import argparse
import csv
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _figures import save
from matplotlib.figure import Figure

from anajax import devices, fit

TRUE = devices.LinearStep(
    g_min=2e-6,
    g_max=20e-6,
    dx=0.03,
    up_down=0.1,
    gamma_up=0.5,
    gamma_down=0.7,
    x_min_d2d=0.1,
    x_max_d2d=0.15,
    dx_d2d=0.3,
    up_down_d2d=0.05,
    gamma_d2d=0.1,
    c2c=0.3,
    write_noise=0.5,
)


def measure(key: jax.Array, device: devices.LinearStep, cells: int, directions: np.ndarray) -> np.ndarray:
    """Return conductances [S] `[cells, pulses]` after each pulse."""
    made, *keys = jax.random.split(key, len(directions) + 1)

    def pulse(state, now):
        state = device.pulse(now[0], state, jnp.full((cells,), now[1]))
        return state, device.conductance(state)

    start = device.fabricate(made, (cells,))
    start = start.replace(scores=start.scores | {"write": jnp.zeros(cells)})
    _, g = jax.jit(lambda: jax.lax.scan(pulse, start, (jnp.stack(keys), jnp.asarray(directions))))()
    return np.asarray(g, float).T


def picture(directions: np.ndarray, g: np.ndarray, found: fit.Fit) -> Figure:
    """Return data and fit, one cell's residuals, and true beside fitted values."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    pulse = np.arange(1, len(directions) + 1)
    for part, color in ((5, "0.9"), (25, "0.75")):
        left.fill_between(pulse, *np.percentile(g * 1e6, [part, 100 - part], axis=0), color=color, lw=0)
    again = measure(jax.random.key(9), found.spec, len(g), directions)
    for part in (5, 50, 95):
        left.plot(pulse, np.percentile(again * 1e6, part, axis=0), "C0-" if part == 50 else "C0--", lw=1)
    left.plot([], [], "C0-", label="fitted device: median, 5 and 95 %")
    left.fill_between([], [], color="0.75", label="data: 5 to 95 %, 25 to 75 %")
    left.set(xlabel="pulse", ylabel="conductance (µS)")
    left.legend(frameon=False, fontsize=8, loc="lower left")
    right.plot(pulse, found.residual.T[:, : min(40, len(g))], ".", color="0.7", ms=1)
    right.plot(pulse, found.residual.mean(0), "C0-", lw=1, label="mean of all cells")
    right.set(xlabel="pulse", ylabel="residual (standard deviations)", ylim=(-4, 4))
    right.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--pulses", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="40 cells of 160 pulses")
    parser.add_argument("--out", default="fit_device.png")
    args = parser.parse_args()
    cells, pulses = (40, 160) if args.quick else (args.cells, args.pulses)
    quarter = np.ones(pulses // 4)
    directions = np.concatenate([quarter, -quarter, -quarter, quarter])
    # coarser steps where there are fewer pulses, so that the bounds are met all the same
    true = TRUE.replace(dx=TRUE.dx * 400 / pulses)
    g = measure(jax.random.key(0), true, cells, directions)

    start = time.perf_counter()
    # the window that stands for states -1 and 1 is arbitrary; with the true one, bounds can be compared
    found = fit.population(
        devices.LinearStep(), directions, g, conductance=True, window=(float(true.g_min), float(true.g_max))
    )
    seconds = time.perf_counter() - start

    rows = [(name, float(getattr(true, name)), value, found.std[name]) for name, value in found.values.items()]
    print(f"{'':14s} {'true':>11s} {'fitted':>11s} {'error':>9s} {'distance':>9s}")
    for name, wanted, value, error in rows:
        print(f"{name:14s} {wanted:11.4g} {value:11.4g} {error:9.2g} {(value - wanted) / error:9.1f}")
    print(f"explained: {found.explained}; {cells} cells of {len(directions)} pulses in {seconds:.1f} s")

    table = Path(args.out).with_suffix(".csv")
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("field", "true", "fitted", "standard_error"), *rows])
    print(f"table: {table}")
    save(picture(directions, g, found), args.out)


if __name__ == "__main__":
    main()
