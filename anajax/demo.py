"""The demo: train a small network twice, program both onto a thousand chips, and let them age."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table

import anajax
from anajax import chips, data, nn, perceptron
from anajax.arrays import DeviceNoise

TIMES = {"20 s": 20.0, "1 h": 3600.0, "1 day": 86400.0, "1 month": 30 * 86400.0, "1 year": 365 * 86400.0}
_SIZES = {"digits": (64,), "mnist": (256, 128), "fashion_mnist": (256, 128)}
# hardware-aware training by published recipe: twice the device's noise, fresh for each batch (Le Gallo et al.,
# Nat. Electron. 6:680, 2023), and weights clipped at two standard deviations (Joshi et al., Nat. Commun. 11:2473, 2020)
_NOISE_SCALE, _CLIP_SIGMAS = 2.0, 2.0
_MOST_IMAGES = 1000  # test images that each chip reads: enough to tell chips apart


@dataclasses.dataclass(frozen=True)
class Options:
    """What the demo is asked for.

    Attributes:
      chips: number of simulated chips of each network.
      dataset: digits (embedded), mnist or fashion_mnist (prepared by tensorflow-datasets).
      data_dir: folder of tensorflow-datasets; by default TFDS_DATA_DIR, then its usual folder.
      download: prepare a missing dataset from the network.
      seed: of training and of the chips.
      out: folder for the figure and the numbers.
      quick: 50 chips and a short training, to see that everything works.
    """

    chips: int = 1000
    dataset: str = "digits"
    data_dir: Path | None = None
    download: bool = False
    seed: int = 0
    out: Path = Path("anajax-demo")
    quick: bool = False


def run(options: Options, console: Console | None = None) -> xr.Dataset:
    """Run the demo; return its study over `network`, `compensation`, `chip` and `time`."""
    console = console or Console()
    if options.chips < 2:
        raise ValueError(f"chips must be at least 2, for a confidence interval; got {options.chips}")
    dataset = data.load(options.dataset, options.data_dir, download=options.download)
    x, x_test = (jnp.asarray(a.reshape(len(a), -1)) for a in (dataset.x_train, dataset.x_test[:_MOST_IMAGES]))
    y, y_test = jnp.asarray(dataset.y_train), jnp.asarray(dataset.y_test[:_MOST_IMAGES])
    n_chips = min(options.chips, 50) if options.quick else options.chips
    epochs = (2 if options.quick else 10) if options.dataset != "digits" else (20 if options.quick else 60)
    steps = epochs * len(x) // 64

    hardware = anajax.presets.standard_aimc()
    aware = hardware.replace(modifier=DeviceNoise(scale=_NOISE_SCALE))
    sizes = (x.shape[1], *_SIZES[dataset.name], dataset.classes)
    apply, params, hardware, _ = nn.split(perceptron.network(sizes, hardware, options.seed))
    keys = jax.random.split(jax.random.key(options.seed), 3)
    digital = anajax.Hardware()
    networks = {}
    with console.status("training: digital"):
        params, _ = nn.train(apply, params, digital, x, y, steps, keys[0])
        params = nn.init_input_ranges(apply, params, [x[:5000]])
    with console.status("training: plain, on"):
        networks["plain"], _ = nn.train(apply, params, digital, x, y, steps, keys[1])
        networks["plain"] = nn.init_input_ranges(apply, networks["plain"], [x[:5000]])
    with console.status("training: hardware-aware, on"):
        clip = functools.partial(nn.clip, sigmas=_CLIP_SIGMAS)
        networks["HWA"], _ = nn.train(apply, params, aware, x, y, steps, keys[1], after=clip)

    accuracies = {n: float(chips.accuracy(apply(p, digital, x_test), y_test)) for n, p in networks.items()}
    studies = {}
    for name, params in networks.items():
        for compensation, h in (("global", hardware), ("none", hardware.replace(compensation=None))):
            studies[name, compensation] = chips.evaluate(
                apply,
                params,
                h,
                x_test,
                y_test,
                chips=n_chips,
                times=list(TIMES.values()),
                seed=options.seed,
                progress=f"{name}, compensation {compensation}",
            )
    threshold = round(accuracies["plain"] - 0.01, 3)
    study = _joined(studies, accuracies, threshold, options)
    console.print(table(study))
    _save(study, studies, threshold, options.out, console)
    return study


def _joined(studies: Any, accuracies: dict[str, float], threshold: float, options: Options) -> xr.Dataset:
    rows = []
    for network in accuracies:
        parts = [s.assign_coords(compensation=c) for (n, c), s in studies.items() if n == network]
        rows.append(xr.concat(parts, "compensation").assign_coords(network=network))
    study = xr.concat(rows, "network")
    study = study.assign_coords(digital=("network", list(accuracies.values())))
    return study.assign_attrs(dataset=options.dataset, threshold=threshold)


def table(study: xr.Dataset) -> Table:
    """Return the table of the demo's study."""
    threshold = study.attrs["threshold"]
    title = f"{study.sizes['chip']:,} chips of PCM, {study.attrs['dataset']}, {study.attrs['examples']} test images"
    caption = f"± half of the 95 % interval of the mean; yield: chips at {100 * threshold:.1f} or above"
    out = Table(title=f"{title}: accuracy in %", caption=caption, box=box.SIMPLE, padding=(0, 1))
    for column in ("network", "drift\ncomp.", "age"):
        out.add_column(column, no_wrap=True)
    for column in ("digital", "mean", "5th\npct", "95th\npct", "yield"):
        out.add_column(column, justify="right", no_wrap=True)
    summary = 100 * chips.summarise(study, threshold)
    for network in study["network"].values:
        for compensation in study["compensation"].values:
            for k, (label, time) in enumerate(TIMES.items()):
                s = summary.sel(network=network, compensation=compensation, time=time)
                names = (str(network), str(compensation)) if k == 0 else ("", "")
                out.add_row(
                    *names,
                    label,
                    f"{100 * float(s['digital']):.2f}" if k == 0 else "",
                    f"{float(s['mean']):.2f} ± {float(s['ci95']):.2f}",
                    f"{float(s['p05']):.1f}",
                    f"{float(s['p95']):.1f}",
                    f"{float(s['yield']):.1f}",
                    end_section=k == len(TIMES) - 1,
                )
    return out


def _save(study: xr.Dataset, studies: Any, threshold: float, folder: Path, console: Console) -> None:
    from anajax import plot

    numbers = chips.save(study, folder / "study.nc")
    picture = folder / "accuracy.png"
    panels = {
        f"drift compensation: {kind}": {n: s for (n, c), s in studies.items() if c == kind}
        for kind in ("global", "none")
    }
    plot.accuracy_over_time(panels, threshold=threshold).savefig(picture, dpi=150)
    console.print(f"numbers: {numbers}\nfigure:  {picture}", soft_wrap=True)
