"""What comes of a study: summaries over chips, and files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import stats

from anajax.chips._provenance import TITLE
from anajax.chips.yields import checked_share, clopper_pearson


def summarise(study: xr.Dataset, threshold: float | None = None) -> xr.Dataset:
    """Return what a table shows: mean, percentiles, interval and yield over the chips.

    Args:
      study: from `evaluate`, with one variable over `chip` and others.
      threshold: smallest value of a chip that counts as good; `None` leaves the yield out.

    Returns:
      A dataset without `chip`: `mean`, `p05`, `p95` (5th and 95th percentile), `ci95` (half width of the 95 % interval
      of the mean, by Student's t), and `yield` (fraction of chips at or above the threshold), with the ends of
      its exact 95 % interval, `yield_low` and `yield_high`. Where a chip's value is NaN, so is all but the yield.
    """
    values = variable(study)
    n = values.sizes["chip"]
    result = {
        "mean": values.mean("chip", skipna=False),
        "p05": values.quantile(0.05, "chip", method="hazen", skipna=False).drop_vars("quantile"),
        "p95": values.quantile(0.95, "chip", method="hazen", skipna=False).drop_vars("quantile"),
        "ci95": wide(n, 0.95) * values.std("chip", ddof=1, skipna=False),
    }
    if threshold is not None:
        good = (values >= threshold).mean("chip")
        result["yield"] = good.assign_attrs(threshold=threshold)
        low, high = clopper_pearson(np.rint(good * n).astype(int), n)
        result["yield_low"], result["yield_high"] = good.copy(data=low), good.copy(data=high)
    return xr.Dataset(result, attrs=study.attrs)


def compare(study: xr.Dataset, dim: str, baseline: float | int, confidence: float = 0.95) -> xr.Dataset:
    """Return how points of a study differ from one of them, chip by chip.

    All points see the same chips, so that differences are paired, and known far better than the points themselves.

    Args:
      study: from `evaluate`.
      dim: the swept field, or `"time"` or `"point"`.
      baseline: its value to compare with.
      confidence: of the intervals, by Student's t.

    Returns:
      A dataset over the study's dimensions without `chip`: `difference` (mean over the chips), `ci` (half width of its
      interval), and `better` (share of chips whose value is higher than at the baseline).
    """
    values = variable(study)
    if dim not in values.dims or dim == "chip":
        raise ValueError(f"dim must be one of {', '.join(str(d) for d in values.dims if d != 'chip')}; got {dim!r}")
    known = values[dim].values
    if baseline not in known:
        raise ValueError(f"baseline must be a value of {dim!r}, {', '.join(f'{v:g}' for v in known)}; got {baseline}")
    n = values.sizes["chip"]
    difference = values - values.sel({dim: baseline}, drop=True)
    return xr.Dataset(
        {
            "difference": difference.mean("chip", skipna=False),
            "ci": wide(n, confidence) * difference.std("chip", ddof=1, skipna=False),
            "better": (difference > 0).mean("chip"),
        },
        attrs=study.attrs,
    )


def wide(n: int, confidence: float) -> float:
    """Return half the width of the interval of a mean, in standard deviations of one chip."""
    checked_share(confidence, "confidence")
    return float(stats.t.ppf((1 + confidence) / 2, n - 1) / np.sqrt(n)) if n > 1 else np.inf


def variable(study: xr.Dataset) -> xr.DataArray:
    """Return the one variable of a study."""
    if len(study.data_vars) != 1:
        raise ValueError(f"a study has one variable; got {', '.join(map(str, study.data_vars))}")
    (values,) = study.data_vars.values()
    return values


def save(study: xr.Dataset, path: str | Path) -> Path:
    """Write a study, whole or not at all, in the place of an older one, and of nothing else; return its path.

    Args:
      study: from `evaluate`.
      path: of a Zarr folder, where it ends in `.zarr`; of a NetCDF file otherwise.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        load(path)  # only a study gives its place to a study
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if path.suffix == ".zarr":
            study.to_zarr(part, mode="w", zarr_format=3, consolidated=False)
            if path.exists():
                os.replace(path, old := path.with_name(f"{path.name}.{os.getpid()}.old"))
                os.replace(part, path)
                shutil.rmtree(old)
                return path
        else:
            study.to_netcdf(part, engine="h5netcdf")
        os.replace(part, path)
    finally:
        _remove(part)
    return path


def load(path: str | Path) -> xr.Dataset:
    """Read a study written by `save`; raise an error that names the file if it is not one, or broken."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no study at {path}")
    zarr = path.suffix == ".zarr"
    kind = "Zarr folder" if zarr else "NetCDF file"
    options = {"engine": "zarr", "consolidated": False} if zarr else {"engine": "h5netcdf"}
    try:
        study = xr.load_dataset(path, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is not a whole {kind}: {error}") from error
    if study.attrs.get("title") != TITLE:
        raise ValueError(f"{path} is a {kind}, but not a study of anajax: title {study.attrs.get('title')!r}")
    return study


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
