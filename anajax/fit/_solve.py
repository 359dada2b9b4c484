"""The solver behind all fits: a Gaussian model of the residuals, its parameters in free coordinates, their errors.

A model gives residuals r and logarithms l of their variances. The fields that set the mean solve weighted least
squares, sum_k exp(-l_k) r_k dr_k = 0, by Levenberg and Marquardt's method, batched over starts or over cells; the
fields that set the noise have the largest restricted likelihood, which allows for what the fit of the mean took from
the residuals. Both are found in turn.

Calculus runs compiled and in float64, whatever the session's precision; the algebra of the few parameters is NumPy's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from anajax._record import Record, map_fields

#: `moments(spec, values, data) -> r, log`: residuals and logarithms of their variances, of one shape `[..., n]`
Moments = Callable[[Any, dict[str, Any], Any], tuple[Any, Any]]

_ROUNDS = 60  # of fitting the mean and the noise in turn
_STEPS = 8  # of the mean in one round, of several starts
_CLOSE = 1e-6  # gain of log-likelihood that is not worth a step: 1.4e-3 standard errors
_DONE = 0.1  # gain that may be missed by what counts as converged: 0.4 standard errors
_ASTRAY = 0.7  # logarithm of how many times the usual noise a cell may have that the shared noise is told from
_STUCK = 1e6  # damping at which a member is at a kink, and goes nowhere
_MOST = 0.95  # of cells that must have settled: the others are at kinks, and creep
_STILL = 1e-4  # change of log-likelihood from round to round at which the noise has settled


class Free(NamedTuple):
    """The fitted quantities: a record's fields by dotted path, and others by name, in unbounded coordinates.

    Within (low, inf) the coordinate is the logarithm of the distance to the bound, within (low, high) the logit.
    """

    paths: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """How many coordinates each quantity has."""
        return [int(np.prod(s)) for s in self.shapes]

    @property
    def names(self) -> tuple[str, ...]:
        """One name for each coordinate: the path, with a place in brackets for an element of an array."""
        parts = zip(self.paths, self.shapes, self.sizes, strict=True)
        return tuple(f"{p}[{k}]" if shape else p for p, shape, n in parts for k in range(n))

    def coordinates(self, values: Mapping[str, Any]) -> np.ndarray:
        """Return the coordinates of `values`; a value on a bound is moved off it."""
        parts = [_free(np.asarray(values[p], float).ravel(), *b) for p, b in zip(self.paths, self.bounds, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def values(self, z: Any) -> dict[str, Any]:
        """Return the values at coordinates `z`, by path: NumPy's of NumPy's, else of JAX."""
        ends = np.cumsum([0, *self.sizes])
        rows = zip(self.paths, self.bounds, self.shapes, ends[:-1], ends[1:], strict=True)
        return {path: _bound(z[a:b], *bounds).reshape(shape) for path, bounds, shape, a, b in rows}

    def slopes(self, z: np.ndarray) -> np.ndarray:
        """Return the derivative of each value by its coordinate."""
        ends = np.cumsum([0, *self.sizes])
        parts = [_slope(z[a:b], *bounds) for bounds, a, b in zip(self.bounds, ends[:-1], ends[1:], strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0)


def _bound(z: Any, low: float, high: float) -> Any:
    exp = np.exp if isinstance(z, np.ndarray) else jnp.exp
    if math.isfinite(low) and math.isfinite(high):
        return low + (high - low) / (1 + exp(-z))
    if math.isfinite(low):
        return low + exp(z)
    return high - exp(z) if math.isfinite(high) else z


def _slope(z: np.ndarray, low: float, high: float) -> np.ndarray:
    if math.isfinite(low) and math.isfinite(high):
        return (high - low) / (2 + np.exp(z) + np.exp(-z))
    if math.isfinite(low):
        return np.exp(z)
    return -np.exp(z) if math.isfinite(high) else np.ones_like(z)


def _free(x: np.ndarray, low: float, high: float) -> np.ndarray:
    if math.isfinite(low) and math.isfinite(high):
        share = np.clip((x - low) / (high - low), 0.01, 0.99)
        return np.log(share / (1 - share))
    if not math.isfinite(low) and not math.isfinite(high):
        return x
    off = x - low if math.isfinite(low) else high - x
    # a value on its bound starts at a thousandth: of its neighbours in an array, or of one
    return np.log(np.where(off > 0, off, 1e-3 * (np.max(off, initial=0.0) or 1.0)))


def free(spec: Record, fields: tuple[str, ...], more: Mapping[str, tuple[Any, float]] | None = None) -> Free:
    """Return the coordinates of `fields` of a record, and of `more` quantities, name -> (value, lower bound)."""
    values = float_fields(spec)
    for path in fields:
        if path not in values:
            allowed = f"float fields of {type(spec).__name__} that are not None, {', '.join(values)}"
            raise ValueError(f"fields must be among the {allowed}; got {path!r}")
    rows = [(p, _allowed(spec, p), values[p].shape) for p in fields]
    rows += [(name, (low, math.inf), np.shape(value)) for name, (value, low) in (more or {}).items()]
    return Free(*(tuple(column) for column in zip(*rows, strict=True))) if rows else Free((), (), ())


def float_fields(spec: Record) -> dict[str, Any]:
    """Return every float field of a record that is not `None`, by dotted path."""
    found: dict[str, Any] = {}
    map_fields(lambda path, x: found.setdefault(path, x), spec)
    return found


def named(fields: Sequence[str]) -> tuple[str, ...]:
    """Return the names of fields; a string is no sequence of them."""
    if isinstance(fields, str):
        raise TypeError(f"fields must be a sequence of names, such as ({fields!r},); got {fields!r}")
    return tuple(fields)


def _allowed(spec: Any, path: str) -> tuple[float, float]:
    """Return the lower and the upper bound that a field was declared with."""
    *above, name = path.split(".")
    for part in above:
        spec = spec[int(part)] if isinstance(spec, tuple) else getattr(spec, part)
    allowed = {f.name: f.metadata for f in dataclasses.fields(spec)}[name].get("allowed", {})
    return allowed.get("ge", allowed.get("gt", -math.inf)), allowed.get("le", allowed.get("lt", math.inf))


def place(spec: Any, values: Mapping[str, Any]) -> Any:
    """Return `spec` with `values` in the place of its fields of these paths."""
    return map_fields(lambda path, x: values.get(path, x), spec)


def double(tree: Any) -> Any:
    """Return a pytree with its arrays in NumPy's float64."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


