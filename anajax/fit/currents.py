"""Fits of a residual of your own, of conduction laws to I-V sweeps, and of compact memristor models to transients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax._record import Record
from anajax.devices import conduction as laws
from anajax.devices.memristor import Drive, Memristor, Sampled, simulate
from anajax.fit import _result, _solve
from anajax.fit._result import Fit

# fields of a conduction law that are chosen, not fitted, or that say how cells differ
_CHOSEN = ("v_ref", "temperature", "low", "high", "std_c", "std_d", "correlation")


def least_squares(
    residual: Callable[..., Any],
    spec: Record,
    fields: Sequence[str] | None = None,
    *,
    args: tuple[Any, ...] = (),
    noise: ArrayLike | None = None,
    starts: int = 1,
    seed: int = 0,
    reverse: bool = False,
) -> Fit:
    """Fit any record by the squares of any residual.

    Fields that must be positive move in their logarithm, those between two bounds in their logit. All runs in float64.

    Args:
      residual: `residual(spec, *args)`, data less model, any shape; its last axis is the order in which residuals
        are tested for independence. Make it a function of a module and give the data by `args`, and it is compiled
        once for all data of one shape.
      spec: where to start, and all that is not fitted.
      fields: dotted paths of float fields, by default all that are not `None`.
      args: pytrees of float arrays.
      noise: standard deviation of the residuals, a number or of their shape; by default one for all is estimated,
        and is among the values as `"noise"`.
      starts: how many times the fit starts, from `spec` and around it.
      seed: of the starts.
      reverse: whether to differentiate in reverse mode: for models that know no other, and few residuals.

    Returns:
      The `Fit`.

    Raises:
      ValueError: for unknown fields, or where the residual is not finite at the start.

    Warns:
      PoorFit: where the model does not explain the data.

    Example:
      >>> import jax
      >>> from anajax.devices import conduction
      >>> v = jax.numpy.linspace(0.01, 0.5, 30)
      >>> i = conduction.Sinh(v_0=0.3).current(1e-6, v) * (1 + 0.01 * jax.random.normal(jax.random.key(0), (30,)))
      >>> found = least_squares(lambda law: law.current(1e-6, v) / i - 1, conduction.Sinh(v_0=2.0), ["v_0"])
      >>> found.explained, abs(found.values["v_0"] - 0.3) < 3 * found.std["v_0"]
      (True, True)
    """
    if noise is not None:
        _check.in_range(noise, "noise", gt=0)
    fields = tuple(_solve.float_fields(spec)) if fields is None else _solve.named(fields)
    known = None if noise is None else np.asarray(noise, np.float64)
    found = _fit(_Plain(residual), spec, fields, {}, (args, known), noise is None, starts, seed, reverse)
    _result.warn(found.reasons, type(spec).__name__)
    return found


@dataclasses.dataclass(frozen=True)
class _Plain:
    """The model of `least_squares`; equal for equal functions, so that it is compiled once."""

    residual: Callable[..., Any]

    def __call__(self, spec: Any, values: dict[str, Any], data: Any) -> tuple[Array, Array]:
        args, known = data
        return jnp.asarray(self.residual(spec, *args)), 2 * jnp.log(values["noise"] if known is None else known)


def _fit(
    moments: Any,
    spec: Any,
    fields: tuple[str, ...],
    more: Mapping[str, tuple[Any, float]],
    data: Any,
    noisy: bool,
    starts: int,
    seed: int,
    reverse: bool = False,
    measured: np.ndarray | None = None,
) -> Fit:
    """Fit `fields` and `more`, and a noise where `noisy`; `measured` is what R2 refers to."""
    if starts < 1:
        raise ValueError(f"starts must be at least 1; got {starts}")
    if not fields and not more:
        raise ValueError("fields must not be empty where all else is known: there is nothing to fit")
    extra = dict(more) | ({"noise": (1.0, 0.0)} if noisy else {})
    free = _solve.free(spec, fields, extra)
    first = free.coordinates(_solve.float_fields(spec) | {name: value for name, (value, _) in extra.items()})
    own = np.array([not name.startswith("noise") for name in free.names], bool)
    found = _result.best(moments, spec, free, _result.jittered(first, ~own, starts, seed), ("noise",), data, reverse)
    e = (found.r * np.exp(-found.log / 2)).reshape(found.shape)
    freedom = e.size - int(own.sum())
    chi2 = None if noisy else (float(np.sum(np.square(e))), freedom)
    series = e.size / e.shape[-1] if e.ndim else 1.0
    rms = float(np.sqrt(np.mean(np.square(found.r))))
    share = 1.0 if measured is None else rms / np.sqrt(np.mean(np.square(measured)))
    verdict = _result.judge(np.atleast_1d(e), own.sum() / series, chi2, share=share, done=found.done)
    return _result.fitted(
        spec,
        free,
        found,
        residual=e,
        rms=rms,
        r2=float("nan") if measured is None or not np.ptp(measured) else 1 - rms**2 / float(np.var(measured)),
        chi2=None if chi2 is None else chi2[0] / freedom,
        correlation=verdict.correlation,
        reasons=verdict.reasons,
        notes=verdict.notes,
    )


# --- I-V sweeps -------------------------------------------------------------------------------------------


def conduction(
    law: laws.Conduction,
    v: ArrayLike,
    i: ArrayLike,
    *,
    g: ArrayLike | None = None,
    fields: Sequence[str] | None = None,
    noise: float | None = None,
    floor: float = 0.0,
    starts: int = 4,
    seed: int = 0,
) -> Fit:
    """Fit a conduction law to one or more I-V sweeps, each of a cell of its own conductance.

    A current counts by its relative error, down to what the instrument tells: the standard deviation of a current I
    is `sqrt((noise I)**2 + floor**2)`. Points at zero volts tell nothing and are left out.

    Args:
      law: where to start, and all that is not fitted, such as `v_ref` and `temperature`.
      v: voltages [V], shape `[n]`.
      i: currents [A], shape `[n]` or `[sweeps, n]`.
      g: conductance of each sweep [S], if known; by default fitted, and among the values as `"g"`.
      fields: dotted paths of the fields to fit, such as `"coefficients.1.coefficients"`; by default all but those.
      noise: relative noise of a current, if known; by default estimated, and among the values as `"noise"`.
      floor: standard deviation of the instrument [A].
      starts: how many times the fit starts, from `law` and around it.
      seed: of the starts.

    Returns:
      The `Fit`.

    Raises:
      ValueError: for data or fields that cannot be fitted.

    Warns:
      PoorFit: where the law does not explain the sweeps.
    """
    if isinstance(law, laws.PooleFrenkelPopulation):
        raise TypeError("law must be that of one cell; fit a PooleFrenkelPopulation by fit.poole_frenkel_population")
    v, i = _sweeps(v, i)
    on = v != 0
    v, i = v[on], i[..., on]
    _check.in_range(floor, "floor", ge=0)
    if noise is not None:
        _check.in_range(noise, "noise", gt=0)
    if g is not None:
        _check.in_range(g, "g", gt=0)
        if np.shape(g) not in ((), i.shape[:-1]):
            raise ValueError(f"g must be a number or have shape {i.shape[:-1]}, one for each sweep; got {np.shape(g)}")
    outer = np.abs(v) >= np.median(np.abs(v))
    chord = np.median(i[..., outer] / v[outer], axis=-1)
    if g is None and not np.all(chord > 0):
        raise ValueError(f"i must have the sign of v at the larger voltages; got a chord of {np.min(chord):.3g} S")
    more = {"g": (chord, 0.0)} if g is None else {}
    fields = _law_fields(law) if fields is None else _solve.named(fields)
    known = None if g is None else np.asarray(g, np.float64)
    data = (v, i, known, None if noise is None else np.float64(noise), np.float64(floor))
    found = _fit(_sweep_moments, law, fields, more, data, noise is None, starts, seed, measured=i)
    _result.warn(found.reasons, type(law).__name__)
    return found


def _sweep_moments(law: Any, values: dict[str, Any], data: Any) -> tuple[Array, Array]:
    """Return errors of currents [A], and the logarithms of their variances."""
    v, i, g, noise, floor = data
    g = values["g"] if g is None else jnp.asarray(g)
    noise = values["noise"] if noise is None else noise
    model = law.current(g[..., None] if jnp.ndim(g) else g, v)
    variance = jnp.square(noise * model) + jnp.square(floor)
    return i - model, jnp.log(variance + 1e-60)


def _law_fields(law: Any) -> tuple[str, ...]:
    """Return the fields of a law that sweeps tell; of a polynomial's, those of higher order than the conductance's."""
    paths = [p for p in _solve.float_fields(law) if p.split(".")[-1] not in _CHOSEN]
    if isinstance(law, laws.Polynomial):
        return tuple(p for p in paths if law.orders[int(p.split(".")[1])] > 1)
    return tuple(paths)


def _sweeps(v: ArrayLike, i: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return voltages `[n]` and currents `[n]` or `[sweeps, n]`, checked."""
    volts, amps = np.asarray(v, np.float64), np.asarray(i, np.float64)
    if volts.ndim != 1 or len(volts) < 3:
        raise ValueError(f"v must have shape (n,) with n >= 3; got {volts.shape}")
    if amps.ndim not in (1, 2) or amps.shape[-1] != len(volts):
        raise ValueError(f"i must have shape ({len(volts)},) or (sweeps, {len(volts)}), like v; got {amps.shape}")
    _check.finite(volts, "v")
    _check.finite(amps, "i")
    return volts, amps


