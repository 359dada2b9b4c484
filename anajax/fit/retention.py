"""From retention data to laws of drift: a line for each cell, log conductance over log time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from anajax import _check
from anajax.devices.curves import Table
from anajax.devices.pulsed import Drift
from anajax.devices.statistical import PCM
from anajax.fit import _result
from anajax.fit._result import Fit
from anajax.fit.cells import spread
from anajax.fit.data import siemens


class _Lines(NamedTuple):
    """Each cell's exponent and ln(conductance at t_0) with their covariance `[2, 2]`, the same for all cells.

    `residual` `[cells, n]` is that of ln g, `noise` its standard deviation, from `freedom` degrees of freedom.
    """

    nu: np.ndarray
    log_g: np.ndarray
    covariance: np.ndarray
    residual: np.ndarray
    noise: float
    freedom: int


def drift(times: ArrayLike, g: ArrayLike, *, t_0: float | None = None, g_max: float | None = None) -> Fit:
    """Fit power-law drift, `g(t) = g (t / t_0)**-nu`, with its spread from cell to cell.

    Each cell's exponent is a least-squares slope of ln g over ln t, with one relative read noise for all, which is
    among the values as `"noise"`. The mean variance of the slopes' errors is subtracted from their variance. With
    `g_max`, the exponents are a line in ln(g / g_max), and the spread is that around it; both sides of that line have
    errors, which are subtracted too.

    Args:
      times: times since the cells were last touched [s], ascending, shape `[n]`, at least 3 from `t_0` on.
      g: conductance of each cell then [S], shape `[cells, n]` or `[n]`.
      t_0: from when drift counts [s], by default the first time; earlier data are left out.
      g_max: conductance [S] to which `nu_slope` refers; by default none is fitted.

    Returns:
      The `Fit`, whose spec is an `anajax.devices.Drift`.

    Raises:
      ValueError: for data that cannot be fitted.

    Warns:
      PoorFit: where a power law does not explain the data.
    """
    t, y = _retention(times, g)
    t_0 = float(t[0]) if t_0 is None else float(t_0)
    _check.in_range(t_0, "t_0 (by default the first of times)", gt=0)
    keep = t >= t_0
    if keep.sum() < 3:
        raise ValueError(f"times must have at least 3 from t_0 = {t_0:g} s on; got {keep.sum()}")
    lines = _lines(np.log(t[keep] / t_0), np.log(y[:, keep]))
    values, shares = _exponents(lines, g_max)
    cells = len(lines.nu)
    if cells == 1:
        values = {"nu": float(lines.nu[0])}
        covariance = lines.covariance[:1, :1]
    else:
        covariance = shares.T @ shares / cells**2
    found = _drift_fit(Drift(t_0=t_0, **values), values, covariance, lines, np.log(y[:, keep]))
    _result.warn(found.reasons, "Drift")
    return found


def _exponents(lines: _Lines, g_max: float | None) -> tuple[dict[str, Any], np.ndarray]:
    """Return the fields of `Drift`, and the cells' shares `[cells, k]` in their errors."""
    if len(lines.nu) == 1:
        return {}, np.zeros((1, 0))
    values, shares, rest, errors = {}, [], lines.nu, np.full(len(lines.nu), lines.covariance[0, 0])
    if g_max is not None:
        _check.in_range(g_max, "g_max", gt=0)
        u = lines.log_g - np.log(g_max)
        off = u - u.mean()
        width = np.mean(off**2) - lines.covariance[1, 1]
        if width <= 0:
            raise ValueError("g must differ from cell to cell by more than its noise for nu_slope; leave g_max out")
        slope = (np.mean(off * lines.nu) - lines.covariance[0, 1]) / width
        rest = lines.nu - slope * u
        errors = errors + slope**2 * lines.covariance[1, 1] - 2 * slope * lines.covariance[0, 1]
        by_slope = (rest - rest.mean()) * off / width
        values["nu_slope"] = -float(slope)
        shares += [rest - rest.mean() - u.mean() * by_slope, -by_slope]
    else:
        shares += [rest - rest.mean()]
    over = spread(rest[:, None], errors[:, None])
    nu, variance = float(over.mean[0]), float(over.variance[0])
    values = {"nu": nu} | values
    if variance > 0:
        values["nu_d2d"] = np.sqrt(variance) / abs(nu)
        shares.append((over.variance_shares[:, 0] / (2 * variance) - shares[0] / nu) * values["nu_d2d"])
    return values, np.stack(shares, axis=1)


