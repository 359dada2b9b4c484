"""Step-response devices whose response is a line in the state: many pulses are one jump.

`up` and `down` are the sizes of a cell's steps at x = 0, `low` and `high` its bounds, xi fresh normals.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._random import read_normal
from anajax._record import leaf, record, static
from anajax.devices.device import Cells
from anajax.devices.pulsed import Realised, StepResponse, safe_sqrt, with_derivatives_of

_STEEPEST = 1e-6  # of what is left after one pulse that would overshoot its asymptote
_GROWTH = 30.0  # logarithm of the growth of steps after which any state has long met a bound


@record
class LineResponse(StepResponse):
    """Base of devices whose response is a line, `a + s x`: n pulses are one jump.

    The state is then a first-order recursion, and with lambda = 1 + s

        mean   x_n = lambda**n x_0 + a (lambda**n - 1) / s
        var    sigma**2 (lambda**(2 n) - 1) / (lambda**2 - 1)                           additive noise
        var    (a + s x_0)**2 lambda**(2 n) ((1 + s**2 c2c**2 / lambda**2)**n - 1) / s**2   multiplicative noise
        var    sigma c2c |a + s x_0| lambda**(n - 1) (lambda**n - 1) / s                    noise by the root

    with sigma = c2c times the step at x = 0. `pulse` draws one normal of this mean and variance and clips once, at the
    end: the distribution of n single pulses for additive noise, their mean and variance for other noise, where no
    bound is met on the way.
    Fractions of a pulse are powers of lambda: two halves are one.
    Where noise would carry cells across a bound and back, or single steps are coarse, pulses go one by one, with
    a clip after each.

    Attributes:
      noise: whether cycle-to-cycle noise scales with the response at hand ("multiplicative"), with the step at
        x = 0 ("additive"), or with the root of their product ("root"), so that the variance is in proportion to the
        change; c2c is alpha sqrt(range / dx) for CrossSim 2.0's noise alpha sqrt(change range).
      one_by_one: whether pulses go one by one. `None` decides when the device is made or replaced: by the width of
        the layer that noise builds at a bound, and by the noise of one step, against 0.5 % of the window.
    """

    noise: str = static(default="multiplicative", choices=("multiplicative", "additive", "root"))
    one_by_one: bool | None = static(default=None, choices=(None, False, True))
    _apart: bool | None = static(default=None)  # what `one_by_one` comes to

    def check(self) -> None:
        """Check the window, and decide how pulses are applied."""
        super().check()
        known = all(_check.is_concrete(x) for x in jax.tree.leaves(self))
        if self.one_by_one is not None:
            apart: bool | None = self.one_by_one
        elif known:
            apart = self._coarse()
        else:  # in a transformation as decided outside, so that both see the same; at first what is always right
            apart = True if self._apart is None else self._apart
        object.__setattr__(self, "_apart", apart)

    def line(self, cell: Realised, up: Array) -> tuple[Array, Array]:
        """Return `a` and `s <= 0` of the response `a + s x`, up where `up`."""
        self._lacks("line")

    def response(self, cell: Realised, x: Array, up: Array) -> Array:
        """Return the mean change of the state by one pulse; see `StepResponse.response`."""
        a, s = self.line(cell, up)
        return a + s * x

    def additive(self, cell: Realised, up: Array) -> Array:
        """Return the standard deviation of one pulse's additive noise."""
        return (0.0 if self.c2c is None else self.c2c) * jnp.where(up, cell["up"], cell["down"])

    def spread(self, cell: Realised, x: Array, change: Array, up: Array) -> Array:
        """Return the standard deviation of one pulse."""
        if self.noise == "additive":
            return jnp.broadcast_to(self.additive(cell, up), jnp.shape(x))
        whole = super().spread(cell, x, change, up)
        return safe_sqrt(whole * self.additive(cell, up)) if self.noise == "root" else whole

    def symmetry_point(self, cells: Cells) -> Array:
        """Return the state at which pulses up and down cancel; the bound they lead to where they never do."""
        cell = self.realise(cells)
        (a, s), (b, r) = self.line(cell, jnp.asarray(True)), self.line(cell, jnp.asarray(False))
        push, slope = a + b, s + r
        bent = slope < 0
        x = jnp.where(bent, -push / jnp.where(bent, slope, 1.0), jnp.where(push == 0, 0.0, jnp.sign(push) * jnp.inf))
        return jnp.clip(x, cell["low"], cell["high"])

    def _many(self, key: Array | None, cell: Realised, x: Array, n: Array, up: Array) -> Array:
        if self._apart:
            return super()._many(key, cell, x, n, up)
        noise = None if key is None else read_normal(key, x.shape, x.dtype)
        return _jump(self, noise, cell, x, n, up)

    def _spread_of_many(self, cell: Realised, x: Array, n: Array, up: Array, first: Array, s: Array) -> Array:
        """Return the standard deviation of `n` pulses, the mean of the first of which is `first`."""
        if self.noise == "additive":
            return self.additive(cell, up) * safe_sqrt(_geometric(n, s * (2 + s)))
        if self.noise == "root":
            left = jnp.exp((n - 1) * jnp.log1p(s))
            return safe_sqrt(self.spread(cell, x, first, up) ** 2 * left * _geometric(n, s))
        c2c = 0.0 if self.c2c is None else self.c2c
        q = (s * c2c / (1 + s)) ** 2
        left = jnp.exp(n * (jnp.log1p(s) + jnp.log1p(q) / 2))  # root of what is left of E (x - asymptote)**2
        return jnp.abs(first) * left * c2c / (1 + s) * safe_sqrt(_fading(n, q))

    def _coarse(self) -> bool:
        """Return whether the mean cell's noise, at a bound or in one step, is a sizeable part of the window.

        At either bound, drift d into it or away from it and noise sigma make a layer of sigma**2 / 2 d; a slope s
        one of sigma / sqrt(2 |s|). Steps that grow stretch the layer that they start from as they grow themselves.
        """
        if self.c2c is None:
            return False
        with jax.ensure_compile_time_eval():
            cell = self.realise(Cells(scores={}))
            worst = 0.0
            for up in (jnp.asarray(True), jnp.asarray(False)):
                a, s = self.line(cell, up)
                steps = [jnp.abs(a + s * cell["low"]), jnp.abs(a + s * cell["high"])]
                for step in steps:
                    noise = self.spread(cell, step, step, up)
                    layer = noise**2 / (2 * step + noise * jnp.sqrt(2 * jnp.abs(s)) + 1e-30)
                    if self.noise == "root":  # noise and drift fade together
                        layer = self.c2c * self.additive(cell, up) / 2
                    layer = layer * jnp.where(s > 0, jnp.maximum(*steps) / (step + 1e-30), 1.0)
                    worst = max(worst, float(jnp.max(jnp.maximum(layer, noise) / (self.x_max - self.x_min))))
        return worst > 0.005


