"""From the pulse-response curves of many cells to a device with its spread from cell to cell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax.devices.device import Cells
from anajax.devices.pulsed import StepResponse
from anajax.fit import _result, _solve, pulses
from anajax.fit._result import Fit, tidy
from anajax.fit._solve import Seen

_UNIT = 0.1  # spread that one unit of a score stands for while cells are fitted
_HOLD = 30.0  # standard deviation of the pull of scores to zero, in such units: three times the mean
_WORST = 5.0  # error of a score, in such units, beyond which a cell does not determine it: half of the mean
_SINGLE = 40  # cells that are fitted alone, to start from
_PASSES = 5  # of moving the mean cell
_ASTRAY = 0.1  # of cells that need not converge


def population(
    device: StepResponse,
    directions: ArrayLike,
    responses: ArrayLike,
    *,
    conductance: bool = False,
    window: tuple[float, float] | None = None,
    fields: Sequence[str] | None = None,
    noise: float | None = None,
) -> Fit:
    """Fit a device with its spread from cell to cell to the curves of many cells that had the same pulses.

    A few dozen cells are fitted alone, to start from a typical one. Then each cell's own deviations
    (its standard scores) are fitted to its own curve, with noise that all cells share, and the mean cell moves until
    the mean score is zero. What the cells' estimates vary by is the spread from device to device plus the error of
    each estimate; the mean variance of these errors is subtracted. Fields without a spread, such as the exponents of
    `ExpStep`, are shared like the noise; of such a device, bounds that are not fitted do not vary. (In `NeuroSim`,
    `SoftBoundsPmax`, `PiecewiseStep` and `TableStep`, whose step is no field or is
    held, they keep the medians of single cells.)

    Standard errors come from the variation of the cells, whatever its distribution (those of spreads are at least
    as of normal cells), and shrink as one over the root of their number. A spread that is no larger than the errors
    of the estimates becomes `None`.

    Args:
      device: where to start, and all that is not fitted; without reference, leak, drift or wear.
      directions: direction of each pulse, > 0 up, < 0 down, shape `[n]`.
      responses: state of each cell after each, or conductance [S], shape `[cells, n]`, at least 8 cells.
      conductance: whether responses are conductances [S] rather than states.
      window: conductances [S] that stand for `x_min` and `x_max` of `device`; by default the extremes of the mean
        curve.
      fields: what to fit, by default all that such curves can tell; what of it varies from cell to cell follows from
        the device.
      noise: standard deviation of one measurement, if known, in the unit of the responses.

    Returns:
      The `Fit`: a spec with `x_min_d2d`, `x_max_d2d`, `dx_d2d`, `up_down_d2d`, those of its law, `c2c` and
      `write_noise`. Memory is about 50 B for each cell, pulse and parameter, of which there are about eight.

    Raises:
      ValueError: for data or fields that cannot be fitted.

    Warns:
      PoorFit: where the device does not explain the curves.
    """
    d, y = pulses.curves(device, directions, responses)
    if len(y) < 8:
        raise ValueError(f"responses must have at least 8 cells, shape (cells, pulses); got {np.shape(responses)}")
    scale = pulses.Scale.of(device, y.mean(0), conductance, window)
    x, known = scale.state(y), 0.0 if noise is None else noise / scale.slope
    mean, noises = pulses.default_fields(device, fields, noise)
    data = (np.broadcast_to(d, x.shape), x, np.full(len(x), np.hypot(known, pulses.RESOLUTION * np.ptp(x))))
    typical, fixed = _typical(pulses.with_noise(device, noises), data, mean, noises)
    found = _levels(typical, fixed, data, mean, noises, fields)
    found = scale.applied(dataclasses.replace(found, rms=found.rms * scale.slope))
    _result.warn(found.reasons, type(device).__name__)
    return found


class Spread(NamedTuple):
    """Mean and spread of what is known of cells with errors, `[k]` each.

    The shares `[cells, k]` are the cells' influences: an estimate is wrong by about the mean of its shares, so that
    the covariance of any estimates is that of their shares over the number of cells.
    """

    mean: np.ndarray
    variance: np.ndarray
    mean_shares: np.ndarray
    variance_shares: np.ndarray


def spread(scores: np.ndarray, errors: np.ndarray, good: np.ndarray | None = None) -> Spread:
    """Return mean and spread of estimates: the mean variance of their errors is subtracted from their variance.

    Source: the method of moments of DerSimonian & Laird, Control. Clin. Trials 7:177 (1986), without weights.

    Args:
      scores: estimates `[cells, k]`.
      errors: variance of the error of each `[cells, k]`.
      good: which of them to use `[cells, k]`, by default all.
    """
    used = np.ones(scores.shape) if good is None else good.astype(float)
    n = np.maximum(used.sum(0), 2.0)
    weight = used * len(scores) / n
    off = scores - np.mean(weight * scores, axis=0)
    squares = np.square(off) * n / (n - 1) - np.where(used > 0, errors, 0.0)
    variance = np.mean(weight * squares, axis=0)
    # few cells tell little of the tails of their distribution: no error less than that of normal cells
    shares, total = weight * (squares - variance), np.mean(weight * np.square(off), axis=0) * n / (n - 1)
    shares = shares * np.maximum(1.0, np.sqrt(2) * total / (np.std(shares, axis=0) + 1e-300))
    small = np.sqrt(n / (n - 1))
    return Spread(np.mean(weight * scores, axis=0), variance, small * weight * off, small * shares)


def _typical(device: Any, data: Any, mean: list[str], noises: list[str]) -> tuple[Any, dict[str, tuple[Any, Any]]]:
    """Return the device with the medians of single cells fitted alone, and these medians with their errors, by path."""
    some = jax.tree.map(lambda a: a[np.linspace(0, len(a) - 1, min(len(a), _SINGLE)).astype(int)], data)
    free = _solve.free(device, (*mean, *noises), {"x_0": (0.0, -math.inf)})
    own = {p: np.asarray(v, float) for p, v in _solve.float_fields(device).items()}
    z = np.stack([free.coordinates(own | pulses.look(device, d, x)) for d, x in zip(some[0], some[1], strict=True)])
    noisy = np.isin([n.split("[")[0] for n in free.names], noises)
    run = _solve.look(pulses.moments, free, device, some, each=True)
    solved = _solve.solve(run, z, noisy, "cells")
    z = solved.z[solved.done if solved.done.sum() >= 8 else np.isfinite(solved.cost)]
    middle = np.median(z, axis=0)
    wide = np.median(np.abs(z - middle), axis=0)
    # of a normal sample the deviation is 1.48 median deviations, and that of its median 1.25 errors of the mean
    errors = 1.253 * 1.483 * wide / np.sqrt(len(z)) * np.abs(free.slopes(middle))
    parts = np.split(errors, np.cumsum(free.sizes)[:-1])
    values = free.values(middle)
    known = {p: (tidy(values[p]), tidy(e.reshape(s))) for p, e, s in zip(free.paths, parts, free.shapes, strict=True)}
    if _shared(device, mean):  # medians of fields that stand in for each other need make no cell: take a real one
        quiet = z[np.argsort(z[:, noisy].sum(1))[: len(z) // 2]]  # a fit that went astray sees more noise
        off = np.abs(quiet - np.median(quiet, axis=0)) / (wide + 1e-12)
        values = free.values(quiet[np.argmin(off.sum(1))])
    return _result.with_values(device, values), {p: known[p] for p in mean}


def _shared(spec: Any, mean: list[str]) -> tuple[str, ...]:
    """Return the fields of the mean that have no spread, and are fitted to all cells together."""
    spreads = spec._spreads()
    return tuple(m for m in mean if m not in spreads) if "dx" in mean else ()


class _Fitted(NamedTuple):
    """Cells fitted around their mean.

    `values` are fields of the mean cell; `scores` and the variances `errors` of their estimates are `[cells, k]`,
    `good` says which are determined; `shared` are the coordinates of what all cells share, with their covariance;
    `moves` is how far the mean cell moves for one unit of each score; `reasons` say what did not converge.
    """

    values: dict[str, float]
    scores: np.ndarray
    errors: np.ndarray
    good: np.ndarray
    shared: np.ndarray
    shared_covariance: np.ndarray
    seen: Seen
    moves: np.ndarray
    reasons: tuple[str, ...]


def _levels(
    spec: Any, fixed: dict[str, Any], data: Any, mean: list[str], noises: list[str], fields: Sequence[str] | None
) -> Fit:
    """Fit cells and their mean in turn; leave out what the cells do not determine, and noise that they want none of."""
    names, lost = _varying(spec, mean, fields), []
    shared = _shared(spec, mean)
    if shared:  # a field that all share and the mean of a score that none moves might stand in for each other
        names = [n for n in names if n in mean]
    while True:
        start = pulses.with_noise(spec, noises).replace(**{_d2d(spec, n): _UNIT for n in names})
        found = _fit_cells(start, data, names, [n for n in names if n in mean], (*shared, *noises), noises)
        vague = [n for n, share in zip(names, found.good.mean(0), strict=True) if share < 0.5]
        own = np.sqrt(np.diag(found.shared_covariance))[-len(noises) :]
        unseen = pulses.faintest(dict(zip(noises, own, strict=True)))
        if vague:
            names, lost = [n for n in names if n not in vague], lost + vague
        elif unseen is not None and len(noises) > 1:
            noises, spec = [n for n in noises if n != unseen], spec.replace(**{unseen: None})
        else:
            return _report(pulses.with_noise(spec, noises), fixed, names, (*shared, *noises), found, data[1], lost)


def _varying(spec: Any, mean: list[str], fields: Sequence[str] | None) -> list[str]:
    """Return the names of the scores that can be told from curves: those whose spread has a field."""
    own = {f.name for f in dataclasses.fields(spec)}
    names = [n for n in spec._spreads() if _d2d(spec, n) in own and n not in ("rest", "reference", "drift")]
    if fields is not None:
        return [n for n in names if n in mean]
    return [n for n in names if n not in own or n in mean or float(getattr(spec, n)) != 0]


def _d2d(spec: Any, name: str) -> str:
    """Return the field of the spread of a score; some share one, such as `gamma_d2d`."""
    own = f"{name}_d2d"
    return own if hasattr(spec, own) else name.removesuffix("_up").removesuffix("_down") + "_d2d"


def _moments(spec: Any, values: dict[str, Any], data: Any) -> tuple[Array, Array]:
    """Return `pulses.moments` of one cell, and before these its scores, held ever so weakly to zero.

    By that a score comes back which its curve stops to depend on, such as a bound that it no longer meets.
    """
    r, log = pulses.moments(spec, values, data)
    held = jnp.array([v / _HOLD for name, v in values.items() if name.startswith("score.")], r.dtype)
    return jnp.concatenate([held, r]), jnp.concatenate([jnp.zeros_like(held), log])


def _fit_cells(
    spec: Any, data: Any, names: list[str], moving: list[str], shared: tuple[str, ...], noises: list[str]
) -> _Fitted:
    """Fit each cell's scores and the shared fields and noises; move the mean cell until the mean score is zero."""
    more = {f"score.{n}": (0.0, -math.inf) for n in names} | {"x_0": (0.0, -math.inf)}
    free = _solve.free(spec, shared, more)
    paths = [n.split("[")[0] for n in free.names]
    every, own, noisy = (np.isin(paths, part) for part in (shared, list(more)[:-1], noises))
    z = np.stack([free.coordinates(_first_look(spec, names, d, x)) for d, x in zip(data[0], data[1], strict=True)])
    values, at = {n: float(getattr(spec, n)) for n in moving}, [names.index(n) for n in moving]
    for _ in range(_PASSES):
        run = _solve.look(_moments, free, _solve.place(_solve.double(spec), values), data, each=True)
        solved = _solve.solve(run, z, noisy, "alike", every & ~noisy)
        z, (cov, lost) = solved.z.copy(), _solve.covariance(solved.seen, every, pooled=True)
        scores, errors = z[:, own], np.einsum("bii->bi", cov)[:, own]
        good = ~lost[:, own] & (errors < _WORST**2) & solved.done[:, None]
        moves = _moves(spec, values, moving)
        off = spread(scores, errors, good)
        far = np.abs(off.mean) > 0.05 * np.std(off.mean_shares, axis=0) / np.sqrt(len(scores))
        if good.mean(0).min(initial=1.0) < 0.5 or not far[at].any():
            break
        values = dict(zip(moving, np.array(list(values.values())) + moves @ off.mean[at], strict=True))
        z[:, np.flatnonzero(own)[at]] -= off.mean[at]
    # the errors of a cell that its curve does not determine are no small ones, and do not carry over to the noise
    sure = good.all(1) if good.all(1).any() else np.ones(len(z), bool)
    cov, _ = _solve.covariance(Seen(*(a[sure] for a in solved.seen)), every, pooled=True)
    lost_cells, wide = 1 - solved.done.mean(), np.std(off.mean_shares, axis=0) / np.sqrt(len(scores))
    reasons = [f"{lost_cells:.0%} of the cells did not converge"] if lost_cells > _ASTRAY else []
    reasons += (
        ["the mean cell did not settle"]
        if np.any(np.abs(off.mean) > wide, where=np.isin(range(len(names)), at))
        else []
    )
    shared_covariance = cov[0][np.ix_(every, every)]
    return _Fitted(values, scores, errors, good, z[0, every], shared_covariance, solved.seen, moves, tuple(reasons))