def poole_frenkel_population(
    v: ArrayLike,
    i: ArrayLike,
    *,
    temperature: float = laws.ROOM_TEMPERATURE,
    v_ref: float = 0.1,
    split: float | None = 12.9e3,
    spikes: float = 0.1,
) -> dict[str, Fit]:
    """Fit Poole-Frenkel populations to sweeps of many cells: how c and d_eps go with the resistance, and vary.

    Sweeps with a spike are left out: those whose second difference exceeds `spikes` times the mean of the sweep. The
    resistance is taken at `v_ref`. Each sweep's ln(i / v) is a line in sqrt(v), least squares of which give ln c and
    ln d_eps with their errors; a sweep whose slope is less than three of them is left out. Over the rest, both are
    lines in ln R; the covariance of the residuals, less the mean covariance of the sweeps' own errors, is that of
    the population. Source: the procedure of Joksas et al., Adv. Sci. 9:2105784 (2022), who fit currents rather than
    their logarithms and subtract nothing.

    Args:
      v: voltages [V], shape `[n]`; those above zero are used.
      i: currents [A], shape `[sweeps, n]`.
      temperature: of the cells [K].
      v_ref: where the resistance is taken [V].
      split: resistance [ohm] that parts cells into groups, by default the resistance quantum; `None` for one group.
      spikes: see above.

    Returns:
      The `Fit` of each group of at least 6 sweeps, by name: `"low"` and `"high"` resistance, or `"all"`.

    Raises:
      ValueError: for data that cannot be fitted, and where no group has enough sweeps.

    Warns:
      PoorFit: where a group does not follow the law.
    """
    volts, amps = _sweeps(v, i)
    for name, value in (("temperature", temperature), ("spikes", spikes), ("split", 1.0 if split is None else split)):
        _check.in_range(value, name, gt=0)
    if amps.ndim != 2:
        raise ValueError(f"i must have shape (sweeps, {len(volts)}); got {amps.shape}")
    if not volts.min() <= v_ref <= volts.max():
        raise ValueError(f"v_ref must lie within v, {volts.min():g} to {volts.max():g} V; got {v_ref:g}")
    order = np.argsort(volts)
    volts, amps = volts[order], amps[:, order]
    bend = np.max(np.abs(np.diff(amps, 2, axis=1)), axis=1) / np.mean(np.abs(amps), axis=1)
    volts, amps = volts[volts > 0], amps[:, volts > 0]
    smooth = (bend < spikes) & np.all(amps > 0, axis=1)
    r = np.array([v_ref / np.interp(v_ref, volts, row) for row in amps])
    groups = {"all": smooth} if split is None else {"low": smooth & (r < split), "high": smooth & (r >= split)}
    found = {name: _emission(volts, amps[at], r[at], temperature) for name, at in groups.items() if at.sum() >= 6}
    if not found:
        sizes = ", ".join(f"{at.sum()} {name}" for name, at in groups.items())
        raise ValueError(f"i must have at least 6 sweeps without spikes in a group; got {sizes}")
    for name, fit in found.items():
        _result.warn(fit.reasons, f"PooleFrenkelPopulation ({name})")
    return found