@jax.jit  # of the module level, lest each eager call compile the branches anew
def _jump(device: LineResponse, noise: Array | None, cell: Realised, x: Array, n: Array, up: Array) -> Array:
    """Return the state after `n` pulses, `noise` being standard normals or `None`."""
    a, s = device.line(cell, up)
    s = jnp.maximum(s, _STEEPEST - 1)  # one pulse that overshoots its asymptote lands there
    first = a + s * x

    def single(n: Array) -> Array:  # without the powers, which cost more than all else
        std = 0.0 if noise is None else device.spread(cell, x, first, up)
        return with_derivatives_of(many(n), x + n * (first + (0.0 if noise is None else std * noise)))

    def many(n: Array) -> Array:
        n = jnp.minimum(n, _GROWTH / jnp.log1p(jnp.maximum(s, 1e-9)))  # steps that grow would overflow
        end = x + first * _geometric(n, s)
        return end if noise is None else end + device._spread_of_many(cell, x, n, up, first, s) * noise

    return jax.lax.cond(jnp.all((n == 0) | (n == 1)), single, many, n)


@record
class ConstantStep(LineResponse):
    """Steps that ignore the state: `up` or `-down`, until a bound.

    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016).
    """

    def line(self, cell: Realised, up: Array) -> tuple[Array, Array]:
        """Return the step, and no slope."""
        a = jnp.where(up, cell["up"], -cell["down"])
        return a, jnp.zeros_like(a)


@record
class LinearStep(LineResponse):
    """Steps that shrink linearly with the state, by slopes of their own.

        up:  up (1 - g_up x / high),   down: -down (1 - g_down x / low),   g = |gamma + gamma_d2d xi|

    gamma = 0 ignores the state, gamma = 1 is `SoftBounds`; a negative gamma lets steps grow towards the bound.
    Source: Rasch et al., AICAS 2021 (LinearStepDevice); for capacitors Li et al., VLSI 2018, for ECRAM Tang et al.,
    IEDM 2018.

    Attributes:
      gamma_up: mean slope of the steps up.
      gamma_down: mean slope of the steps down.
      gamma_d2d: spread of both slopes from device to device, drawn apart.
      slope_at: which bounds the slopes refer to, the mean cell's ("mean") or each cell's own ("own").
    """

    gamma_up: Array | float = leaf(default=0.0)
    gamma_down: Array | float = leaf(default=0.0)
    gamma_d2d: Array | float | None = leaf(default=None, ge=0)
    slope_at: str = static(default="mean", choices=("mean", "own"))

    def check(self) -> None:
        """Check that the lower bound, to which slopes refer, is below zero."""
        super().check()
        _below_zero(self)

    def _spreads(self) -> dict[str, Any]:
        return super()._spreads() | {"gamma_up": self.gamma_d2d, "gamma_down": self.gamma_d2d}

    def realise(self, cells: Cells) -> Realised:
        """Return also `bend_up` and `bend_down`, the slopes by the step at x = 0."""
        cell = super().realise(cells)
        bends = {}
        for name, gamma, own, mean in (
            ("up", self.gamma_up, cell["high"], self.x_max),
            ("down", self.gamma_down, cell["low"], self.x_min),
        ):
            size = jnp.abs(gamma + jnp.where(gamma < 0, -1, 1) * self._spread(cells, f"gamma_{name}"))
            at = own if self.slope_at == "own" else mean
            bends[f"bend_{name}"] = jnp.where(gamma < 0, -size, size) / _away_from_zero(at)
        return cell | bends

    def line(self, cell: Realised, up: Array) -> tuple[Array, Array]:
        """Return step and slope."""
        a = jnp.where(up, cell["up"], -cell["down"])
        return a, -a * jnp.where(up, cell["bend_up"], cell["bend_down"])


