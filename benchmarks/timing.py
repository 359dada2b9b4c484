"""Interleaved timing: candidates take turns, the minimum of each counts, and ratios are what is reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax


def compare(candidates: dict[str, Callable[[], Any]], rounds: int = 15) -> dict[str, float]:
    """Return the least wall-clock seconds of each candidate; each is compiled first, then they take turns."""
    for run in candidates.values():
        jax.block_until_ready(run())
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def show(title: str, best: dict[str, float]) -> None:
    """Print milliseconds and multiples of the first candidate."""
    base = next(iter(best.values()))
    print(f"\n{title}  ({jax.devices()[0].device_kind})")
    for name, seconds in best.items():
        print(f"  {name:58s} {1e3 * seconds:8.2f} ms {seconds / base:6.2f} x")
