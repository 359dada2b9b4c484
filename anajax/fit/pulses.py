"""From pulse-response curves to step-response devices: one curve, or many cells at once.

The state after each pulse is what the last pulse left of it plus cycle-to-cycle noise, which adds up, and what is
measured has write noise on top, which does not. Both enter the prediction of each measurement from those before it,
an extended Kalman filter of one number; its residuals are independent, and their errors are therefore right.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax.devices.device import Cells
from anajax.devices.pulsed import StepResponse
from anajax.fit import _result, _solve
from anajax.fit._result import Fit
from anajax.fit.data import siemens

#: fields that set the noise of pulses, of any step-response device
NOISES = ("c2c", "c2c_floor", "c2c_slope", "up_std", "down_std", "write_noise")

# fields that pulse-response curves alone do not tell apart from others
_HELD = {
    "ExpStep": ("slope", "offset", "x_min", "x_max"),
    "PiecewiseStep": ("dx", "up_down", "x_min", "x_max"),
    "TableStep": ("x", "x_min", "x_max", "up_down"),
    "NeuroSim": ("x_min",),
}
#: resolution of measurements
RESOLUTION = 3e-5  # of the range of the data: no measurement counts as better than 15 bits
_SMALL = 1e-4  # of the range of states: no curve is as flat, but any in siemens


def pulse_response(
    device: StepResponse,
    directions: ArrayLike,
    responses: ArrayLike,
    *,
    conductance: bool = False,
    window: tuple[float, float] | None = None,
    fields: Sequence[str] | None = None,
    noise: float | None = None,
    starts: int = 6,
    seed: int = 0,
) -> Fit:
    """Fit a step-response device to the curve of one cell, or to the mean curve of several.

    Fitted are the law's own fields, the steps and bounds, the state before the first pulse (`"x_0"`), and the noise:
    `c2c` and `write_noise`, each of which becomes `None` if the data want none of it.
    Conductances are read as states by a straight line through `window`; the window of the fitted device is where its
    fitted bounds lie on that line.

    Args:
      device: where to start, and all that is not fitted; without reference, leak, drift or wear.
      directions: direction of each pulse, > 0 up, < 0 down, shape `[n]`.
      responses: what was measured after each, shape `[n]`, or `[cells, n]`, of which the mean is taken, and fitted
        noise is that of the mean.
      conductance: whether responses are conductances [S] rather than states.
      window: conductances [S] that stand for `x_min` and `x_max` of `device`; by default the extremes of the data.
      fields: what to fit, by default all that such curves can tell; name `"c2c"` or `"write_noise"` among them to fit
        only that noise.
      noise: standard deviation of one measurement, if known, in the unit of the responses; `write_noise` is then
        fitted only if named.
      starts: how many times the fit starts, from the device, from the look of the data, and around that.
      seed: of the starts.

    Returns:
      The `Fit`, with `"x_0"` among its values.

    Raises:
      ValueError: for data or fields that cannot be fitted.

    Warns:
      PoorFit: where the device does not explain the curve.
    """
    d, y = curves(device, directions, responses)
    y = y.mean(0)
    if starts < 1:
        raise ValueError(f"starts must be at least 1; got {starts}")
    scale = Scale.of(device, y, conductance, window)
    mean, noises = default_fields(device, fields, noise)
    known = 0.0 if noise is None else noise / scale.slope
    found = curve(device, d, scale.state(y), mean, noises, known, (starts, seed))
    found = scale.applied(dataclasses.replace(found, rms=found.rms * scale.slope))
    _result.warn(found.reasons, type(device).__name__)
    return found


class Scale(NamedTuple):
    """The line between what was measured and states: state = x + (measured - y) / slope; `slope` [S] per state."""

    x: float = 0.0
    y: float = 0.0
    slope: float = 1.0

    @classmethod
    def of(cls, device: Any, y: np.ndarray, conductance: bool, window: tuple[float, float] | None) -> Scale:
        """Return the line that `window`, or else the extremes of `y`, stand for."""
        if not conductance:
            if window is not None:
                raise ValueError(f"window is for conductances, with conductance=True; got {window}")
            if np.ptp(y) < _SMALL * float(device.x_max - device.x_min):
                raise ValueError(
                    f"responses must be states, x_min = {float(device.x_min):g} to x_max = {float(device.x_max):g},"
                    f" or conductances with conductance=True; got {np.min(y):g} to {np.max(y):g}"
                )
            return cls()
        siemens(y, "responses")
        low, high = (float(np.min(y)), float(np.max(y))) if window is None else map(float, window)
        siemens(np.array([low, high]), "window")
        if not 0 <= low < high:
            whose = "window" if window is not None else "window, by default the extremes of responses,"
            raise ValueError(f"{whose} must be two conductances, 0 <= low < high; got ({low:g}, {high:g})")
        return cls(float(device.x_min), low, (high - low) / float(device.x_max - device.x_min))

    def state(self, y: np.ndarray) -> np.ndarray:
        """Return the states that responses `y` stand for."""
        return self.x + (y - self.y) / self.slope

    def applied(self, found: Fit) -> Fit:
        """Return a fit of states with the window [S] that its bounds stand for."""
        if self == Scale():
            return found
        ends = {g: self.y + self.slope * (float(getattr(found.spec, x)) - self.x) for g, x in _ENDS.items()}
        errors = {g: self.slope * found.std[x] for g, x in _ENDS.items() if x in found.std}
        notes = found.notes
        if ends["g_min"] < 0:
            notes = (*notes, f"g_min came out as {ends['g_min']:.3g} S, and is set to 0")
        spec = found.spec.replace(g_min=max(ends["g_min"], 0.0), g_max=ends["g_max"])
        known = {g: ends[g] for g in errors}
        return dataclasses.replace(found, spec=spec, values=found.values | known, std=found.std | errors, notes=notes)


_ENDS = {"g_min": "x_min", "g_max": "x_max"}


def moments(device: Any, values: dict[str, Any], data: Any) -> tuple[Array, Array]:
    """Return the error of the prediction of each measurement from those before it, and the logarithm of its variance.

    Args:
      device: the spec.
      values: `"x_0"`, the state before the first pulse, and scores of the cell as `"score.NAME"`.
      data: directions `[n]`, measured states `[n]`, and the standard deviation of a measurement.
    """
    directions, measured, known = data
    scores = {name.removeprefix("score."): v for name, v in values.items() if name.startswith("score.")}
    cell = device.realise(Cells(scores=scores))
    written = 0.0 if device.write_noise is None else device.write_noise * device.dx

    def pulse(carry: tuple[Array, Array], now: tuple[Array, Array]) -> Any:
        x, variance = carry
        up, y = now[0] > 0, now[1]

        def move(x: Array) -> tuple[Array, Array]:
            change = device.response(cell, x, up)
            return x + change, device.spread(cell, x, change, up)

        # of the noise, too, the mean square over where the state may be
        (ahead, noise), (slope, bend) = jax.jvp(move, (x,), (jnp.ones_like(x),))
        x, variance = clipped(ahead, (slope**2 + bend**2) * variance + noise**2, cell["low"], cell["high"])
        error, total = y - x, variance + written**2 + known**2
        gain = variance / total
        return (x + gain * error, variance * (1 - gain)), (error, jnp.log(total))

    start = jnp.asarray(values["x_0"])
    return jax.lax.scan(pulse, (start, jnp.zeros_like(start)), (directions, measured))[1]


def clipped(mean: Array, variance: Array, low: Any, high: Any) -> tuple[Array, Array]:
    """Return mean and variance of a normal number of these moments that is clipped to `[low, high]`."""
    std = jnp.sqrt(variance + 1e-24)
    a, b = (low - mean) / std, (high - mean) / std
    below, above = jax.lax.erfc(-a / np.sqrt(2)) / 2, jax.lax.erfc(b / np.sqrt(2)) / 2
    at_a, at_b = (jnp.exp(-jnp.square(t) / 2) / np.sqrt(2 * np.pi) for t in (a, b))
    inside = 1 - below - above
    middle = jnp.clip(mean, low, high)  # about which the moments are taken, or they would cancel
    a, b, c = (low - middle) / std, (high - middle) / std, (mean - middle) / std
    first = a * below + b * above + c * inside + at_a - at_b
    second = a**2 * below + b**2 * above + (c**2 + 1) * inside + (a + c) * at_a - (b + c) * at_b
    return middle + std * first, std**2 * jnp.maximum(second - first**2, 0.0)


def curves(device: Any, directions: Any, responses: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return directions `[n]` and responses `[cells, n]`, checked."""
    if not isinstance(device, StepResponse):
        raise TypeError(f"device must be a step-response device; got {type(device).__name__}")
    for name in ("reference", "leak", "drift", "endurance"):
        if getattr(device, name) is not None:
            raise ValueError(f"device.{name} must be None while pulses are fitted: set it afterwards; got {device!r}")
    d, y = np.asarray(directions, np.float64), np.atleast_2d(np.asarray(responses, np.float64))
    if d.ndim != 1 or len(d) < 10:
        raise ValueError(f"directions must have shape (n,) with n >= 10; got {d.shape}")
    if y.ndim != 2 or y.shape[1] != len(d):
        raise ValueError(f"responses must have shape ({len(d)},) or (cells, {len(d)}), like directions; got {y.shape}")
    _check.finite(d, "directions")
    _check.finite(y, "responses")
    if not np.all(d != 0):
        raise ValueError("directions must be > 0 (up) or < 0 (down); got 0")
    if np.ptp(y) == 0:
        raise ValueError(f"responses must change with the pulses; got {y.flat[0]:g} everywhere")
    return d, y


