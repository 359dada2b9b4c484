"""Pictures of studies."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from anajax.chips import summarise
from anajax.plot._axes import time_axis


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
