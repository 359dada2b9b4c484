"""What one jump per mini-batch neglects, against the order of examples, by device and learning rate.

    python experiments/update_orders.py [--draws 100] [--out update_orders.png]

Cells at x between -0.5 and 0.5 get a mini-batch of 32 examples, inputs and errors uniform within 1, in both orders.
`moved` is the root mean square change of a weight, of the mean bound. The jump's error is that of the mean change over
many draws of pulses (what these leave to chance taken off), of `moved`; `spread` compares standard deviations, and
`rows` those of sums over a row: trains of a line go to all its cells, which in a jump draw apart.
"""

import argparse

import jax
import numpy as np
from _figures import save
from _in_situ import WINDOW
from matplotlib.figure import Figure

import anajax
from anajax import arrays, devices

SIZE, EXAMPLES = 32, 32
DEVICES = {
    "constant, 2,000 states": devices.ConstantStep(dx=0.001, c2c=0.3, **WINDOW),
    "soft bounds, 2,000 states": devices.SoftBounds(dx=0.001, c2c=0.3, **WINDOW),
    "soft bounds, 200 states": devices.SoftBounds(dx=0.01, c2c=0.3, **WINDOW),
    "soft bounds, 20 states": devices.SoftBounds(dx=0.1, c2c=0.3, **WINDOW),
    "exponential, 2,000 states": devices.ExpStep(dx=0.001, c2c=0.3, **WINDOW),
}


def changes(device: devices.Device, rate: float, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the changes of states in the order of examples and in one jump, `[draws, rows, cols]`."""
    hardware = anajax.Hardware(device=device, mapping=arrays.Offset())
    start, k_x, k_d, run = jax.random.split(jax.random.key(0), 4)
    state = jax.random.uniform(start, (1, SIZE, SIZE + 1), minval=-0.5, maxval=0.5)
    cells = device.at(device.fabricate(None, state.shape), state)
    x, d = (jax.random.uniform(k, (EXAMPLES, SIZE), minval=-1.0) for k in (k_x, k_d))

    def moved(after: arrays.Pulsed) -> jax.Array:
        return (device.state(after.cells) - state)[0, :, :-1]

    def in_order(key: jax.Array) -> jax.Array:
        return moved(arrays.sequential_update(key, hardware, cells, x, d, rate))

    def at_once(key: jax.Array) -> jax.Array:
        return moved(arrays.aggregate_update(key, hardware, cells, arrays.sums(x, d), rate))

    keys = jax.random.split(run, draws)
    each = (np.asarray(jax.jit(lambda k, f=f: jax.lax.map(f, k))(keys)) for f in (in_order, at_once))
    return tuple(each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default="update_orders.png")
    args = parser.parse_args()
    draws = 10 if args.quick else args.draws
    rates = (0.01, 0.1) if args.quick else (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    print(f"{'device':26s} {'rate':>6s} {'moved':>7s} {'error':>7s} {'spread':>7s} {'rows':>7s}")
    for name, device in DEVICES.items():
        errors = []
        for rate in rates:
            order, once = changes(device, rate, draws)
            moved = np.sqrt(np.mean(order**2))
            chance = (order.var(axis=0) + once.var(axis=0)).mean() / (draws - 1)
            error = np.sqrt(max(np.mean((order.mean(axis=0) - once.mean(axis=0)) ** 2) - chance, 0.0)) / moved
            spread = np.sqrt(once.var(axis=0).mean() / order.var(axis=0).mean())
            rows = np.sqrt(once.sum(axis=2).var(axis=0).mean() / order.sum(axis=2).var(axis=0).mean())
            errors.append(100 * error)
            print(f"{name:26s} {rate:6.3f} {moved:7.4f} {100 * error:6.1f}% {spread:7.2f} {rows:7.2f}", flush=True)
        axes.loglog(rates, np.maximum(errors, 0.1), "o-", markersize=4, label=name)
    axes.set(xlabel="learning rate", ylabel="error of the mean change (%)")
    axes.legend(frameon=False, fontsize="small")
    save(figure, args.out)


if __name__ == "__main__":
    main()
