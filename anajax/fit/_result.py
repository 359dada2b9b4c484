"""What a fit returns, and how it tells that a model does not explain the data."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from anajax.fit._solve import Free, Moments, covariance, double, float_fields, look, place, solve

_ODDS = 1e-4  # of calling a right model wrong, for each test
_ROUNDING = 1e-6  # of the data: less is no misfit
_STRUCTURE = 0.05  # correlation, or share of the deviation, that does no harm, however sure it is


class PoorFit(UserWarning):
    """The model does not explain the data: do not trust its parameters, nor their errors."""


@dataclasses.dataclass(frozen=True, repr=False)
class Fit:
    """A fitted spec with its uncertainty, and what the model leaves unexplained.

    Attributes:
      spec: the fitted record.
      values: fitted value by dotted path of the spec; also what is not of the spec, such as the initial state.
      std: standard error by the same paths; `inf` where the data do not determine the value.
      names: of the rows of `covariance`: paths, with a place in brackets for elements of arrays.
      covariance: of the errors of the values, `[k, k]`.
      residual: what the model leaves, in units of its standard deviation; for a right model independent and of
        variance 1. Shaped as the data.
      rms: root mean square of the residuals, in the unit of the data.
      r2: 1 less their mean square over the variance of the data; `nan` where the data are not known.
      chi2: mean square of `residual` per degree of freedom where the noise was stated, else `None`.
      correlation: largest correlation of a residual with one up to ten places later in its series.
      reasons: what is wrong with the fit, in words; empty where nothing is.
      starts: how many starts found this optimum, of how many.
      notes: what else to know, in words.
    """

    spec: Any
    values: dict[str, Any]
    std: dict[str, Any]
    names: tuple[str, ...]
    covariance: np.ndarray
    residual: np.ndarray
    rms: float
    r2: float = float("nan")
    chi2: float | None = None
    correlation: float = 0.0
    reasons: tuple[str, ...] = ()
    starts: tuple[int, int] = (1, 1)
    notes: tuple[str, ...] = ()

    @property
    def explained(self) -> bool:
        """Whether the model explains the data: no test of the residuals found otherwise."""
        return not self.reasons

    def summary(self) -> str:
        """Return a table of values and standard errors, and the verdict, as text."""
        rows = []
        for path, value in self.values.items():
            for k, (v, s) in enumerate(zip(np.ravel(value), np.ravel(self.std[path]), strict=True)):
                name = f"{path}[{k}]" if np.ndim(value) else path
                rows.append(f"{name:28s} {v:14.6g} {f'{s:10.2g}' if np.isfinite(s) else 'not determined':>16s}")
        more = [f"starts: {self.starts[0]} of {self.starts[1]} found this optimum"] if self.starts[1] > 1 else []
        quality = f"rms residual {self.rms:.4g}" + ("" if np.isnan(self.r2) else f", R2 {self.r2:.6f}")
        quality += "" if self.chi2 is None else f", reduced chi-square {self.chi2:.3f}"
        verdict = ["explained: yes"] if self.explained else ["explained: NO", *(f"  - {r}" for r in self.reasons)]
        head = f"{type(self.spec).__name__:28s} {'value':>14s} {'standard error':>16s}"
        return "\n".join([head, *rows, quality, *more, *self.notes, *verdict])

    def __repr__(self) -> str:
        """Return the summary."""
        return self.summary()

    __str__ = summary


class Verdict(NamedTuple):
    """What the tests of the residuals found."""

    reasons: tuple[str, ...]
    correlation: float
    notes: tuple[str, ...] = ()


def judge(
    e: np.ndarray,
    parameters: float,
    chi2: tuple[float, float] | None = None,
    *,
    share: float = 1.0,
    done: bool = True,
) -> Verdict:
    """Test whether standardised residuals are what a right model leaves: independent, without a common course.

    A reason counts if chance alone gives it with odds of less than 1e-4, and if it is not too small to matter.

    Args:
      e: residuals in units of their standard deviation, `[..., n]`: series of n.
      parameters: how many were fitted to each series, on average.
      chi2: sum of squares and degrees of freedom where the noise is known.
      share: root mean square of the residuals as a share of the data: a millionth is rounding, and not tested.
      done: whether the fit converged.
    """
    if share < _ROUNDING:
        return Verdict((), 0.0, ("the data follow the model to rounding",))
    rows = e.reshape(-1, e.shape[-1])
    count, n = rows.shape
    reasons, correlation = [] if done else ["the fit did not converge"], 0.0
    total = float(np.sum(np.square(rows))) + 1e-300
    lags = range(1, min(10, n // 4) + 1)
    if lags and n >= 10 * parameters:
        r = np.array([float(np.sum(rows[:, k:] * rows[:, :-k])) / total * n / (n - k) for k in lags])
        q = rows.size * np.sum(np.square(r) * (1 - np.array(lags) / n))  # Box and Pierce's, of all series together
        worst = int(np.argmax(np.abs(r)))
        correlation = float(r[worst])
        if _tail(q, len(lags)) < _ODDS and abs(correlation) > _STRUCTURE + 2 * parameters / n:
            reasons.append(f"the residuals are not independent: correlation {correlation:.2f} at distance {worst + 1}")
    waves = min(8, (n - 1) // 3)
    rest = count * (n - waves - parameters)
    if waves and rest > 0:
        turns = np.outer(np.arange(n) + 0.5, np.arange(1, waves + 1)) / n
        slow = float(np.sum(np.square(rows @ np.cos(np.pi * turns)))) * 2 / n
        share = slow / total
        odds = _f_tail(slow / (count * waves) * rest / (total - slow + 1e-300), count * waves, rest)
        if odds < _ODDS and share > waves / n + _STRUCTURE:
            reasons.append(f"the residuals go in slow waves: {share:.0%} of their variance, by chance {waves / n:.0%}")
    if count >= 8 and n > parameters:
        course = np.mean(rows, axis=0)
        share = float(np.sqrt(np.mean(np.square(course))))
        if _tail(count * np.sum(np.square(course)), n - parameters) < _ODDS and share > 3 * _STRUCTURE:
            reasons.append(f"the {count} series share a course that the model has not: {share:.2f} standard deviations")
    if chi2 is not None and _tail(*chi2) < _ODDS and chi2[0] > 1.1 * chi2[1]:
        reasons.append(f"the residuals are {np.sqrt(chi2[0] / chi2[1]):.2g} times the stated noise")
    few = n < 10 * parameters and count < 8 and chi2 is None and not reasons
    notes = ("fewer than 10 data for each parameter: a wrong model might not be told",) if few else ()
    return Verdict(tuple(reasons), correlation, notes)


def _tail(x: float, degrees: float) -> float:
    """Return the probability that chi-square of these degrees of freedom exceeds `x`."""
    with jax.enable_x64(True):
        return float(jax.scipy.special.gammaincc(degrees / 2, x / 2))


def _f_tail(x: float, upper: float, lower: float) -> float:
    """Return the probability that the F distribution of these degrees of freedom exceeds `x`."""
    with jax.enable_x64(True):
        return float(jax.scipy.special.betainc(lower / 2, upper / 2, lower / (lower + upper * x)))


def warn(reasons: Sequence[str], model: str, depth: int = 3) -> None:
    """Warn of a poor fit, as seen from the user's call."""
    if reasons:
        warnings.warn(f"{model} does not explain the data: {'; '.join(reasons)}", PoorFit, stacklevel=depth + 1)