def default_fields(device: Any, fields: Sequence[str] | None, noise: float | None) -> tuple[list[str], list[str]]:
    """Return the fields that set the mean, and those that set the noise."""
    if noise is not None:
        _check.in_range(noise, "noise", gt=0)
    own = {f.name for f in dataclasses.fields(device)}
    noises = [n for n in ("c2c_floor", "c2c_slope") if getattr(device, n, None) is not None]
    noises += (["c2c"] if "c2c" in own else []) + (["write_noise"] if noise is None else [])
    if fields is not None:
        fields = _solve.named(fields)
        return [f for f in fields if f not in NOISES], [f for f in fields if f in NOISES] or noises
    base = {f.name for f in dataclasses.fields(StepResponse)}  # type: ignore[arg-type]
    held = _HELD.get(type(device).__name__, ())
    mean = [f for f in ("x_min", "x_max", "dx", "up_down") if f in own and f not in held]
    more = [f for f in _solve.float_fields(device) if f.split(".")[0] not in base and f not in (*held, *NOISES)]
    return [*mean, *(f for f in more if not f.endswith("_d2d"))], noises


def with_noise(device: Any, noises: Sequence[str]) -> Any:
    """Return a device whose `noises` have values to start from: of about 0.3 mean steps."""
    started: dict[str, Any] = dict.fromkeys(noises, 0.3)
    for name in {"up_std", "down_std"} & set(noises):
        started[name] = jnp.full_like(device.up_mean, 0.3 * float(jnp.max(jnp.abs(device.up_mean))))
    if "c2c" in started:
        unit = device.replace(c2c=1.0)
        cell, x, up = unit.realise(Cells()), jnp.zeros(()), jnp.asarray(True)
        step = jnp.abs(unit.response(cell, x, up))
        started["c2c"] = 0.3 * float(step / jnp.maximum(unit.spread(cell, x, step, up), step))
    return device.replace(**started)


