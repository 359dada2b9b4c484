"""Training on phase-change memories and capacitors: what capacitors, transfers and polarity inversion are for.

    python experiments/unit_cell.py [--data mnist] [--background] [--epochs 5] [--out unit_cell.png]

528-250-125-10 on crops of 22 x 24 pixels, after Ambrogio et al., Nature 558:60 (2018). A weight is 2 phase-change
memories alone, or these thrice and a capacitor with 3 transistors, which takes the pulses and is transferred every
8,000 images. Capacitors have 400 states; with variability their steps differ by 10 % from cell to cell, and steps up
from steps down by `--mismatch`, an assumption. `--background` puts random pixels behind the digits (MNIST-backrand).

Published (recalled, not verified): 97.95 % with inversion, 97.94 % in software; 2 phase-change memories alone 82.9 %
(on 5,000 images; Burr et al., IEDM 2014).
"""

import argparse
import time

import jax
import numpy as np
import optax
from _figures import save
from _in_situ import draw, epochs, network

import anajax
from anajax import devices, nn, optim
from anajax.arrays import ADC, DAC, AbsMax, OutputNoise, Signed
from anajax.devices import presets

BATCH, RATE = 20, 0.5


def cells(mismatch: float) -> dict[str, devices.Device | None]:
    """Return name -> cell; `None` for numbers."""
    pair = devices.OneSidedPair(device=presets.pcm_set(memory=False))
    spread = presets.capacitor().replace(up_down_d2d=mismatch)
    even = spread.replace(**dict.fromkeys(("x_min_d2d", "x_max_d2d", "dx_d2d", "up_down_d2d", "gamma_d2d")))

    def both(capacitor: devices.Device, invert: bool) -> devices.Significance:
        low = devices.ReferencePair(device=capacitor, reference=even)
        return devices.Significance(high=pair, low=low, factor=3.0, invert=invert)

    return {
        "numbers": None,
        "2 PCM": pair,
        "2 PCM + 3T1C, all alike": both(even, invert=False),
        "2 PCM + 3T1C": both(spread, invert=False),
        "2 PCM + 3T1C, inverted": both(spread, invert=True),
    }


def hardware(cell: devices.Device) -> anajax.Hardware:
    return anajax.Hardware(
        device=cell,
        mapping=Signed(scale_by="none"),
        inputs=AbsMax(),
        dac=DAC(bits=8),
        output_noise=OutputNoise(sigma=0.04),
        adc=ADC(bits=9, bound=12.0),
    )


def optimiser(hw: anajax.Hardware, rate: optax.Schedule, every: int) -> optax.GradientTransformation:
    key, kept = jax.random.split(jax.random.key(2))
    sgd = optim.analog_sgd(hw, rate, key=key)
    if isinstance(hw.device, devices.OneSidedPair):
        return optim.periodically(sgd, hw, devices.OneSidedPair.refresh, every=every // 40, key=kept)
    return optim.periodically(sgd, hw, devices.Significance.transfer, every=every, key=kept)


def load(args: argparse.Namespace) -> anajax.data.Dataset:
    data = anajax.data.load(args.data, args.data_dir)
    images = [x if args.data == "digits" else x[:, 3:25, 2:26] for x in (data.x_train, data.x_test)]
    if args.background:
        draw = np.random.default_rng(0)
        images = [np.where(x > 0, x, draw.random(x.shape, np.float32)) for x in images]
    n = args.images
    return data._replace(x_train=images[0][:n], y_train=data.y_train[:n], x_test=images[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", choices=anajax.data.NAMES)
    parser.add_argument("--data-dir")
    parser.add_argument("--background", action="store_true")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, help="of the training set; all by default")
    parser.add_argument("--every", type=int, default=8000, help="images from transfer to transfer")
    parser.add_argument("--mismatch", type=float, default=0.2, help="spread of the asymmetry of capacitors")
    parser.add_argument("--only", nargs="*", help="names of the rows to run")
    parser.add_argument("--out", default="unit_cell.png")
    args = parser.parse_args()
    data = load(args)
    sizes = (64, 32, 10) if args.data == "digits" else (528, 250, 125, 10)
    steps = len(data.y_train) // BATCH * args.epochs
    rate = optax.linear_schedule(RATE, 0.1 * RATE, steps)

    print(f"{args.data}, {'-'.join(map(str, sizes))}, {args.epochs} epochs of {len(data.y_train)} images")
    print(f"{'accuracy, %':26s} {'here':>6s} {'s/epoch':>8s}")
    curves = {}
    for name, cell in cells(args.mismatch).items():
        if args.only and name not in args.only:
            continue
        hw = None if cell is None else hardware(cell)
        apply, params, _, _ = nn.split(network(hw, sizes))
        tx = optax.sgd(rate)
        if hw is not None:
            tx = optim.partition(optimiser(hw, rate, args.every), tx)
        start = time.perf_counter()
        run = epochs(jax.random.key(3), apply, params, hw, tx, data, batch=BATCH, epochs=args.epochs)
        curves[name] = [right for *_, right in run]
        seconds = (time.perf_counter() - start) / args.epochs
        print(f"{name:26s} {curves[name][-1]:6.2f} {seconds:8.1f}", flush=True)

    save(draw(curves, "test accuracy (%)"), args.out, curves)


if __name__ == "__main__":
    main()
