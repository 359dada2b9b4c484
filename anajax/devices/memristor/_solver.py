"""The solver behind `simulate`. This module imports diffrax, so it is itself imported only when needed."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from anajax.devices.memristor.drives import Drive
from anajax.devices.memristor.models import Memristor


class ExponentialRosenbrock(diffrax.AbstractAdaptiveSolver):
    """Exponential method of order 3 with an embedded one of order 2, for elementwise equations.

    In each step the slope J = df/dx at its start, where it is negative, is integrated exactly, and the rest
    N(t, x) = f(t, x) - J x as the parabola through start, middle and end (Cox & Matthews' ETD3RK with the
    Jacobian as its linear part). A window-linear state at constant voltage is exact at any step. Since J is a
    number there is nothing to solve; the method is stable for any decaying mode, so that neither saturation
    nor a stiff window limits the step.
    """

    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 3

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        def f(t: Array, y: Array) -> Array:
            return terms.vf(t, y, args)

        h = t1 - t0
        # a hair inside the step: at its ends the voltage may be on a threshold, where derivatives are one-sided
        begin, end = t0 + 1e-4 * h, t1 - 1e-4 * h
        f0, slope = jax.jvp(lambda y: f(begin, y), (y0,), (jnp.ones_like(y0),))
        slope = jnp.minimum(slope, 0.0)  # any slope gives the order; a growing exponential could overflow
        p1, p2, p3 = _phi(h * slope)
        half, *_ = _phi(h * slope / 2)

        # Stage k is y_k = y0 + h (weights of f0 and of the two d before), with d_k = N(t_k, y_k) - N(t0, y0), which
        # is zero for linear equations. A loop rather than three lines: the equation is compiled once.
        zero = jnp.zeros_like(y0)
        times = jnp.stack([t0 + h / 2, end, end])
        of_start = h * jnp.stack([half / 2, p1, p1])
        of_older = h * jnp.stack([zero, zero, 4 * p2 - 8 * p3])
        of_newer = h * jnp.stack([zero, 2 * p1, 4 * p3 - p2])

        def stage(carry: tuple[Array, ...], k: tuple[Array, ...]) -> tuple[tuple[Array, ...], None]:
            _, _, older, newer = carry
            t, w_start, w_older, w_newer = k
            y = y0 + w_start * f0 + w_older * older + w_newer * newer
            return (y, older, newer, f(t, y) - f0 - slope * (y - y0)), None

        start = (y0, zero, zero, zero)
        (y1, d_1, d_2, d_3), _ = jax.lax.scan(stage, start, (times, of_start, of_older, of_newer))
        # One difference would vanish by chance in some of thousands of cells, hence two: to the line through start
        # and middle (that through start and end agrees with the parabola in the stiff limit), and to stage 2.
        error = h * (4 * p3 - p2) * (2 * jnp.abs(d_2 - 2 * d_1) + jnp.abs(d_3 - d_2))
        return y1, error, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful


class Railed(diffrax.AbstractAdaptiveSolver, diffrax.AbstractWrappedSolver):
    """Another solver, whose state stops at 0 and 1.

    Between the corners of a drive the state is monotone, hence one that would pass a rail within a step ends
    on it, and its error is that of the stopped states. Only the ends of steps are right: between them the
    state may have been stopped already.
    """

    solver: diffrax.AbstractSolver

    @property
    def term_structure(self) -> Any:
        return self.solver.term_structure

    @property
    def interpolation_cls(self) -> Any:
        return self.solver.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self) -> Any:
        return self.solver.term_compatible_contr_kwargs

    @property
    def root_finder(self) -> Any:
        return self.solver.root_finder  # type: ignore[attr-defined]

    @property
    def root_find_max_steps(self) -> Any:
        return self.solver.root_find_max_steps  # type: ignore[attr-defined]

    def order(self, terms: Any) -> Any:
        return self.solver.order(terms)

    def error_order(self, terms: Any) -> Any:
        return self.solver.error_order(terms)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        return self.solver.init(terms, t0, t1, y0, args)

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return self.solver.func(terms, t0, y0, args)

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        y1, error, dense, state, result = self.solver.step(terms, t0, t1, y0, args, solver_state, made_jump)
        stopped = stop(y1)
        middle = t0 + (t1 - t0) / 2  # at its ends a drive may be zero
        outwards = self.func(terms, middle, stopped, args) * (y1 - stopped) > 0
        both = (stop(y1 - error) == stopped) & (stop(y1 + error) == stopped)
        error = cast(Array, error)
        error = jnp.where(outwards & both & jnp.isfinite(error), 0.0, error)
        return stopped, error, dense, state, result


def stop(u: Array) -> Array:
    """Return `u` within 0 and 1; unlike that of `jnp.clip` its derivative on a rail is one."""
    return jnp.where(u > 1, 1.0, jnp.where(u < 0, 0.0, u))


@eqx.filter_jit
def solve(
    model: Memristor, drive: Drive, times: Array, start: Array, options: dict[str, Any]
) -> tuple[Array, Array, Array]:
    """Return voltages `[T]`, states `[T, ...]` and currents `[T, ...]` at `times` of cells that start at `start`."""
    dtype = jnp.result_type(times, start, *jax.tree.leaves(model))
    times = times.astype(dtype)
    t_0, span = times[0], times[-1] - times[0]
    # in units of the whole duration; where steps end does not change what is integrated, nor its derivatives
    saves = lax.stop_gradient((times - t_0) / span)

    def cell(model: Memristor, x: Array) -> Array:
        def field(s: Array, u: Array, _: Any) -> Array:
            x = from_unit(model, stop(u))
            v = drive(t_0 + span * s)
            return (span * model.rate(x, v) * _unit_per_state(model, x)).astype(dtype)

        bends = jnp.concatenate([drive.corners(), *map(drive.crossings, model.thresholds)])
        steps = jnp.concatenate([saves, _merge(lax.stop_gradient((bends - t_0) / span), saves)])
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(cast(Any, field)),
            Railed(options["method"] or ExponentialRosenbrock()),
            t0=jnp.zeros((), dtype),
            t1=jnp.ones((), dtype),
            dt0=jnp.asarray(0.01, dtype),
            y0=to_unit(model, x).astype(dtype),
            saveat=diffrax.SaveAt(t0=True, ts=saves[1:], fn=lambda s, u, _: stop(u)),
            stepsize_controller=diffrax.ClipStepSizeController(
                diffrax.PIDController(rtol=options["tolerance"], atol=options["tolerance"]), step_ts=steps
            ),
            adjoint=options["adjoint"] or diffrax.RecursiveCheckpointAdjoint(),
            max_steps=options["max_steps"],
            throw=options["throw"],
        )
        u = cast(Array, solution.ys)
        return jnp.where(jnp.isfinite(u), u, jnp.nan)

    u = jnp.moveaxis(_over_cells(cell, model, start), -1, 0)
    each = times.reshape(-1, *(1,) * start.ndim)
    v = drive(each)
    x = from_unit(model, u)
    # zero, but with the derivative by the times at which the states are looked at
    late = each - (t_0 + span * saves.reshape(each.shape))
    rate = model.rate(lax.stop_gradient(x), lax.stop_gradient(v))
    moving = jnp.isfinite(rate) & ~((u >= 1) & (rate > 0)) & ~((u <= 0) & (rate < 0))
    x = x + jnp.where(moving, rate, 0.0) * (late - lax.stop_gradient(late))
    return v.ravel(), x, model.current(x, v)


def to_unit(model: Memristor, x: Array) -> Array:
    """Return the place of state `x` between the rails, 0 to 1."""
    low, high = model.bounds
    return jnp.log(x / low) / jnp.log(high / low) if model.logarithmic else (x - low) / (high - low)


def from_unit(model: Memristor, u: Array) -> Array:
    """Return the state at the place `u`."""
    low, high = model.bounds
    x = low * jnp.exp(u * jnp.log(high / low)) if model.logarithmic else low + (high - low) * u
    return x + lax.stop_gradient(jnp.clip(x, low, high) - x)  # a rounding beyond a rail would be bad input elsewhere


def _unit_per_state(model: Memristor, x: Array) -> Array:
    low, high = model.bounds
    return 1 / (x * jnp.log(high / low)) if model.logarithmic else jnp.asarray(1 / (high - low))


def _over_cells(f: Any, model: Memristor, start: Array) -> Array:
    """Return `f` of every cell, its result on new last axes; fields that all cells share stay shared."""
    if start.ndim == 0:
        return f(model, start)
    axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, model)
    flat = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, start.shape).ravel() if leaf.ndim else leaf, model)
    y = jax.vmap(f, in_axes=(axes, 0))(flat, start.ravel())
    return y.reshape(*start.shape, *y.shape[1:])


def _merge(corners: Array, saves: Array) -> Array:
    """Return `corners`, those that differ from one of `saves` by rounding replaced by it."""
    right = jnp.clip(jnp.searchsorted(saves, corners), 1, len(saves) - 1)
    near = jnp.where(corners - saves[right - 1] < saves[right] - corners, saves[right - 1], saves[right])
    return jnp.where(jnp.abs(near - corners) < 16 * jnp.finfo(saves.dtype).eps, near, corners).astype(saves.dtype)


def _phi(z: Array) -> tuple[Array, Array, Array]:
    """Return phi_1, phi_2, phi_3 of z <= 0: phi_k = integral of e^((1 - s) z) s^(k-1) / (k-1)! over 0..1."""
    small = z > -1.0
    near, far = jnp.where(small, z, 0.0), jnp.where(small, -1.0, z)
    series = jnp.zeros_like(z)
    for k in range(16, 2, -1):  # 1/3! (1 + z/4 (1 + z/5 (1 + ...))): full float64 precision at |z| = 1
        series = (1.0 + near * series) / k
    p3 = series / 2
    p2 = 0.5 + near * p3
    p1 = 1.0 + near * p2
    q1 = jnp.expm1(far) / far
    q2 = (q1 - 1) / far
    q3 = (q2 - 0.5) / far
    return jnp.where(small, p1, q1), jnp.where(small, p2, q2), jnp.where(small, p3, q3)