class Seen(NamedTuple):
    """Residuals and log-variances `[b, n]` of a batch, and their derivatives `[b, n, k]`."""

    r: np.ndarray
    log: np.ndarray
    dr: np.ndarray
    dlog: np.ndarray


@functools.partial(jax.jit, static_argnames=("moments", "coordinates", "each", "reverse"))
def _look(moments: Moments, coordinates: Free, each: bool, reverse: bool, spec: Any, data: Any, z: Any) -> Any:
    def both(z: Any, data: Any) -> Any:
        values = coordinates.values(z)
        r, log = moments(place(spec, values), values, data)
        y = jnp.ravel(r), jnp.ravel(jnp.broadcast_to(log, jnp.shape(r)))
        return y, y

    slopes = (jax.jacrev if reverse else jax.jacfwd)(both, has_aux=True)
    (dr, dlog), (r, log) = jax.vmap(slopes, in_axes=(0, 0 if each else None))(z, data)
    return r, log, dr, dlog


def look(
    moments: Moments, coordinates: Free, spec: Any, data: Any, *, each: bool = False, reverse: bool = False
) -> Callable[[np.ndarray], Seen]:
    """Return the function of coordinates `[b, k]` that the solver works on.

    Args:
      moments: the model.
      coordinates: what is fitted.
      spec: record with all that is not.
      data: pytree, with a leading axis `b` where `each`.
      each: whether each of the batch has its own data.
      reverse: whether to differentiate in reverse mode.
    """
    spec, data = double(spec), double(data)

    def run(z: np.ndarray) -> Seen:
        with jax.enable_x64(True):
            return Seen(*(np.asarray(a) for a in _look(moments, coordinates, each, reverse, spec, data, z)))

    return run


class Solved(NamedTuple):
    """Coordinates `[b, k]`, what is seen there, minus log-likelihoods `[b]`, and whether each has converged `[b]`."""

    z: np.ndarray
    seen: Seen
    cost: np.ndarray
    done: np.ndarray


