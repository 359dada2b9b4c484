"""Step-response devices whose response is a curve in the state: their pulses go one by one.

`up` and `down` are the sizes of a cell's steps by spec and scores, `low` and `high` its bounds, xi fresh normals.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._record import Numbers, leaf, record, static
from anajax.devices.device import Cells
from anajax.devices.linear_steps import LineResponse
from anajax.devices.pulsed import Realised, StepResponse


@record
class ExpStep(StepResponse):
    """Steps that fall off exponentially towards a bound, the law of filamentary RRAM and of phase change.

        up:   up max(0, 1 - a_up exp(gamma_up z)),     z = 2 slope x / (high - low) + offset
        down: -down max(0, 1 - a_down exp(-gamma_down z))

    The noise of one pulse has standard deviation c2c (|change| + c2c_floor + c2c_slope |x|).
    Source: Gong et al., Nat. Commun. 9:2102 (2018); the noise: Nandakumar et al., Front. Neurosci. 14:406 (2020).

    Attributes:
      a_up: strength of the fall-off of steps up; negative where steps first grow.
      a_down: strength of the fall-off of steps down.
      gamma_up: its rate.
      gamma_down: its rate.
      slope: scale of the state in the exponent.
      offset: shift of the state in the exponent.
      c2c_floor: noise that does not shrink with the step, in units of x before `c2c`, or `None`.
      c2c_slope: noise that grows with the state, per unit of x before `c2c`, or `None`.
    """

    a_up: Array | float = leaf(default=0.00081)
    a_down: Array | float = leaf(default=0.36833)
    gamma_up: Array | float = leaf(default=12.44625)
    gamma_down: Array | float = leaf(default=12.78785)
    slope: Array | float = leaf(default=0.244)
    offset: Array | float = leaf(default=0.2425)
    c2c_floor: Array | float | None = leaf(default=None, ge=0)
    c2c_slope: Array | float | None = leaf(default=None, ge=0)

    def response(self, cell: Realised, x: Array, up: Array) -> Array:
        """Return the mean change of the state by one pulse; see `StepResponse.response`."""
        z = 2 * self.slope * x / jnp.maximum(cell["high"] - cell["low"], 1e-6) + self.offset
        exponent = jnp.minimum(jnp.where(up, self.gamma_up, -self.gamma_down) * z, 60.0)  # a failed cell has no range
        share = jnp.maximum(1 - jnp.where(up, self.a_up, self.a_down) * jnp.exp(exponent), 0.0)
        return jnp.where(up, cell["up"], -cell["down"]) * share

    def spread(self, cell: Realised, x: Array, change: Array, up: Array) -> Array:
        """Return the standard deviation of one pulse."""
        more = 0.0 if self.c2c_floor is None else self.c2c_floor
        if self.c2c_slope is not None:
            more = more + self.c2c_slope * jnp.abs(x)
        return (0.0 if self.c2c is None else self.c2c) * (jnp.abs(change) + more)


@record
class PowStep(StepResponse):
    """Steps that are a power of the distance to the bound ahead, measured by the cell's own range.

        up:  up w ** g_up,   down: -down (1 - w) ** g_down,   w = (high - x) / (high - low)
        g_up, g_down = |gamma (1 + gamma_d2d xi) +- (gamma_up_down + gamma_up_down_d2d xi')|

    An exponent of 1 is a soft bound, with half the step between symmetric bounds.
    Source: Rasch et al., AIHWKit (PowStepDevice).

    Attributes:
      gamma: mean exponent.
      gamma_up_down: half the difference of the exponents: that up is gamma + gamma_up_down, that down is
        gamma - gamma_up_down.
      gamma_d2d: relative spread of the exponent from device to device.
      gamma_up_down_d2d: spread of this half, in units of the exponent.
    """

    gamma: Array | float = leaf(default=1.0, ge=0)
    gamma_up_down: Array | float = leaf(default=0.0)
    gamma_d2d: Array | float | None = leaf(default=None, ge=0)
    gamma_up_down_d2d: Array | float | None = leaf(default=None, ge=0)

    def _spreads(self) -> dict[str, Any]:
        return super()._spreads() | {"gamma": self.gamma_d2d, "gamma_up_down": self.gamma_up_down_d2d}

    def realise(self, cells: Cells) -> Realised:
        """Return also the exponents, `gamma_up` and `gamma_down`."""
        mean = self.gamma * (1 + self._spread(cells, "gamma"))
        half = self.gamma_up_down + self._spread(cells, "gamma_up_down")
        exponents = {"gamma_up": jnp.abs(mean + half), "gamma_down": jnp.abs(mean - half)}
        return super().realise(cells) | exponents

    def response(self, cell: Realised, x: Array, up: Array) -> Array:
        """Return the mean change of the state by one pulse; see `StepResponse.response`."""
        ahead = jnp.where(up, cell["high"] - x, x - cell["low"]) / jnp.maximum(cell["high"] - cell["low"], 1e-6)
        power = _power(ahead, jnp.where(up, cell["gamma_up"], cell["gamma_down"]))
        return jnp.where(up, cell["up"], -cell["down"]) * power


@record
class PiecewiseStep(StepResponse):
    """Steps interpolated between nodes spread evenly over each cell's own range.

        up:  up f_up(w),   down: -down f_down(w),   w = (x - low) / (high - low)

    Source: Rasch et al., AIHWKit (PiecewiseStepDevice).

    Attributes:
      nodes_up: relative steps up from the lower to the upper bound, shape `[n]`, at least 2.
      nodes_down: relative steps down at the same places, shape `[m]`, at least 2.
    """

    nodes_up: Numbers = leaf(ge=0)
    nodes_down: Numbers = leaf(ge=0)

    def check(self) -> None:
        """Check the window, and that there are nodes to interpolate between."""
        super().check()
        for name in ("nodes_up", "nodes_down"):
            shape = jnp.shape(getattr(self, name))
            if len(shape) != 1 or shape[0] < 2:
                raise ValueError(f"PiecewiseStep.{name} must have shape (n,) with n >= 2; got {shape}")

    def response(self, cell: Realised, x: Array, up: Array) -> Array:
        """Return the mean change of the state by one pulse; see `StepResponse.response`."""
        w = (x - cell["low"]) / jnp.maximum(cell["high"] - cell["low"], 1e-6)
        return jnp.where(up, cell["up"] * _even(self.nodes_up, w), -cell["down"] * _even(self.nodes_down, w))


@record
class TableStep(StepResponse):
    """Measured steps: mean and spread of the change by one pulse, tabulated over the state of the mean cell.

    The table takes the place of `dx` and of `c2c`; a cell's own gain and asymmetry scale its steps and their spread.
    States are interpolated linearly, and constant beyond the table.
    Source: the tables (G, change of G) of CrossSim 2.0 and XBTorch, reduced to mean and spread.

    Attributes:
      x: ascending states of the table, shape `[n]`.
      up_mean: mean change by one pulse up there, >= 0 where the device obeys, shape `[n]`.
      down_mean: mean change by one pulse down there, <= 0 where the device obeys, shape `[n]`.
      up_std: its standard deviation, shape `[n]`, or `None`.
      down_std: its standard deviation, shape `[n]`, or `None`.
    """

    x: Numbers = leaf()
    up_mean: Numbers = leaf()
    down_mean: Numbers = leaf()
    up_std: Numbers = leaf(default=None, ge=0)
    down_std: Numbers = leaf(default=None, ge=0)
    dx: ClassVar[Any] = 1.0  # a cell's gain, by which its table is multiplied
    c2c: ClassVar[Any] = property(lambda self: None if self.up_std is None and self.down_std is None else 1.0)

    def check(self) -> None:
        """Check the window, that the states ascend, and that every state has its steps."""
        super().check()
        if jnp.ndim(self.x) != 1:
            raise ValueError(f"TableStep.x must have shape (n,); got {jnp.shape(self.x)}")
        if _check.is_concrete(self.x) and not np.all(np.diff(np.asarray(self.x, float)) > 0):
            raise ValueError(f"TableStep.x must ascend; got {self.x}")
        for name in ("up_mean", "down_mean", "up_std", "down_std"):
            column = getattr(self, name)
            if column is not None and jnp.shape(column) != jnp.shape(self.x):
                raise ValueError(
                    f"TableStep.{name} must have the shape of TableStep.x, {jnp.shape(self.x)}; got {jnp.shape(column)}"
                )

    def response(self, cell: Realised, x: Array, up: Array) -> Array:
        """Return the mean change of the state by one pulse; see `StepResponse.response`."""
        means = jnp.interp(x, self.x, self.up_mean), jnp.interp(x, self.x, self.down_mean)
        return jnp.where(up, cell["up"] * means[0], cell["down"] * means[1])

    def spread(self, cell: Realised, x: Array, change: Array, up: Array) -> Array:
        """Return the standard deviation of one pulse."""
        up_std, down_std = (
            jnp.zeros_like(x) if std is None else jnp.interp(x, self.x, std) for std in (self.up_std, self.down_std)
        )
        return jnp.where(up, cell["up"] * up_std, cell["down"] * down_std)


@record
class NeuroSim(LineResponse):
    """The pulse curve of NeuroSim, by its labels of nonlinearity; x = 0 is lowest, x = 1 highest conductance.

        up from 0:    x(p) = B (1 - exp(-p / A)),        B = 1 / (1 - exp(-p_up / A)),   A / p_up = a(nl_up)
        down from 1:  x(p) = 1 - B (1 - exp(-p / A)),    with p_down and -nl_down

    The label is 10.1015 times the largest distance of the curve from a straight line, which gives a(nl) in closed form
    (to 6e-5 of the published table of 900 rows). Labels have the sign of the curvature, as NeuroSim's tables print it:
    positive up and negative down start fast and saturate, the other signs start slowly.
    One pulse is a fixed share of what is left to an asymptote, so that n pulses are one jump; `one_by_one` is decided
    as for any line. Cycle-to-cycle noise is a share of the range, whatever the state.
    Source: Chen, Peng, Yu, IEEE TCAD 37:3067 (2018); the inverse of the label is derived here.

    Attributes:
      nl_up: label of nonlinearity of potentiation, -10 to 10; usually positive.
      nl_down: label of nonlinearity of depression, -10 to 10; usually negative.
      p_up: pulses from lowest to highest.
      p_down: pulses from highest to lowest.
      nl_d2d: spread of both labels from device to device, drawn apart.
      c2c: cycle-to-cycle noise of one pulse, as a share of the range, whatever the state.
    """

    x_min: Array | float = leaf(default=0.0, le=0)
    nl_up: Array | float = leaf(default=0.0, ge=-10, le=10)
    nl_down: Array | float = leaf(default=0.0, ge=-10, le=10)
    p_up: Array | float = leaf(default=100.0, gt=0)
    p_down: Array | float = leaf(default=100.0, gt=0)
    nl_d2d: Array | float | None = leaf(default=None, ge=0)
    noise: str = static(default="additive", choices=("additive",))
    dx: ClassVar[Any] = property(lambda self: (self.x_max - self.x_min) * 2 / (self.p_up + self.p_down))
    up_down: ClassVar[Any] = 0.0

    def _spreads(self) -> dict[str, Any]:
        return super()._spreads() | {"nl_up": self.nl_d2d, "nl_down": self.nl_d2d}

    def realise(self, cells: Cells) -> Realised:
        """Return also `a_up`, `s_up`, `a_down`, `s_down`, the lines of this cell's responses."""
        cell = super().realise(cells)
        width = self.x_max - self.x_min
        lines = {}
        for name, nl, p, sign in (("up", self.nl_up, self.p_up, 1), ("down", self.nl_down, self.p_down, -1)):
            k = nonlinearity_rate(jnp.clip(sign * (nl + self._spread(cells, f"nl_{name}")), -10.0, 10.0))
            share = -jnp.expm1(-k / p) * cell[name] / self.dx  # of what is left; k = p / A
            start = self.x_min if sign > 0 else self.x_max
            first = sign * width * _first_share(k, p) * cell[name] / self.dx
            lines |= {f"a_{name}": first + share * start, f"s_{name}": -share}
        return cell | lines

    def line(self, cell: Realised, up: Array) -> tuple[Array, Array]:
        """Return intercept and slope of the response."""
        return jnp.where(up, cell["a_up"], cell["a_down"]), jnp.where(up, cell["s_up"], cell["s_down"])

    def additive(self, cell: Realised, up: Array) -> Array:
        """Return the standard deviation of one pulse: `c2c` of the range."""
        return jnp.broadcast_to((0.0 if self.c2c is None else self.c2c) * (self.x_max - self.x_min), jnp.shape(up))


def nonlinearity_label(k: Array | float) -> Array:
    """Return NeuroSim's label of nonlinearity of a curve that takes k time constants from end to end."""
    sign, k = jnp.where(jnp.asarray(k) < 0, -1.0, 1.0), jnp.abs(jnp.asarray(k, float))
    small = k < 1.0
    safe = jnp.where(small, 1.0, k)
    b = 1 / -jnp.expm1(-safe)
    exact = b - 1 / safe - jnp.log(b * safe) / safe
    series = k * (1 / 8 - k**2 * (1 / 576 - k**2 * (7 / 181440 - k**2 / 1075200)))  # where terms of 1 / k cancel
    return 10.101525 * sign * jnp.where(small, series, exact)


def nonlinearity_rate(label: Array | float) -> Array:
    """Return how many time constants a curve of this label of NeuroSim takes from end to end: p_max / A.

    The label, -10 to 10, is inverted by bisection; a Newton step from there makes it differentiable.
    """
    label = jnp.asarray(label, float)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = nonlinearity_label(middle) > label
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    start = (jnp.full_like(label, -2000.0), jnp.full_like(label, 2000.0))
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, 50, halve, jax.lax.stop_gradient(start)))
    k = (low + high) / 2
    value, slope = jax.jvp(nonlinearity_label, (k,), (jnp.ones_like(k),))
    return k + (label - jax.lax.stop_gradient(value)) / jax.lax.stop_gradient(slope)


