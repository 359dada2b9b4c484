"""What comes of a study: summaries over chips, and files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

#: title of what studies write
TITLE = "anajax study"


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
    if study.attrs.get("title") != TITLE:
        raise ValueError(f"{path} is a NetCDF file, but not a study of anajax: title {study.attrs.get('title')!r}")
    return study