@np.errstate(all="ignore")  # a member that goes astray is left behind, with whatever it overflows
def solve(
    run: Callable[[np.ndarray], Seen],
    z: np.ndarray,
    noisy: np.ndarray,
    batch: str = "starts",
    law: np.ndarray | None = None,
) -> Solved:
    """Fit every member of a batch.

    Args:
      run: from `look`.
      z: starting coordinates `[b, k]`.
      noisy: which coordinates set the noise `[k]`.
      batch: what the batch is: `"starts"`, of which the best is wanted, `"cells"`, or `"alike"`, cells that share
        their noise.
      law: which coordinates of the mean cells that are alike share, too.
    """
    law = np.zeros_like(noisy) if law is None else law
    pooled = batch == "alike"
    seen, damping = run(z), np.full(len(z), 1e-3)
    if not np.any(np.isfinite(_cost(seen))):
        raise ValueError(
            "the model has no finite residuals where the fit starts: mind units, or start from another spec"
        )
    cost = _cost(seen)
    for k in range(_ROUNDS):
        z, seen, damping, gain = _fit_mean(run, z, seen, ~(noisy | law), damping, batch != "starts")
        settled = (gain < _CLOSE) | (damping > _STUCK)
        if law.any():
            z, seen, more = _fit_law(run, z, seen, ~(noisy | law), law)
            settled &= more < _STILL
        if noisy.any():
            step, more = _noise_step(run, z, seen, noisy, ~(noisy | law), pooled)
            before, cost = cost, _cost(seen)
            still = (np.abs(cost - before) < _STILL) & (k > 0)  # at first no noise has moved yet
            settled &= (more < _STILL) if pooled else (more < _CLOSE) | still
        if _enough(settled, cost, batch != "starts", k):
            break
        if noisy.any():
            z = z.copy()
            z[:, noisy] = np.clip(z[:, noisy] + step, -40.0, 40.0)
            seen, damping = run(z), np.where(damping > _STUCK, 1e3, damping)
    cost = _cost(seen)
    return Solved(z, seen, cost, (gain < _DONE) & np.isfinite(cost))