def _first_share(k: Array, p: Array | float) -> Array:
    """Return `(1 - exp(-k / p)) / (1 - exp(-k))`, the first of p steps as a share of the range; 1 / p for k = 0."""
    small = jnp.abs(k) < 1e-6
    safe = jnp.where(small, 1.0, jnp.maximum(k, -80.0))  # beyond, the first step is zero to all digits
    return jnp.where(small, (1 + k / 2 * (1 - 1 / p)) / p, jnp.expm1(-safe / p) / jnp.expm1(-safe))


def _power(base: Array, exponent: Array) -> Array:
    """Return `base**exponent` for 0 <= base, with derivatives zero at base 0."""
    on = base > 0
    return jnp.where(on, jnp.exp(exponent * jnp.log(jnp.where(on, base, 1.0))), jnp.where(exponent == 0, 1.0, 0.0))


def _even(nodes: Any, w: Array) -> Array:
    """Interpolate linearly between nodes spread evenly over [0, 1]."""
    nodes = jnp.asarray(nodes)
    place = jnp.clip(w, 0.0, 1.0) * (nodes.shape[0] - 1)
    left = jnp.clip(jax.lax.stop_gradient(place).astype(jnp.int32), 0, nodes.shape[0] - 2)
    part = place - left
    return nodes[left] * (1 - part) + nodes[left + 1] * part