def drift_table(device: PCM, times: ArrayLike, g: ArrayLike, *, bins: int = 6) -> Fit:
    """Fit the drift exponents of a `PCM` as tables over conductance: their mean and their spread.

    Cells are put into bins of equal numbers by their conductance right after programming, as extrapolated by their
    own line of ln g over ln(1 + t / t_0). In each bin the exponents have a mean and a spread around a straight line,
    from which the variance of the slopes' errors is subtracted.

    Args:
      device: where all but `nu_mean`, `nu_std` and `nu_scale` comes from; `t_0` and `g_max` are its own.
      times: times since programming [s], ascending, shape `[n]`, at least 3.
      g: conductance of each cell then [S], shape `[cells, n]`, at least 8 cells for each bin.
      bins: how many.

    Returns:
      The `Fit`: the device with its `nu_mean` and `nu_std` as `Table`, and `nu_scale` 1. Values and standard errors
      are `"nu_mean"`, `"nu_std"`, of shape `[bins]`.

    Raises:
      ValueError: for data that cannot be fitted.

    Warns:
      PoorFit: where a power law does not explain the data.
    """
    t, y = _retention(times, g)
    if not isinstance(device, PCM):
        raise TypeError(f"device must be a PCM; got {type(device).__name__}")
    if bins < 2 or len(y) < 8 * bins:
        raise ValueError(f"g must have at least 8 cells for each of 2 or more bins; got {len(y)} cells, {bins} bins")
    lines = _lines(np.log1p(t / float(device.t_0)), np.log(y))
    u = np.clip(np.exp(lines.log_g) / float(device.g_max), 0.0, 1.0)
    rows = [_bin(u[part], lines.nu[part], lines.covariance[0, 0]) for part in np.array_split(np.argsort(u), bins)]
    at, means, widths, mean_errors, width_errors = (np.array(column) for column in zip(*rows, strict=True))
    if not np.all(np.diff(at) > 0):
        raise ValueError(f"g must differ from bin to bin; got mean conductances {at * float(device.g_max)} S")
    spec = device.replace(nu_mean=Table(u=at, values=means), nu_std=Table(u=at, values=widths), nu_scale=1.0)
    values = {"nu_mean": means, "nu_std": widths}
    covariance = np.diag(np.square(np.concatenate([mean_errors, width_errors])))
    found = _drift_fit(spec, values, covariance, lines, np.log(y))
    _result.warn(found.reasons, "PCM")
    return found


def _bin(u: np.ndarray, nu: np.ndarray, error: float) -> tuple[float, float, float, float, float]:
    """Return the middle of a bin, mean and spread of its exponents there, and the errors of both."""
    off = u - u.mean()
    slope = np.sum(off * nu) / max(np.sum(off**2), 1e-300)
    rest = (nu - slope * off)[:, None]
    n = len(u)
    over = spread(rest, np.full(rest.shape, error))
    width = float(np.sqrt(max(over.variance[0], 0.0)))
    error_of = float(np.std(over.variance_shares[:, 0]) / np.sqrt(n))
    return (
        float(u.mean()),
        float(rest.mean()),
        width,
        float(rest.std() / np.sqrt(n - 2)),
        min(error_of / (2 * width) if width > 0 else np.inf, float(np.sqrt(error_of))),
    )


def _lines(x: np.ndarray, y: np.ndarray) -> _Lines:
    """Fit `y = log_g - nu x` to each row of y `[cells, n]`."""
    if np.ptp(x) == 0:
        raise ValueError("times must differ; got one and the same")
    design = np.stack([-x, np.ones_like(x)], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    found = y @ design @ inverse
    residual = y - found @ design.T
    freedom = len(y) * (len(x) - 2)
    noise = float(np.sqrt(np.sum(np.square(residual)) / freedom))
    return _Lines(found[:, 0], found[:, 1], noise**2 * inverse, residual, noise, freedom)


def _drift_fit(spec: Any, values: dict[str, Any], covariance: np.ndarray, lines: _Lines, y: np.ndarray) -> Fit:
    """Return the `Fit` of drift exponents, with the noise of the reads."""
    e = lines.residual / max(lines.noise, 1e-300)
    verdict = _result.judge(e, 2, share=lines.noise)
    whole = np.zeros((len(covariance) + 1,) * 2)
    whole[:-1, :-1], whole[-1, -1] = covariance, lines.noise**2 / (2 * lines.freedom)
    sizes = [np.size(v) for v in values.values()]
    errors = np.split(np.sqrt(np.diag(covariance)), np.cumsum(sizes)[:-1])
    std = {p: e if np.ndim(v) else float(e[0]) for (p, v), e in zip(values.items(), errors, strict=True)}
    names = [f"{p}[{k}]" if np.ndim(v) else p for p, v in values.items() for k in range(np.size(v))]
    return Fit(
        spec=spec,
        values=values | {"noise": lines.noise},
        std=std | {"noise": lines.noise / np.sqrt(2 * lines.freedom)},
        names=(*names, "noise"),
        covariance=whole,
        residual=e,
        rms=float(np.sqrt(np.mean(np.square(lines.residual)))),
        r2=1 - float(np.mean(np.square(lines.residual)) / max(np.var(y), 1e-300)),
        correlation=verdict.correlation,
        reasons=verdict.reasons,
        notes=verdict.notes,
    )


def _retention(times: ArrayLike, g: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return times `[n]` and conductances `[cells, n]`, checked."""
    t, y = np.asarray(times, np.float64), np.atleast_2d(np.asarray(g, np.float64))
    if t.ndim != 1 or len(t) < 3:
        raise ValueError(f"times must have shape (n,) with n >= 3; got {t.shape}")
    if y.ndim != 2 or y.shape[1] != len(t):
        raise ValueError(f"g must have shape ({len(t)},) or (cells, {len(t)}), like times; got {y.shape}")
    _check.finite(t, "times")
    _check.finite(y, "g")
    if not np.all(np.diff(t) > 0) or t[0] < 0:
        raise ValueError(f"times must be >= 0 and ascend; got {times}")
    if not np.all(y > 0):
        raise ValueError(f"g must be greater than 0, for its logarithm is fitted; got {y.min():g} S")
    siemens(y, "g")
    return t, y