def _enough(settled: np.ndarray, cost: np.ndarray, cells: bool, k: int) -> bool:
    """Return whether round `k` may be the last: cells have all settled but a few; so has the best of the starts."""
    if cells:
        return bool(np.mean(settled) > _MOST)
    rivals = cost < np.min(cost) + 10.0
    return bool(settled[rivals].all() or (settled[np.argmin(cost)] and k > _ROUNDS // 3))


def _cost(seen: Seen) -> np.ndarray:
    """Return minus the log-likelihood of each member, infinite for one that went astray."""
    cost = 0.5 * np.sum(np.square(seen.r) * np.exp(-seen.log) + seen.log, axis=1)
    return np.where(np.isfinite(cost), cost, np.inf)


def _fit_mean(
    run: Any, z: np.ndarray, seen: Seen, mean: np.ndarray, damping: np.ndarray, cells: bool
) -> tuple[np.ndarray, Seen, np.ndarray, np.ndarray]:
    """Take a few damped steps of least squares, weights as they stand; each member its own."""
    gain = np.zeros(len(z))
    if not mean.any():
        return z, seen, damping, gain
    steps, close, most = (3, _CLOSE, _MOST) if cells else (_STEPS, 0.1 * _CLOSE, 0.999)
    for _ in range(steps):
        weight = np.exp(-seen.log)
        a, g = normal(seen.dr[..., mean], seen.r, weight)
        size = np.einsum("bii->bi", a) + 1e-300
        step = -_solve_scaled(a, g, size, damping)
        gain = 0.5 * np.abs(np.sum(step * g, axis=1)) * (1 + damping)
        if np.mean((gain < close) | (damping > _STUCK)) > most:
            break
        trial = z.copy()
        trial[:, mean] += np.clip(step, -2.0 - 0.5 * np.abs(z[:, mean]), 2.0 + 0.5 * np.abs(z[:, mean]))
        there = run(trial)
        before, after = (np.sum(weight * np.square(s.r), axis=1) for s in (seen, there))
        whole = np.all(np.isfinite(there.log), axis=1) & np.all(np.isfinite(there.dr), axis=(1, 2))
        better = (after <= before * (1 + 1e-13)) & whole
        z = np.where(better[:, None], trial, z)
        pairs = zip(there, seen, strict=True)
        seen = Seen(*(np.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old) for new, old in pairs))
        damping = np.clip(np.where(better, damping / 5, damping * 6), 1e-12, 1e10)
    return z, seen, damping, gain


def _fit_law(
    run: Callable[[np.ndarray], Seen], z: np.ndarray, seen: Seen, own: np.ndarray, law: np.ndarray
) -> tuple[np.ndarray, Seen, float]:
    """Take one step of least squares in what all cells share, each cell following with its own; return its gain too."""
    weight = np.exp(-seen.log)
    a, g = normal(seen.dr, seen.r, weight)
    inverse, _ = pseudo_inverse(a[:, own][:, :, own])
    across = np.swapaxes(a[:, own][:, :, law], 1, 2) @ inverse
    information = np.sum(a[:, law][:, :, law] - across @ a[:, own][:, :, law], axis=0)
    score = np.sum(g[:, law] - np.einsum("bij,bj->bi", across, g[:, own]), axis=0)
    shared = -pseudo_inverse(information[None])[0][0] @ score
    step = np.zeros_like(z)
    step[:, law] = shared
    step[:, own] = -np.einsum("bij,bj->bi", inverse, g[:, own] + a[:, own][:, :, law] @ shared)
    before = np.sum(weight * np.square(seen.r))
    for part in (1.0, 0.3, 0.1, 0.03):
        there = run(z + part * step)
        if np.sum(weight * np.square(there.r)) < before and np.all(np.isfinite(there.dr)):
            return z + part * step, there, 0.5 * abs(float(shared @ score))
    return z, seen, 0.0


def normal(j: np.ndarray, r: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return J' W J `[b, k, k]` and J' W r `[b, k]`; zeros for a member without finite residuals."""
    root = np.sqrt(weight)
    j, r = j * root[..., None], r * root
    good = np.all(np.isfinite(j), axis=(1, 2)) & np.all(np.isfinite(r), axis=1)
    j, r = np.where(good[:, None, None], j, 0.0), np.where(good[:, None], r, 0.0)
    t = np.swapaxes(j, 1, 2)
    return t @ j, (t @ r[..., None])[..., 0]


def _solve_scaled(a: np.ndarray, g: np.ndarray, size: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Solve (a + damping diag a) x = g, each coordinate in its own scale."""
    root = np.sqrt(size)
    scaled = a / (root[:, :, None] * root[:, None, :]) + damping[:, None, None] * np.eye(a.shape[1])
    scaled = scaled + 1e-12 * np.eye(a.shape[1])
    return np.linalg.solve(scaled, (g / root)[..., None])[..., 0] / root


def _noise_step(
    run: Callable[[np.ndarray], Seen], z: np.ndarray, seen: Seen, noisy: np.ndarray, mean: np.ndarray, pooled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return a step of the noise by Fisher's scores `[b, q]`, and the log-likelihood that it may gain."""
    weight, dlog, dr = np.exp(-seen.log), seen.dlog[..., noisy], seen.dr[..., noisy]
    square = np.square(seen.r) * weight
    score = 0.5 * np.einsum("bnk,bn->bk", dlog, square - 1) - np.einsum("bnk,bn->bk", dr, weight * seen.r)
    information = normal(dr, seen.r, weight)[0] + 0.5 * np.swapaxes(dlog, 1, 2) @ dlog
    ours = np.any(dlog != 0, axis=-1)  # the data whose noise is fitted
    freedom = np.sum(ours, 1) - np.sum(np.any(seen.dr[..., mean] != 0, axis=1), 1)
    scale = np.clip(0.5 * np.log(np.sum(square * ours, 1) / np.maximum(freedom, 1) + 1e-300), -5, 5)
    good = np.isfinite(scale) & np.all(np.isfinite(score), axis=1) & np.all(np.isfinite(information), axis=(1, 2))
    if pooled:  # a cell that went astray does not tell the noise of the others
        good &= scale < np.median(scale[good]) + _ASTRAY
        scale = np.full(len(z), np.median(scale[good]))
    # where all noises together are a scale, the scale comes first: scores alone would creep down to a small one
    far = (np.mean(np.abs(dlog.sum(-1) - 2) * ours, axis=1) < 0.1) & (np.abs(scale) > 0.1)
    if pooled:
        far[:] = np.mean(far[good]) > 0.5

    def move(score: np.ndarray) -> np.ndarray:
        total = np.broadcast_to(score.sum(0), score.shape) if pooled else score
        return np.clip((inverse @ total[..., None])[..., 0], -1.0, 1.0)

    score, information = np.where(good[:, None], score, 0.0), np.where(good[:, None, None], information, 0.0)
    inverse, _ = pseudo_inverse(information.sum(0, keepdims=True) if pooled else information)
    step = move(score)
    if np.any(np.all(np.abs(step) < 0.3, axis=1) & ~far):  # dear, and of no use before
        score = score - np.where(good[:, None], _taken(run, z, seen, noisy, mean, weight), 0.0)
        step = move(score)
    score = np.broadcast_to(score.sum(0), score.shape) if pooled else score
    gain = np.where(far, np.sum(ours, 1) * scale**2, 0.5 * np.abs(np.sum(step * score, 1)))
    return np.where(far[:, None], scale[:, None], step), gain


def _taken(run: Any, z: np.ndarray, seen: Seen, noisy: np.ndarray, mean: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the slope by each noise of half the log-determinant of the information of the mean `[b, q]`.

    It stands for what the fit of the mean has taken from the residuals, and comes from differences.
    """
    a, _ = normal(seen.dr[..., mean], seen.r, weight)
    inverse, _ = pseudo_inverse(a)
    slopes, step = [], 1e-5
    for k in np.flatnonzero(noisy):
        there = run(z + step * (np.arange(z.shape[1]) == k))
        moved, _ = normal(there.dr[..., mean], there.r, np.exp(-there.log))
        slopes.append(0.5 * np.einsum("bij,bji->b", inverse, moved - a) / step)
    return np.stack(slopes, axis=1)


def pseudo_inverse(a: np.ndarray, smallest: float = 1e-11) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse of information matrices `[b, k, k]`, and which coordinates they do not determine `[b, k]`.

    Matrices are scaled to unit diagonals; directions whose eigenvalue is below `smallest` count as undetermined.
    """
    root = np.sqrt(np.einsum("bii->bi", a))
    seen = root > 0
    root = np.where(seen, root, 1.0)
    values, vectors = np.linalg.eigh(a / (root[:, :, None] * root[:, None, :]))
    keep = values > smallest
    inverse = (vectors * np.where(keep, 1 / np.where(keep, values, 1.0), 0.0)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    lost = np.sum(np.square(vectors) * ~keep[:, None, :], axis=2) > 1e-6
    return inverse / (root[:, :, None] * root[:, None, :]), lost | ~seen


@np.errstate(all="ignore")
def covariance(seen: Seen, noisy: np.ndarray, pooled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance of the coordinates' errors `[b, k, k]`, and which are undetermined `[b, k]`.

    At the fit the scores of the mean, s = J' W r, and of the noise, t, vanish. Their errors come from the covariance
    [[a, c], [c', d]] of the scores, through their derivatives [[a, c], [c' + carry, d]]: an error of the mean carries
    over to the noise by the variances that depend on it. Where `pooled`, members share the noise, whose error is then
    left out of that of their means.
    """
    weight, mean = np.exp(-seen.log), ~noisy
    both, _ = normal(seen.dr, seen.r, weight)
    logs = 0.5 * np.swapaxes(seen.dlog, 1, 2) @ seen.dlog
    a, c, d = both[:, mean][:, :, mean], both[:, mean][:, :, noisy], (both + logs)[:, noisy][:, :, noisy]
    inverse, lost = pseudo_inverse(a)
    back = (np.swapaxes(c, 1, 2) + logs[:, noisy][:, :, mean]) @ inverse  # t - back s is free of the mean
    slope = d - back @ c
    spread = slope - np.swapaxes(back @ c, 1, 2) + back @ a @ np.swapaxes(back, 1, 2)
    if pooled:
        slope, spread = slope.sum(0, keepdims=True), spread.sum(0, keepdims=True)
    turn, unseen = _inverse(slope)
    of_noise = turn @ spread @ np.swapaxes(turn, 1, 2)
    joint = (c - a @ np.swapaxes(back, 1, 2)) @ np.swapaxes(turn, 1, 2) * (0.0 if pooled else 1.0)  # of s and the noise
    through = c @ joint.swapaxes(1, 2)
    of_mean = inverse
    if not pooled:
        of_mean = inverse @ (a - through - through.swapaxes(1, 2) + c @ of_noise @ c.swapaxes(1, 2)) @ inverse
    cross = inverse @ (joint - c @ of_noise) * (0.0 if pooled else 1.0)
    order = np.argsort(np.concatenate([np.flatnonzero(mean), np.flatnonzero(noisy)]))
    of_noise = np.broadcast_to(of_noise, (len(a), *of_noise.shape[1:]))
    full = np.concatenate([np.concatenate([of_mean, cross], 2), np.concatenate([cross.swapaxes(1, 2), of_noise], 2)], 1)
    vague = np.concatenate([lost, np.broadcast_to(unseen, (len(a), unseen.shape[1]))], axis=1)
    return full[:, order][:, :, order], vague[:, order]


def _inverse(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse of matrices that are nearly symmetric, and which of their rows are zero."""
    size = np.sqrt(np.abs(np.einsum("bii->bi", a)))
    root = np.where(size > 0, size, 1.0)
    scaled = a / (root[:, :, None] * root[:, None, :]) + np.eye(a.shape[1]) * (size == 0)[:, None, :]
    return np.linalg.pinv(scaled, rcond=1e-11) / (root[:, :, None] * root[:, None, :]), size == 0
