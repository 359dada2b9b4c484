"""Training on the crossbar: a network on MNIST, by several devices and algorithms.

    python experiments/in_situ_mnist.py [--data mnist] [--epochs 10] [--out in_situ_mnist.png]

784-256-128-10 with sigmoids, mini-batches of 20 in one jump. All arrays are read with 7 bit DACs, 9 bit ADCs and
output noise of 0.06, forward and back. The baseline device of Gokmen & Vlasov (2016) has 1,200 even steps; the
resistive memory has soft bounds, 40 states and every spread 0.3 (Rasch et al., Nat. Commun. 15:7133, 2024), with
references at the symmetry points but for AGAD, which needs none.
"""

import argparse
import itertools
import time

import jax
import optax
from _figures import save
from _in_situ import WINDOW, ZEROED, draw, epochs, network, rough

import anajax
from anajax import devices, nn, optim
from anajax.arrays import ADC, DAC, AbsMax, Offset, OutputNoise, Signed

DX = 0.05
SIZES = {"digits": [64, 32, 10], "mnist": [784, 256, 128, 10], "fashion_mnist": [784, 256, 128, 10]}
# error of the papers' networks, %, of the same layers but other settings: the gap is to be compared
PUBLISHED = {"digital": "2.0", "baseline, SGD": "2.3"}  # of MNIST; recalled, not verified


def hardware(device: devices.Device) -> anajax.Hardware:
    mapping = Signed(scale_by="none") if isinstance(device, devices.Compound) else Offset(scale_by="none")
    return anajax.Hardware(
        device=device,
        mapping=mapping,
        inputs=AbsMax(),
        dac=DAC(bits=7),
        output_noise=OutputNoise(sigma=0.06),
        adc=ADC(bits=9, bound=12.0),
    )


def settings(rate: optax.Schedule, key: jax.Array) -> dict[str, tuple]:
    """Return name -> hardware, or `None` for digital, and optimiser of its arrays."""
    baseline = hardware(devices.presets.gokmen_vlasov().replace(**WINDOW))
    single = hardware(rough(DX, ZEROED, one_by_one=False))
    zeroed, free = (
        hardware(
            devices.Residual(slow=rough(DX, ZEROED, one_by_one=False), fast=rough(DX, reference, one_by_one=False))
        )
        for reference in (ZEROED, None)
    )
    fast = {"busiest": 1.0, "horizon": 20.0}
    return {
        "digital": (None, None),
        "baseline, SGD": (baseline, optim.analog_sgd(baseline, rate, key=key)),
        "memory, SGD": (single, optim.analog_sgd(single, rate, key=key)),
        "memory, mixed precision": (single, optim.mixed_precision(single, rate, key=key)),
        "memory, Tiki-Taka v2": (zeroed, optim.tiki_taka_v2(zeroed, rate, every=2, **fast, key=key)),
        "memory, AGAD": (free, optim.agad(free, rate, every=1, chop=0.25, **fast, key=key)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", choices=anajax.data.NAMES)
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, help="of the training set; all by default")
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", help="names of the rows to run")
    parser.add_argument("--out", default="in_situ_mnist.png")
    args = parser.parse_args()
    data = anajax.data.load(args.data, args.data_dir)
    data = data._replace(x_train=data.x_train[: args.images], y_train=data.y_train[: args.images])
    sizes, batch = SIZES[args.data], 20
    steps = len(data.y_train) // batch * args.epochs
    rate = optax.linear_schedule(args.rate, 0.1 * args.rate, steps)

    print(f"{args.data}, {'-'.join(map(str, sizes))}, {args.epochs} epochs of {len(data.y_train)} images")
    print(f"{'test error, %':26s} {'here':>6s} {'paper':>6s} {'pulses/weight':>14s} {'s/epoch':>8s}")
    curves = {}
    for name, (hw, analog) in settings(rate, jax.random.key(2)).items():
        if args.only and name not in args.only:
            continue
        apply, params, _, _ = nn.split(network(hw, sizes))
        tx = optax.sgd(rate) if analog is None else optim.partition(analog, optax.sgd(rate))
        start, curve, state = time.perf_counter(), [], None
        for run in epochs(jax.random.key(3), apply, params, hw, tx, data, batch=batch, epochs=args.epochs):
            state = run[1]
            curve.append(100 - run[2])
        seconds = (time.perf_counter() - start) / args.epochs
        curves[name] = curve
        counts = ""
        if analog is not None:
            pulses = state.inner_states["analog"].inner_state.pulses
            weights = sum(a * b for a, b in itertools.pairwise(sizes))
            each = zip(*(p if isinstance(p, tuple) else (p,) for p in pulses.values()), strict=True)
            counts = " + ".join(f"{float(sum(p.sum() for p in parts)) / weights:.0f}" for parts in each)
        paper = PUBLISHED.get(name, "") if args.data == "mnist" else ""
        print(f"{name:26s} {curve[-1]:6.2f} {paper:>6s} {counts:>14s} {seconds:8.1f}", flush=True)

    save(draw(curves, "test error (%)", log=True), args.out, curves)


if __name__ == "__main__":
    main()
