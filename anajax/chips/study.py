"""Studies: a figure of merit over chips, times and swept hardware, as an `xarray.Dataset`."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from anajax import _check
from anajax._record import get
from anajax.chips.ensemble import accuracy, keys, run_chunks
from anajax.nn import Apply

_MAGIC = "anajax study"


def evaluate(
    apply: Apply,
    params: Any,
    hardware: Any,
    x: Any,
    y: Any,
    *,
    chips: int = 100,
    times: Sequence[float] = (0.0,),
    seed: int = 0,
    sweep: Mapping[str, Sequence[float]] | None = None,
    metric: Callable[[Array, Array], Array] = accuracy,
    rest: Any = None,
    chunk: int | None = None,
    progress: bool | str = False,
) -> xr.Dataset:
    """Program a model onto many chips, let them age, and measure each.

    Chips are made one after the other inside the compiled program, so memory does not grow with their
    number. All points of a sweep, and all calls with one seed, see the same chips.

    Args:
      apply: from `anajax.nn.split`.
      params: parameters.
      hardware: one `Hardware`, or `{name: Hardware}`.
      x: test inputs, `[n, ...]`.
      y: what `metric` compares the outputs with, `[n, ...]`.
      chips: number of chips.
      times: seconds since programming, each >= 0.
      seed: chip i depends on (seed, i) alone.
      sweep: dotted path of a float field of the hardware -> its values; several fields make a grid.
      metric: `metric(outputs, y) -> scalar`; its name becomes that of the variable.
      rest: Flax's other state (batch statistics), if not that of the model at `split`.
      chunk: chips of one call of the compiled program; changes no result.
      progress: whether to show a bar, or its label.

    Returns:
      A dataset with the variable `accuracy` (or the metric's name) over `chip`, `time` and the swept
      fields, and the description in its attributes.
    """
    if chips < 1:
        raise ValueError(f"chips must be at least 1; got {chips}")
    _check.in_range(np.asarray(times, float), "times", ge=0)
    sweep = dict(sweep or {})
    for path in sweep:
        get(hardware, path)  # an unknown field is named before anything runs
    name = getattr(metric, "__name__", "metric")
    at = jnp.asarray(times, jnp.result_type(float))
    x, y = jax.tree.map(jnp.asarray, (x, y))

    points = list(itertools.product(*sweep.values()))
    values = []
    for point in points:
        here = hardware.replace(**dict(zip(sweep, point, strict=True))) if sweep else hardware
        run = functools.partial(_run, apply, metric, params, here, x, y, at, jax.random.key(seed), rest)
        label = progress if isinstance(progress, str) else "chips"
        if sweep:
            label += " " + ", ".join(f"{p}={v:g}" for p, v in zip(sweep, point, strict=True))
        values.append(run_chunks(run, chips, chunk=chunk, progress=label if progress else None))
    shape = [len(v) for v in sweep.values()]
    data = np.stack(values).reshape(*shape, chips, len(times)) if sweep else values[0]
    dims = [*sweep, "chip", "time"]
    coords: dict[str, Any] = {p: (p, np.asarray(v, float)) for p, v in sweep.items()}
    coords |= {"chip": np.arange(chips), "time": ("time", np.asarray(times, float), {"units": "s"})}
    attrs = {
        "title": _MAGIC,
        "seed": seed,
        "examples": int(jax.tree.leaves(y)[0].shape[0]),
        "hardware": repr(hardware),
        "versions": ", ".join(f"{p} {metadata.version(p)}" for p in ("anajax", "jax", "jaxlib", "flax", "numpy")),
    }
    return xr.Dataset({name: (dims, data, {"units": "1"})}, coords=coords, attrs=attrs)


@functools.partial(jax.jit, static_argnames=("apply", "metric"))
def _run(apply, metric, params, hardware, x, y, times, seed, rest, index):
    """Evaluate the chips of `index` at all times: `[chips, times]`."""

    def chip_at_times(i: Array) -> Array:
        made, read = keys(seed, i)
        chip = apply.program(made, params, hardware)

        def at(part: tuple[Array, Array]) -> Array:
            k, time = part
            outputs = apply(
                params,
                hardware,
                x,
                key=jax.random.fold_in(read, k),
                time=time,
                chip=chip,
                rest=rest,
                train=False,
            )
            return metric(outputs, y)

        return jax.lax.map(at, (jnp.arange(times.shape[0]), times))

    return jax.lax.map(chip_at_times, index)


def summarise(study: xr.Dataset, threshold: float | None = None) -> xr.Dataset:
    """Return what a table shows: mean, percentiles, interval and yield over the chips.

    Args:
      study: from `evaluate`, with one variable over `chip` and others.
      threshold: smallest value of a chip that counts as good; `None` leaves the yield out.

    Returns:
      A dataset without `chip`: `mean`, `p05`, `p95` (5th and 95th percentile), `ci95` (half width of the
      95 % confidence interval of the mean), and `yield` (fraction of chips at or above the threshold).
    """
    if len(study.data_vars) != 1:
        raise ValueError(f"a study has one variable; got {', '.join(map(str, study.data_vars))}")
    (values,) = study.data_vars.values()
    n = values.sizes["chip"]
    result = {
        "mean": values.mean("chip"),
        "p05": values.quantile(0.05, "chip", method="hazen").drop_vars("quantile"),
        "p95": values.quantile(0.95, "chip", method="hazen").drop_vars("quantile"),
        "ci95": 1.959964 * values.std("chip", ddof=1) / np.sqrt(n),
    }
    if threshold is not None:
        good = (values >= threshold).mean("chip")
        result["yield"] = good.assign_attrs(threshold=threshold)
    return xr.Dataset(result)


def save(study: xr.Dataset, path: str | Path) -> Path:
    """Write a study as NetCDF, whole or not at all; return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + f".part{os.getpid()}")
    try:
        study.to_netcdf(part, engine="h5netcdf")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> xr.Dataset:
    """Read a study written by `save`; raise an error that names the file if it is not one, or broken."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no study at {path}")
    try:
        study = xr.load_dataset(path, engine="h5netcdf")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is not a whole NetCDF file: {error}") from error
    if study.attrs.get("title") != _MAGIC:
        raise ValueError(f"{path} is a NetCDF file, but not a study of anajax: title {study.attrs.get('title')!r}")
    return study