def _emission(v: np.ndarray, i: np.ndarray, r: np.ndarray, temperature: float) -> Fit:
    """Fit one group of sweeps `[sweeps, n]` of resistances `[sweeps]`."""
    x, y = np.sqrt(v), np.log(i / v)
    design = np.stack([np.ones_like(x), x], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    lines = y @ design @ inverse
    e = y - lines @ design.T
    noise = np.sum(np.square(e), axis=1) / (len(x) - 2)
    seen = lines[:, 1] > 3 * np.sqrt(noise * inverse[1, 1])
    if seen.sum() < 6:
        raise ValueError(f"i must bend in at least 6 sweeps of a group, to be told from Ohm's law; got {seen.sum()}")
    lines, noise, log_r = lines[seen], noise[seen], np.log(r[seen])
    ln_c, ln_d = lines[:, 0], 2 * np.log(laws._FIELD / temperature / lines[:, 1])
    slope = np.stack([np.zeros_like(noise), -2 / lines[:, 1]], axis=1)  # of ln d_eps by both
    turn = np.stack([np.tile([1.0, 0.0], (len(noise), 1)), slope], axis=1)
    errors = noise[:, None, None] * (turn @ inverse @ np.swapaxes(turn, 1, 2))

    ends = np.stack([log_r - log_r.mean(), np.ones_like(log_r)], axis=1)
    inner = np.linalg.inv(ends.T @ ends)
    both = np.stack([ln_c, ln_d], axis=1)
    laws_of_r = inner @ ends.T @ both  # [slope and value at the mean, c and d]
    rest = both - ends @ laws_of_r
    outer = rest[:, :, None] * rest[:, None, :] * len(rest) / (len(rest) - 2)
    own = np.mean(outer - errors, axis=0)
    values, std, covariance = _population(laws_of_r, inner, np.mean(outer, axis=0), own, outer - errors, log_r.mean())
    scaled = e[seen] / np.sqrt(noise)[:, None]
    verdict = _result.judge(scaled, 2)
    along = _result.judge(rest[np.argsort(log_r), 1] / np.std(rest[:, 1]), 2)  # both residuals go together
    reasons = (*verdict.reasons, *(f"over ln R: {text}" for text in along.reasons))
    notes = (f"{seen.sum()} of {len(seen)} sweeps bend enough to be used",) if not seen.all() else ()
    notes += verdict.notes
    return Fit(
        spec=laws.PooleFrenkelPopulation(temperature=temperature, **values),
        values=values,
        std=std,
        names=tuple(values),
        covariance=covariance,
        residual=scaled,
        rms=float(np.sqrt(np.mean(np.square(e[seen])))),
        r2=1 - float(np.mean(np.square(e[seen])) / np.var(y[seen])),
        correlation=verdict.correlation,
        reasons=reasons,
        notes=notes,
    )


def _population(
    lines: np.ndarray, inner: np.ndarray, seen: np.ndarray, own: np.ndarray, shares: np.ndarray, middle: float
) -> tuple[dict[str, float], dict[str, float], np.ndarray]:
    """Return values, standard errors and covariance of the fields of a `PooleFrenkelPopulation`."""
    back = np.array([[1.0, 0.0], [-middle, 1.0]])  # from the value at the mean of ln R to that at ln R = 0
    lines, inner = back @ lines, back @ inner @ back.T
    std_c, std_d = np.sqrt(np.maximum(np.diag(own), 0.0))
    both = std_c > 0 and std_d > 0
    correlation = float(np.clip(own[0, 1] / (std_c * std_d), -0.999, 0.999)) if both else 0.0
    off = shares - own
    parts = [off[:, k, k] / (2 * s) if s > 0 else np.zeros(len(off)) for k, s in enumerate((std_c, std_d))]
    by_std = correlation * (parts[0] / std_c + parts[1] / std_d) if both else 0.0
    parts.append(off[:, 0, 1] / (std_c * std_d) - by_std if both else np.zeros(len(off)))
    covariance = np.zeros((7, 7))
    covariance[:4, :4] = np.kron(seen, inner)
    spreads = np.stack(parts, axis=1)
    covariance[4:, 4:] = spreads.T @ spreads / len(off) ** 2
    names = ("c_slope", "c_offset", "d_slope", "d_offset", "std_c", "std_d", "correlation")
    numbers = (*lines[:, 0].tolist(), *lines[:, 1].tolist(), float(std_c), float(std_d), correlation)
    values: dict[str, float] = dict(zip(names, numbers, strict=True))
    return values, dict(zip(names, np.sqrt(np.diag(covariance)).tolist(), strict=True)), covariance


# --- transients -------------------------------------------------------------------------------------------


def memristor(
    model: Memristor,
    times: ArrayLike,
    volts: ArrayLike | Drive,
    currents: ArrayLike,
    fields: Sequence[str],
    *,
    noise: ArrayLike | None = None,
    starts: int = 1,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> Fit:
    """Fit a compact model to a measured transient: the current of one cell under a known voltage.

    Args:
      model: where to start, and all that is not fitted.
      times: ascending times [s], shape `[n]`.
      volts: voltages [V] at these times, with straight lines between, or a `Drive`.
      currents: measured currents [A], shape `[n]`.
      fields: dotted paths of the fields to fit; `"initial"` is the state at `times[0]`.
      noise: standard deviation of the currents [A], a number or of shape `[n]`; by default estimated.
      starts: how many times the fit starts, from `model` and around it.
      seed: of the starts.
      tolerance: of the solver; see `anajax.devices.memristor.simulate`.

    Returns:
      The `Fit`.

    Raises:
      ValueError: for data or fields that cannot be fitted.

    Warns:
      PoorFit: where the model does not explain the transient.
    """
    t, i = np.asarray(times, np.float64), np.asarray(currents, np.float64)
    if i.shape != t.shape:
        raise ValueError(f"currents must have the shape of times, {t.shape}; got {i.shape}")
    _check.finite(i, "currents")
    drive = volts if isinstance(volts, Drive) else Sampled(times=t, volts=volts)
    if noise is not None:
        _check.in_range(noise, "noise", gt=0)
    known = None if noise is None else np.asarray(noise, np.float64)
    data = ((drive, t, i, np.float64(tolerance)), known)
    found = _fit(_Plain(_transient), model, _solve.named(fields), {}, data, noise is None, starts, seed, measured=i)
    _result.warn(found.reasons, type(model).__name__)
    return found


def _transient(model: Any, drive: Any, times: Any, currents: Any, tolerance: Any) -> Array:
    import diffrax

    # forward mode: a transient has many more residuals than there are fields
    options: dict[str, Any] = {"adjoint": diffrax.ForwardMode(), "throw": False}
    return currents - simulate(model, drive, times, tolerance=tolerance, **options).current
