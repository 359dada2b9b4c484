"""Pictures of devices and studies. Every function returns a matplotlib `Figure`; nothing is shown or saved."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from anajax.chips import summarise
from anajax.devices import Device

_TICKS = {
    1.0: "1 s",
    20.0: "20 s",
    3600.0: "1 h",
    86400.0: "1 day",
    2592000.0: "1 month",
    31536000.0: "1 year",
}


def accuracy_over_time(
    studies: dict[str, xr.Dataset] | dict[str, dict[str, xr.Dataset]], *, threshold: float | None = None
) -> Figure:
    """Plot the mean of each study over log time, with a band from the 5th to the 95th percentile of chips.

    Args:
      studies: label -> a study over `chip` and `time`, from `anajax.chips.evaluate`; or title -> such a
        dictionary, for panels side by side.
      threshold: a level to mark, or `None`.
    """
    nested = all(isinstance(s, dict) for s in studies.values())
    panels: dict[str, dict[str, xr.Dataset]] = cast(Any, studies if nested else {"": studies})
    figure = Figure(figsize=(1.5 + 5.5 * len(panels), 4.2), layout="constrained")
    for axes, (title, lines) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        for label, study in lines.items():
            summary = summarise(study)
            time = np.asarray(study["time"])
            (line,) = axes.plot(time, summary["mean"], marker="o", label=label)
            axes.fill_between(time, summary["p05"], summary["p95"], color=line.get_color(), alpha=0.18, linewidth=0)
        if threshold is not None:
            axes.axhline(threshold, color="0.4", linestyle=":", label=f"threshold {threshold:.1%}")
        name = str(next(iter(next(iter(lines.values())).data_vars)))
        axes.set(title=title, xlabel="time since programming", ylabel=name)
        _time_axis(axes, np.concatenate([np.asarray(s["time"]) for s in lines.values()]))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def device(spec: Device, *, chips: int = 500, seed: int = 0) -> Figure:
    """Plot what a device does: its programming spread over conductance, and conductances as they age.

    Args:
      spec: a device with a window.
      chips: cells simulated for each level.
      seed: of the cells.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    g = jnp.linspace(spec.g_min, spec.g_max, 101)
    left.plot(g * 1e6, spec.programming_noise(g) * 1e6)
    left.set(xlabel="target conductance (µS)", ylabel="programming spread (µS)")
    times = np.logspace(0, np.log10(3.2e7), 40)
    for k, part in enumerate((0.2, 0.6, 1.0)):
        target = jnp.full((chips,), spec.g_min + part * spec.window)
        made, programmed = jax.random.split(jax.random.fold_in(jax.random.key(seed), k))
        cells = spec.program(programmed, spec.fabricate(made, target.shape), target)
        traces = np.asarray(jax.vmap(lambda t, cells=cells: spec.conductance(cells, t))(jnp.asarray(times))) * 1e6
        (line,) = right.plot(times, traces.mean(axis=1), label=f"{float(target[0]) * 1e6:.3g} µS")
        low, high = np.percentile(traces, [5, 95], axis=1)
        right.fill_between(times, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    right.set(xlabel="time since programming", ylabel="conductance (µS)")
    _time_axis(right, times)
    right.legend(frameon=False, title="target")
    return figure


def _time_axis(axes: Any, times: np.ndarray) -> None:
    axes.set_xscale("log")
    ticks: dict[float, str] = {}
    for time, label in _TICKS.items():
        apart = not ticks or np.log10(time / max(ticks)) > 0.7  # labels closer than this overlap
        if 0.9 * times.min() <= time <= 1.1 * times.max() and apart:
            ticks[time] = label
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