def jittered(z: np.ndarray, noisy: np.ndarray, starts: int, seed: int) -> np.ndarray:
    """Return `z` and `starts - 1` copies of it, moved: noises by a factor of about 4, all else by less."""
    size = np.where(noisy, 1.5, 0.5 * np.where(np.abs(z) > 1, 1.0, np.maximum(np.abs(z), 0.2)))
    return np.concatenate([z[None], z + size * np.random.default_rng(seed).normal(size=(starts - 1, len(z)))])


class Best(NamedTuple):
    """The best of several starts: coordinates, residuals and their log-variances `[n]`, and its errors."""

    z: np.ndarray
    r: np.ndarray
    log: np.ndarray
    covariance: np.ndarray
    lost: np.ndarray
    starts: tuple[int, int]
    done: bool
    shape: tuple[int, ...]


def best(
    moments: Moments, spec: Any, free: Free, z: np.ndarray, noise: Sequence[str], data: Any, reverse: bool
) -> Best:
    """Fit from every start `z` `[b, k]` and return the likeliest; `noise` are the paths that set the noise."""
    noisy = np.array([name.split("[")[0] in noise for name in free.names], bool)
    solved = solve(look(moments, free, spec, data, reverse=reverse), z, noisy)
    with jax.enable_x64(True):
        values, fixed = free.values(z[0]), double(spec)
        shape = jax.eval_shape(lambda v, d: moments(place(fixed, v), v, d)[0], values, double(data)).shape
    k = int(np.argmin(np.where(solved.done, solved.cost, solved.cost + 1e9)))
    seen = type(solved.seen)(*(a[k : k + 1] for a in solved.seen))
    spread, lost = covariance(seen, noisy)
    unmoved = np.all(seen.dr[0] == 0, axis=0) & np.all(seen.dlog[0] == 0, axis=0)  # the data know nothing of these
    solved.z[k, unmoved] = z[0, unmoved]
    agree = int(np.sum(solved.cost < solved.cost[k] + 0.1))
    return Best(solved.z[k], seen.r[0], seen.log[0], spread[0], lost[0], (agree, len(z)), bool(solved.done[k]), shape)


def fitted(spec: Any, free: Free, found: Best, **more: Any) -> Fit:
    """Return the `Fit` of the best start; `more` are its fields of quality."""
    slopes = free.slopes(found.z)
    cov = found.covariance * slopes[:, None] * slopes
    cov[found.lost, :], cov[:, found.lost] = 0.0, 0.0
    cov[found.lost, found.lost] = np.inf
    values = free.values(found.z)
    errors = np.split(np.sqrt(np.diag(cov)), np.cumsum(free.sizes)[:-1])
    std = {p: tidy(s.reshape(shape)) for p, shape, s in zip(free.paths, free.shapes, errors, strict=True)}
    return Fit(
        spec=with_values(spec, values),
        values={p: tidy(v) for p, v in values.items()},
        std=std,
        names=free.names,
        covariance=cov,
        starts=found.starts,
        **more,
    )


def with_values(spec: Any, values: Mapping[str, Any]) -> Any:
    """Return `spec` with those of `values` that are its fields, in the precision that these have."""
    own = float_fields(spec)
    return place(spec, {p: jax.numpy.asarray(v, own[p].dtype) for p, v in values.items() if p in own})


def tidy(x: np.ndarray) -> Any:
    """Return a number for an array of one, else the array."""
    return float(x) if np.ndim(x) == 0 else x