def curve(
    device: Any, d: np.ndarray, x: np.ndarray, mean: list[str], noises: list[str], known: float, starts: Any
) -> Fit:
    """Fit states `x` `[n]`; `known` is the standard deviation of a measurement, `starts` their number and seed."""
    stated, device = known > 0, with_noise(device, noises)
    data = d, x, np.hypot(known, RESOLUTION * np.ptp(x))
    while True:
        free = _solve.free(device, (*mean, *noises), {"x_0": (0.0, -math.inf)})
        z = _starts(device, free, d, x, noises, *starts)
        found = _result.best(moments, device, free, z, noises, data, False)
        std = dict(zip(free.names, np.sqrt(np.diag(found.covariance)), strict=True))
        unseen = faintest({n: std[n] for n in noises if n in std})
        if unseen is None or (len(noises) == 1 and not stated):
            break
        noises, device = [n for n in noises if n != unseen], device.replace(**{unseen: None})
    e = found.r * np.exp(-found.log / 2)
    freedom = len(e) - len(free.names)
    chi2 = (float(np.sum(e**2)), freedom) if stated and not noises else None
    rms = float(np.sqrt(np.mean(found.r**2)))
    verdict = _result.judge(e, len(free.names), chi2, share=rms / np.ptp(x), done=found.done)
    return _result.fitted(
        device,
        free,
        found,
        residual=e,
        rms=rms,
        r2=1 - float(np.mean(found.r**2) / np.var(x)),
        chi2=None if chi2 is None else chi2[0] / freedom,
        correlation=verdict.correlation,
        reasons=verdict.reasons,
        notes=verdict.notes,
    )


