"""The worst of many memristors under three solvers, against small fixed steps.

    python experiments/memristor_solvers.py [--cells 500] [--out memristor_solvers.png] [--quick]

Cells differ in the parameters that matter. Each is integrated over one cycle at the default tolerance of 1e-5, by
the default method, by the same without steps to the crossings of thresholds, and by two solvers of diffrax with
them. The truth is a classical Runge-Kutta method of 200,000 steps. An error is the largest over all cells and 21
times, as part of the range of the state. All is float64. Then 20 times as many cells of VTEAM are timed, once
compiled, in float32.
"""

import argparse
import time

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from _figures import save
from matplotlib.figure import Figure

from anajax import devices
from anajax.devices import memristor
from anajax.devices.memristor import Biolek, Drive, Joglekar, Memristor, Sine, Triangle, simulate


@devices.record
class BlindVTEAM(memristor.VTEAM):
    """VTEAM that tells the solver of no thresholds."""

    thresholds = ()


@devices.record
class BlindDrift(memristor.LinearIonDrift):
    """Linear ion drift that tells the solver of no thresholds."""

    thresholds = ()


BLIND: dict[type, type[Memristor]] = {memristor.VTEAM: BlindVTEAM, memristor.LinearIonDrift: BlindDrift}
METHODS = {
    "exponential Rosenbrock": None,
    "without crossings": None,
    "Tsit5": diffrax.Tsit5(),
    "Kvaerno3": diffrax.Kvaerno3(),
}


def crowds(n: int) -> dict[str, tuple[Memristor, Drive, float]]:
    """Return cells `[n]` by name, with their drive and its duration [s]."""
    keys = iter(jax.random.split(jax.random.key(0), 20))

    def vary(value: float, sigma: float = 0.2) -> jax.Array:
        return value * jnp.exp(sigma * jax.random.normal(next(keys), (n,)))

    yakopcic = memristor.Yakopcic(V_p=vary(0.16), A_p=vary(4000.0), alpha_n=vary(5.0))
    slow, fast = Sine(amplitude=1.0, frequency=1.0, cycles=1), Sine(amplitude=0.5, frequency=100.0, cycles=1)
    return {
        "VTEAM, full range": (
            memristor.VTEAM(
                k_on=-vary(10.0),
                k_off=vary(5e-4),
                alpha_on=vary(3.0, 0.1),
                alpha_off=vary(1.0, 0.1),
                v_on=-vary(0.2),
                v_off=vary(0.02),
            ),
            Sine(amplitude=1.0, frequency=2e6, cycles=1),
            5e-7,
        ),
        "linear ion drift with thresholds and Joglekar's window": (
            memristor.LinearIonDrift(
                mu_v=vary(1e-14),
                window=Joglekar(p=vary(2.0)),
                v_positive=vary(0.55, 0.3),
                v_negative=-vary(0.55, 0.3),
            ),
            slow,
            1.0,
        ),
        "Biolek's window, rates × 1000": (
            memristor.LinearIonDrift(mu_v=vary(1e-11), window=Biolek(p=vary(2.0))),
            slow,
            1.0,
        ),
        "Yakopcic": (yakopcic, fast, 0.01),
        "Yakopcic, rates × 1000": (yakopcic.replace(A_p=1000 * yakopcic.A_p, A_n=4e6), fast, 0.01),
        "Stanford-PKU": (
            memristor.StanfordPKU(E_a=vary(0.6, 0.02), F_min=vary(1.4e9, 0.05)),
            Triangle(amplitude=1.8, period=1e-5, cycles=1),
            1e-5,
        ),
    }


