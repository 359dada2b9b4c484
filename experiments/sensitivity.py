"""What a chip's quality depends on: by the gradient, and by raising one nonideality at a time.

    python experiments/sensitivity.py [--data mnist] [--chips 64] [--out sensitivity.png]

Three questions to one network, trained aware of the standard AIMC model, an hour after programming:

- Elasticities of the expected cross-entropy by every number of the hardware, from one backward pass per chip.
- How far each nonideality can be raised alone until chips lose 1 % of what they can do above chance, and how large the
  error of a matrix-vector product is there: what bears the least error is the most harmful for its size. Rasch et al.,
  Nat. Commun. 14:5282 (2023), find inputs and outputs (ADC, DAC, output noise, saturation) worse than weights.
- The same network on RRAM with lognormal spread and stuck cells, in pairs and around a middle: which of the weight's
  own nonidealities counts most. Mehonic et al., Front. Neurosci. 13:593 (2019), find the spread between devices worst.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from _aware import network
from _figures import save
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import anajax
from anajax import arrays, chips
from anajax.arrays import Differential, Offset, SShape
from anajax.devices import Faulty
from anajax.devices.presets import rram_lognormal

HOUR = 3600.0
START = anajax.presets.standard_aimc().replace(nonlinearity=SShape(strength=0.01))
WEIGHTS, SIGNALS = "weights", "inputs and outputs"
# what is raised: values of a field, and the side of the matrix product that it is on
RAISED = {
    "device.program_scale": ([1.5, 2, 3, 4, 6, 8, 12], WEIGHTS),
    "device.read_scale": ([1.5, 2, 3, 4, 6, 8, 12, 16], WEIGHTS),
    "weight_noise.sigma": ([0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4], WEIGHTS),
    "wires.resistance": ([1, 2, 4, 8, 12, 16, 24], WEIGHTS),
    "output_noise.sigma": ([0.08, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.0], SIGNALS),
    "nonlinearity.strength": ([0.25, 0.5, 1, 2, 4, 8], SIGNALS),
    "adc.bits": ([7, 6, 5, 4, 3, 2], SIGNALS),
    "dac.bits": ([7, 6, 5, 4, 3, 2], SIGNALS),
}
PAIRS = {"in pairs": Differential(scale_by="array"), "around a middle": Offset(scale_by="array")}


def loss_of_chips(apply: Any, params: Any, x: jax.Array, y: jax.Array, time: float) -> Any:
    """Return the cross-entropy of chip i."""

    def loss(hardware: anajax.Hardware, i: jax.Array) -> jax.Array:
        made, read = chips.keys(jax.random.key(0), i)
        logits = apply(params, hardware, x, key=read, time=time, chip=apply.program(made, params, hardware))
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return loss


@jax.jit
def mvm_error(key: jax.Array, hardware: anajax.Hardware) -> jax.Array:
    """Return the relative error of products in the setting of the paper: see `mvm_error.py`."""
    drawn, inputs, made, read = jax.random.split(key, 4)
    w = jnp.clip(0.246 * jax.random.normal(drawn, (512, 512)), -1.0, 1.0)
    x = jax.random.uniform(inputs, (200, 512), minval=-1.0, maxval=1.0)
    y = arrays.read(read, hardware, arrays.program(made, hardware, w), w, x, 0.0)
    return jnp.mean(jnp.linalg.norm(y - x @ w, axis=1)) / jnp.mean(jnp.linalg.norm(x @ w, axis=1))


def raised_alone(job: Any, n: int) -> xr.Dataset:
    """Return the thresholds, each with the error of a product there."""
    apply, params, x, y = job
    study = chips.evaluate(
        apply,
        params,
        START,
        x,
        y,
        chips=n,
        times=[HOUR],
        sweep=chips.one_at_a_time(START, {path: values for path, (values, _) in RAISED.items()}),
        progress="raised alone",
    )
    found = chips.thresholds(study, 0.01, chance=0.1)
    bare = START.replace(inputs=None, compensation=None, mapping=Differential(scale_by="none"))
    base = float(mvm_error(jax.random.key(0), bare))
    errors = [
        float(mvm_error(jax.random.key(0), bare.replace(**{str(path): float(at)}))) if np.isfinite(at) else np.nan
        for path, at in zip(found["field"].values, found["threshold"].values, strict=True)
    ]
    start = float(study["accuracy"][0].mean())
    return found.assign(mvm_error=("field", errors)).assign_attrs(base_error=base, accuracy=start)


def rram(job: Any, n: int) -> dict[str, xr.Dataset]:
    """Return the elasticities of the weights' own nonidealities, for both mappings."""
    apply, params, x, y = job
    device = Faulty(device=rram_lognormal(spread_on=0.25, spread_off=0.25), unformed=0.02, low=0.02, high=0.02)
    found = {}
    for name, mapping in PAIRS.items():
        hardware = anajax.Hardware(device=device, mapping=mapping)
        found[name] = chips.sensitivity(loss_of_chips(apply, params, x, y, 0.0), hardware, chips=n)
    return found