def _first_look(spec: Any, names: list[str], d: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Return values to start a cell from: its own bounds, else those of the mean cell."""
    looks = pulses.look(spec, d, x)
    scores = dict.fromkeys((f"score.{n}" for n in names), 0.0)
    for name in {"x_min", "x_max"} & set(names):
        scores[f"score.{name}"] = float(np.clip(looks[name] / float(getattr(spec, name)) - 1, -0.5, 0.5)) / _UNIT
    own = {p: np.asarray(v, float) for p, v in _solve.float_fields(spec).items()}
    return own | scores | {"x_0": looks["x_0"]}


def _moves(spec: Any, values: dict[str, float], moving: list[str]) -> np.ndarray:
    """Return how far the fields of the mean cell move for one unit of each score: `[k, k]`.

    That is found by what both do to a realised cell, so that it holds for any law.
    """
    fixed = _solve.double(spec)

    def cell(fields: Any, scores: Any) -> Any:
        placed = _solve.place(fixed, dict(zip(moving, fields, strict=True)))
        realised = placed.realise(Cells(scores=dict(zip(moving, scores, strict=True))))
        return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(realised)])

    with jax.enable_x64(True):
        at = jnp.asarray(list(values.values()), float), jnp.zeros(len(moving))
        by_field, by_score = (np.asarray(j) for j in jax.jacfwd(cell, argnums=(0, 1))(*at))
    return np.linalg.lstsq(by_field, by_score, rcond=None)[0]


def _report(
    spec: Any,
    fixed: dict[str, Any],
    names: list[str],
    shared: tuple[str, ...],
    found: _Fitted,
    x: np.ndarray,
    lost: list[str],
) -> Fit:
    """Return the `Fit`: means and spreads of the cells, what they share, and what was fitted to single ones."""
    at = [names.index(m) for m in found.values]
    over = spread(found.scores, found.errors, found.good)
    values: dict[str, Any] = dict(found.values)
    shares = [over.mean_shares[:, at] @ found.moves.T]
    absent = []
    for field in dict.fromkeys(_d2d(spec, m) for m in names):
        of = [k for k, m in enumerate(names) if _d2d(spec, m) == field]
        variance = float(over.variance[of].mean())
        if variance > 0:
            values[field] = _UNIT * np.sqrt(variance)
            shares.append(_UNIT * over.variance_shares[:, of].mean(1, keepdims=True) / (2 * np.sqrt(variance)))
        else:
            absent.append(field)
    free = _solve.free(spec, shared)
    own = free.values(found.shared)
    of_cells = np.concatenate([*shares, _carried(free, own, found.values, shares[0])], axis=1)
    covariance = of_cells.T @ of_cells / len(of_cells) ** 2
    slopes, k = free.slopes(found.shared), len(values)
    covariance[k:, k:] += found.shared_covariance * slopes[:, None] * slopes
    errors = np.sqrt(np.diag(covariance))
    std: dict[str, Any] = dict(zip(values, errors[:k].tolist(), strict=True))
    parts = np.split(errors[k:], np.cumsum(free.sizes)[:-1])
    std |= {p: tidy(e.reshape(shape)) for p, e, shape in zip(free.paths, parts, free.shapes, strict=True)}
    names_of_rows = (*values, *free.names)
    spec = _result.with_values(spec.replace(**values, **dict.fromkeys(absent)), own)
    values |= {p: tidy(v) for p, v in own.items()}
    held = {p: v for p, v in fixed.items() if p not in values}

    r, log = found.seen.r[:, len(names) :], found.seen.log[:, len(names) :]
    e = r * np.exp(-log / 2)
    rms = float(np.sqrt(np.mean(np.square(r))))
    verdict = _result.judge(e, len(names) + 1, share=rms / np.ptp(x))
    parts = zip(names, found.good.mean(0), strict=True)
    notes = [
        f"{name} and its spread are of the {p:.0%} of the cells that determine it" for name, p in parts if p < 0.95
    ]
    notes += [f"no spread seen, hence None: {', '.join(absent)}"] if absent else []
    notes += [f"the curves do not tell how cells differ in {', '.join(lost)}"] if lost else []
    return Fit(
        spec=spec,
        values=values | {p: v for p, (v, _) in held.items()},
        std=std | {p: s for p, (_, s) in held.items()},
        names=names_of_rows,
        covariance=covariance,
        residual=e,
        rms=rms,
        r2=1 - float(np.mean(np.square(r)) / np.var(x)),
        correlation=verdict.correlation,
        reasons=found.reasons + verdict.reasons,
        notes=tuple(notes),
    )


def _carried(free: Any, own: dict[str, Any], mean: dict[str, float], shares: np.ndarray) -> np.ndarray:
    """Return the cells' shares `[cells, k]` in what all share: write noise counts in mean steps, with their error."""
    carried = np.zeros((len(shares), len(free.names)))
    if "write_noise" in own and "dx" in mean:
        steps = shares[:, list(mean).index("dx")] / mean["dx"]
        carried[:, free.names.index("write_noise")] = -float(own["write_noise"]) * steps
    return carried
