"""Pictures of studies."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from anajax.chips import summarise
from anajax.plot._axes import duration, time_axis


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
        time_axis(axes, np.concatenate([np.asarray(s["time"]) for s in lines.values()]))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def accuracy_over_fields(study: xr.Dataset, *, threshold: float | None = None) -> Figure:
    """Plot the mean over chips at each point of a sweep over each swept field, by age, with its 95 % interval.

    Args:
      study: from `anajax.chips.evaluate`, of a sweep or a design.
      threshold: a level to mark, or `None`.
    """
    fields = [str(n) for n, c in study.coords.items() if n not in ("chip", "time", "point") and c.ndim == 1]
    if not fields:
        raise ValueError("study must have swept fields; it has none")
    summary = summarise(study)
    dims = [d for d in summary["mean"].dims if d != "time"]
    points = summary.stack(every_point=dims) if dims != ["point"] else summary.rename(point="every_point")
    points = points.transpose("every_point", ...)
    figure = Figure(figsize=(1.5 + 3.6 * len(fields), 4.0), layout="constrained")
    panels = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    times = np.atleast_1d(points["time"].values)
    for axes, field in zip(panels, fields, strict=True):
        at = np.asarray(points[field].values, float)
        order = np.argsort(at, kind="stable")
        for k, time in enumerate(times):
            row = points.isel(time=k) if "time" in points.dims else points
            style = "o-" if len(fields) == 1 else "o"
            values, ends = np.asarray(row["mean"])[order], np.asarray(row["ci95"])[order]
            axes.errorbar(at[order], values, ends, fmt=style, capsize=2, markersize=4, label=duration(time))
        if threshold is not None:
            axes.axhline(threshold, color="0.4", linestyle=":")
        if at.min() > 0 and at.max() > 20 * at.min():
            axes.set_xscale("log")
        axes.set_xlabel(field)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(str(next(iter(study.data_vars))))
    panels[-1].legend(frameon=False, title="age")
    return figure


def tornado(study: xr.Dataset, *, most: int = 12) -> Figure:
    """Plot elasticities as bars, the strongest on top, with their intervals.

    Args:
      study: from `anajax.chips.sensitivity`.
      most: how many fields to show.
    """
    shown = study.isel(field=slice(most))
    values, places = np.asarray(shown["elasticity"]), np.arange(shown.sizes["field"])
    figure = Figure(figsize=(6.5, 1.2 + 0.3 * len(places)), layout="constrained")
    axes = figure.subplots()
    colours = np.where(values > 0, "C3", "C0")
    axes.barh(places, values, xerr=np.asarray(shown["elasticity_ci"]), color=colours, ecolor="0.3", capsize=2)
    axes.set_yticks(places, [str(f) for f in shown["field"].values])
    axes.invert_yaxis()
    axes.axvline(0, color="0.2", linewidth=0.8)
    axes.set(xlabel="change of the loss for a change by 100 %", title=f"mean loss {study.attrs['loss']:.4g}")
    axes.grid(axis="x", alpha=0.3)
    return figure