def show(raised: xr.Dataset) -> None:
    start, base = (100 * raised.attrs[name] for name in ("accuracy", "base_error"))
    print(f"accuracy at the start {start:.2f} %, error of a matrix-vector product {base:.1f} %")
    print("raised alone until 1 % is lost                  from        to   factor   MVM error there   most seen lost")
    for field in raised["field"].values:
        row, side = raised.sel(field=field), RAISED[str(field)][1]
        at, to, factor, error, most = (
            float(row[name]) for name in ("start", "threshold", "factor", "mvm_error", "largest")
        )
        print(f"  {field:24s} {side:18s} {at:8.4g} {to:9.4g} {factor:8.2f} {100 * error:15.1f} % {100 * most:14.1f} %")


def show_slopes(title: str, found: xr.Dataset, most: int) -> None:
    print(f"{title}: elasticity of the loss, of {found.attrs['loss']:.4f} nat")
    for field in found["field"].values[:most]:
        row = found.sel(field=field)
        print(f"  {field:34s} {float(row['elasticity']):9.4f} ± {float(row['elasticity_ci']):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", choices=("digits", "mnist", "fashion_mnist"))
    parser.add_argument("--chips", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--images", type=int, default=360)
    parser.add_argument("--out", default="sensitivity.png")
    args = parser.parse_args()
    job = network(args.data, START, args.epochs, args.images)
    whole = START.replace(backward="exact")
    by_slope = chips.sensitivity(loss_of_chips(*job, HOUR), whole, chips=args.chips)
    show_slopes("standard AIMC model, an hour old", by_slope, 14)
    raised = raised_alone(job, args.chips)
    show(raised)
    weights = rram(job, args.chips)
    for name, found in weights.items():
        show_slopes(f"RRAM {name}", found, 6)
    picture = figure(by_slope, raised, weights)
    numbers = {
        "elasticity": dict(zip(by_slope["field"].values.tolist(), by_slope["elasticity"].values.tolist(), strict=True)),
        "raised": {
            str(f): {k: float(raised[k].sel(field=f)) for k in raised.data_vars} for f in raised["field"].values
        },
        "rram": {
            name: dict(zip(d["field"].values.tolist(), d["elasticity"].values.tolist(), strict=True))
            for name, d in weights.items()
        },
    }
    save(picture, args.out, numbers)


def figure(by_slope: xr.Dataset, raised: xr.Dataset, weights: dict[str, xr.Dataset]) -> Figure:
    picture = Figure(figsize=(15, 5), layout="constrained")
    left, middle, right = picture.subplots(1, 3)
    first = by_slope.isel(field=slice(9, None, -1))
    share = 100 / by_slope.attrs["loss"]
    left.barh(first["field"].values, share * first["elasticity"], xerr=share * first["elasticity_ci"])
    left.set(title="standard AIMC model, an hour old", xlabel="elasticity of the cross-entropy (%)")
    reached = raised.where(np.isfinite(raised["mvm_error"]), drop=True).sortby("mvm_error", ascending=False)
    sides = [RAISED[str(f)][1] for f in reached["field"].values]
    colours = {WEIGHTS: "C1", SIGNALS: "C2"}
    middle.barh(reached["field"].values, 100 * reached["mvm_error"].values, color=[colours[s] for s in sides])
    middle.axvline(100 * raised.attrs["base_error"], color="0.3", linestyle="--")
    middle.set(
        title="raised alone until 1 % is lost", xlabel="error of a matrix-vector product (%), dashed: at the start"
    )
    middle.legend(handles=[Patch(color=colour, label=side) for side, colour in colours.items()])
    names = weights["in pairs"]["field"].values[5::-1]
    for k, (name, found) in enumerate(weights.items()):
        rows, share = found.sel(field=names), 100 / found.attrs["loss"]
        at = np.arange(len(names)) + 0.4 * k
        right.barh(at, share * rows["elasticity"], 0.4, xerr=share * rows["elasticity_ci"], label=name)
    right.set_yticks(np.arange(len(names)) + 0.2, names)
    right.set(title="RRAM with spread and faults", xlabel="elasticity of the cross-entropy (%)")
    right.legend(loc="lower left")
    return picture


if __name__ == "__main__":
    main()