def truth(model: Memristor, drive: Drive, times: np.ndarray, steps: int) -> np.ndarray:
    """Return the states at `times` by fixed steps of a Runge-Kutta method, stopped at the rails after every step."""
    low, high = model.bounds
    h = (times[-1] - times[0]) / steps

    def rate(x, t):
        return model.rate(jnp.clip(x, low, high), drive(t))

    @jax.jit
    def advance(x, start):
        def step(x, k):
            t = start + k * h
            a = rate(x, t)
            b = rate(x + h / 2 * a, t + h / 2)
            c = rate(x + h / 2 * b, t + h / 2)
            d = rate(x + h * c, t + h)
            return jnp.clip(x + h / 6 * (a + 2 * b + 2 * c + d), low, high), None

        return jax.lax.scan(step, x, jnp.arange(steps // (len(times) - 1)))[0]

    states = [jnp.broadcast_to(model.initial, np.broadcast_shapes(*(np.shape(a) for a in jax.tree.leaves(model))))]
    for start in times[:-1]:
        states.append(advance(states[-1], start))
    return np.stack(states)


def worst(name: str, model: Memristor, drive: Drive, times: np.ndarray, wanted: np.ndarray) -> float:
    """Return the error of the worst cell under a method, `nan` where the model has no thresholds to be blind to."""
    if name == "without crossings":
        blind = BLIND.get(type(model))
        if blind is None or not model.thresholds:
            return float("nan")
        model = blind(**vars(model))
    low, high = model.bounds
    found = simulate(model, drive, times, method=METHODS[name], max_steps=100_000).state
    return float(np.max(np.abs(found - wanted) / np.asarray(high - low)))


def speed(cells: int) -> str:
    """Return how long cells of VTEAM take under one cycle in float32, and their derivatives by all fields."""
    model, drive, duration = crowds(cells)["VTEAM, full range"]
    times = np.array([0.0, duration])

    def mean(model: Memristor) -> jax.Array:
        return simulate(model, drive, times).state[-1].mean()

    seconds = []
    for f in (jax.jit(mean), jax.jit(jax.grad(mean))):
        jax.block_until_ready(f(model))
        start = time.perf_counter()
        jax.block_until_ready(f(model))
        seconds.append(time.perf_counter() - start)
    return f"{cells} cells of VTEAM in {seconds[0]:.2f} s, their derivatives by all fields in {seconds[1]:.2f} s"


def picture(errors: dict[str, list[float]]) -> Figure:
    """Return the errors of each method in every row."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    rows = range(len(errors))
    for k, (method, mark) in enumerate(zip(METHODS, "osDv", strict=True)):
        axes.plot([row[k] for row in errors.values()], rows, mark, label=method)
    axes.axvline(1e-5, color="0.7", lw=1, zorder=0)
    axes.set(xscale="log", xlabel="error of the worst cell, part of the range of the state", yticks=rows)
    axes.set_yticklabels(list(errors))
    axes.invert_yaxis()
    figure.legend(frameon=False, loc="outside upper center", ncols=4)
    return figure


def main() -> None:
    """Run all, print the table, save the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--out", default="memristor_solvers.png")
    parser.add_argument("--quick", action="store_true", help="one row of 5 cells, against 2,000 steps")
    args = parser.parse_args()
    cells, steps, some = (5, 2_000, 1) if args.quick else (args.cells, 200_000, None)
    began, errors = time.perf_counter(), {}
    print(f"{'worst of ' + str(cells) + ' cells':56s}" + "".join(f"{m:>24s}" for m in METHODS))
    with jax.enable_x64(True):
        for name, (model, drive, duration) in list(crowds(cells).items())[:some]:
            times = np.linspace(0, duration, 21)
            wanted = truth(model, drive, times, steps)
            errors[name] = [worst(m, model, drive, times, wanted) for m in METHODS]
            print(f"{name:56s}" + "".join(f"{e:24.1e}" if np.isfinite(e) else f"{'':24s}" for e in errors[name]))
    print(speed(20 * cells))
    print(f"{time.perf_counter() - began:.0f} s")
    save(picture(errors), args.out)


if __name__ == "__main__":
    main()
