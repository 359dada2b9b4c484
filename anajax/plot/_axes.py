"""Axes of pictures: units with prefixes, and time from a second to years."""

from __future__ import annotations

from typing import Any

import numpy as np

_TICKS = {
    1.0: "1 s",
    20.0: "20 s",
    3600.0: "1 h",
    86400.0: "1 day",
    2592000.0: "1 month",
    31536000.0: "1 year",
}
_PREFIXES = {"": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12}


def scaled(values: Any, unit: str) -> tuple[float, str]:
    """Return the factor that brings SI values to a handy unit, and its name: 25e-6 S are 1e6 times as many µS."""
    largest = np.max(np.abs(np.asarray(values, np.float64)), initial=0.0)
    for prefix, size in _PREFIXES.items():
        if largest >= 0.999 * size:
            return 1 / size, prefix + unit
    return 1e6, "µ" + unit


def duration(seconds: float) -> str:
    """Return an age in words: `1 day` for 86,400 s."""
    return _TICKS.get(float(seconds), f"{seconds:g} s")


def time_axis(axes: Any, times: np.ndarray) -> None:
    """Make the x axis one of log time, with ticks that people know."""
    axes.set_xscale("log")
    ticks: dict[float, str] = {}
    for time, label in _TICKS.items():
        apart = not ticks or np.log10(time / max(ticks)) > 0.7  # labels closer than this overlap
        if 0.9 * times.min() <= time <= 1.1 * times.max() and apart:
            ticks[time] = label
    axes.set_xticks(list(ticks), list(ticks.values()), fontsize="small")
    axes.minorticks_off()