def faintest(log_std: Mapping[str, float]) -> str | None:
    """Return a noise that the data want none of, its variance less than a tenth of its standard error, or `None`.

    A small noise that they may want is kept: without it the errors of all else would be too small.

    Args:
      log_std: standard errors of logarithms of noises, half the relative errors of their variances.
    """
    name = max(log_std, key=lambda n: log_std[n], default=None)
    return name if name is not None and log_std[name] > 5 else None


def _starts(device: Any, free: Any, d: Any, x: Any, noises: Any, starts: int, seed: int) -> np.ndarray:
    """Return coordinates to start from: the device, what the data look like, and points around that."""
    looks = look(device, d, x)
    own = {p: np.asarray(v, float) for p, v in _solve.float_fields(device).items()} | {"x_0": looks["x_0"]}
    noisy = np.isin([n.split("[")[0] for n in free.names], noises)
    around = _result.jittered(free.coordinates(own | looks), noisy, max(starts - 1, 1), seed)
    return np.concatenate([free.coordinates(own)[None], around])[: max(starts, 1)]


def look(device: Any, d: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """Return rough values of the fields that say how far steps and bounds lie apart."""
    moves, middle = np.diff(x), np.abs(x[:-1] - (x.max() + x.min()) / 2) < np.ptp(x) / 4
    rise, fall = (
        max(np.mean(s[middle[way]] if middle[way].any() else s), 1e-3 * np.ptp(x)) if len(s) else np.ptp(x) / 100
        for way, s in ((d[1:] > 0, moves[d[1:] > 0]), (d[1:] < 0, -moves[d[1:] < 0]))
    )
    step, span = (rise + fall) / 2, np.ptp(x)
    # a hard bound that the curve never meets has no slope by which it could be found: start just inside
    low, high = np.quantile(x, [0.03, 0.97])
    low, high = min(low, -0.05 * span), max(high, 0.05 * span)
    looks = {"x_min": low, "x_max": high, "dx": step, "up_down": np.clip((rise - fall) / (2 * step), -0.8, 0.8)}
    looks |= {"p_max": span / step, "alpha": step / span, "p_up": span / rise, "p_down": span / fall}
    own = {f.name for f in dataclasses.fields(device)}
    return {n: v for n, v in looks.items() if n in own} | {"x_0": x[0] - (rise if d[0] > 0 else -fall)}