@record
class SoftBounds(LineResponse):
    """Steps that shrink linearly to nothing at each cell's own bounds: up (1 - x / high), -down (1 - x / low).

    Source: Fusi & Abbott, Nat. Neurosci. 10:485 (2007); Rasch et al., Nat. Commun. 15:7133 (2024) for arrays.
    """

    def check(self) -> None:
        """Check that the lower bound is below zero."""
        super().check()
        _below_zero(self)

    def line(self, cell: Realised, up: Array) -> tuple[Array, Array]:
        """Return step and slope."""
        a = jnp.where(up, cell["up"], -cell["down"])
        return a, -a / _away_from_zero(jnp.where(up, cell["high"], cell["low"]))


@record
class SoftBoundsPmax(LineResponse):
    """Soft bounds by what is measured: `p_max` pulses lead from `x_min` to `x_max`, and as many back.

        up from x_min:    x(p) = x_min + B (1 - exp(-alpha p)),   B = (x_max - x_min) / (1 - exp(-alpha p_max))
        down from x_max:  x(p) = x_max - B (1 - exp(-alpha p))

    Source: the parametrisation of AIHWKit's SoftBoundsPmaxDevice, honouring its closed form.

    Attributes:
      p_max: pulses from bound to bound.
      alpha: rate at which steps shrink, per pulse.
    """

    p_max: Array | float = leaf(default=1000.0, gt=0)
    alpha: Array | float = leaf(default=0.0005, gt=0)
    # the mean step follows from the fields above, and is none of its own; nor is an asymmetry
    dx: ClassVar[Any] = property(lambda self: (self.x_max - self.x_min) / self.p_max)
    up_down: ClassVar[Any] = 0.0

    def line(self, cell: Realised, up: Array) -> tuple[Array, Array]:
        """Return intercept and slope: a share of the distance to an asymptote beyond the bound."""
        reach = (self.x_max - self.x_min) / -jnp.expm1(-self.alpha * self.p_max)  # B
        share = -jnp.expm1(-self.alpha) * jnp.where(up, cell["up"], cell["down"]) / self.dx
        return share * jnp.where(up, self.x_min + reach, self.x_max - reach), -share


def _below_zero(device: StepResponse) -> None:
    if _check.is_concrete(device.x_min) and not np.all(np.asarray(device.x_min) < 0):
        raise ValueError(f"{type(device).__name__}.x_min must be less than 0: slopes refer to it; got {device.x_min}")


def _away_from_zero(x: Any) -> Array:
    """Keep a folded bound that fell next to zero from dividing by it: such a cell sticks at zero all the same."""
    return jnp.where(x < 0, jnp.minimum(x, -1e-6), jnp.maximum(x, 1e-6))


def _geometric(n: Array, q: Array) -> Array:
    """Return `((1 + q)**n - 1) / q`, the sum of n terms of a geometric series, also near q = 0."""
    small = jnp.abs(n * q) < 1e-3
    safe, tiny = jnp.where(small, 1.0, q), jnp.where(small, q, 0.0)
    series = n * (1 + (n - 1) * tiny / 2 * (1 + (n - 2) * tiny / 3))
    return jnp.where(small, series, jnp.expm1(n * jnp.log1p(safe)) / safe)


def _fading(n: Array, q: Array) -> Array:
    """Return `(1 - (1 + q)**-n) / q` for q >= 0, also near q = 0."""
    small = n * q < 1e-3
    safe, tiny = jnp.where(small, 1.0, q), jnp.where(small, q, 0.0)
    series = n * (1 - (n + 1) * tiny / 2 * (1 - (n + 2) * tiny / 3))
    return jnp.where(small, series, -jnp.expm1(-n * jnp.log1p(safe)) / safe)
