"""Simulation of memristors: the state of every cell over time, under one drive."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax.devices.memristor.drives import Drive, Pulses, ascending, whole
from anajax.devices.memristor.models import Memristor

Float = Array | float


class Trace(NamedTuple):
    """What a simulation saw, at T times, of cells of any shape.

    Attributes:
      time: times [s], shape `[T]`.
      voltage: voltage over every cell [V], shape `[T]`.
      state: state in the unit of the model, shape `[T, ...]`.
      current: current of every cell [A], shape `[T, ...]`.
    """

    time: Array
    voltage: Array
    state: Array
    current: Array


def simulate(
    model: Memristor,
    drive: Drive,
    times: ArrayLike,
    x_0: ArrayLike | None = None,
    *,
    tolerance: float = 1e-5,
    method: Any = None,
    adjoint: Any = None,
    max_steps: int = 10_000,
    throw: bool = True,
) -> Trace:
    """Integrate `model` under `drive` and look at it at `times`.

    One cell, or an array of cells whose shape is that to which the fields of the model and `x_0` broadcast; each
    cell has steps of its own. Sweeping with `jax.vmap` comes to the same: `jax.vmap(lambda m: simulate(m, drive,
    times))(models)`.

    The solver steps exactly to every time asked for and to every corner of the drive. Between corners the
    voltage is monotone and of one sign, hence no excursion over a threshold can hide inside a step, and the
    state is monotone too: where it would pass a rail it stops there. A state that rests on a rail has zero
    derivative by whatever drove it there.

    Args:
      model: the cell or cells.
      drive: voltage over each cell [V], a function of time [s].
      times: ascending times [s], shape `[T]`, at least two; the first is the start.
      x_0: state at `times[0]`, by default `model.initial`; concrete values outside the bounds are an error.
      tolerance: error allowed in one step, as part of the range of the state (of its logarithm where the
        model says so). In float32 nothing below 1e-6 can be had, and a cell that switches within a millionth of
        the whole duration, as JART may, needs more steps than any: use float64 there.
      method: a diffrax solver with an error estimate, such as `diffrax.Tsit5()`; by default an exponential
        Rosenbrock method of order 3, which no stiffness slows down.
      adjoint: how diffrax differentiates; by default `RecursiveCheckpointAdjoint()`, for reverse mode. Give
        `diffrax.ForwardMode()` for `jax.jvp`.
      max_steps: how many steps a cell may take, failed ones included.
      throw: whether a cell that takes more, or whose rate is not a number, is an error; otherwise its states are
        NaN from there on.

    Returns:
      The `Trace`.

    Raises:
      RuntimeError: when a cell needs more than `max_steps` (under `jax.jit` the error of the backend).

    Example:
      >>> import numpy as np
      >>> from anajax.devices.memristor import VTEAM, Sine, simulate
      >>> trace = simulate(VTEAM(), Sine(amplitude=1.0, frequency=1e8, cycles=1), np.linspace(0, 1e-8, 5))
      >>> trace.state.shape
      (5,)
    """
    from anajax.devices.memristor import _solver  # imports diffrax

    if not isinstance(model, Memristor):
        raise TypeError(f"model must be a Memristor, such as VTEAM(); got {model!r}")
    if not isinstance(drive, Drive):
        raise TypeError(f"drive must be a Drive, such as Sine(...) or Sampled(times=..., volts=...); got {drive!r}")
    when = _check.floating(times, "times")
    ascending(when, "times")
    _check.in_range(tolerance, "tolerance", gt=0)
    start = _start(model, x_0)
    options = {"method": method, "adjoint": adjoint, "tolerance": tolerance, "max_steps": max_steps, "throw": throw}
    v, x, i = _solver.solve(model, drive, when, start, options)
    return Trace(time=when, voltage=v, state=x, current=i)


def pulse_response(
    model: Memristor,
    volts: ArrayLike,
    width: Float,
    count: int,
    x_0: ArrayLike | None = None,
    *,
    v_read: float = 0.1,
    rise: Float | None = None,
    rest: Float = 0.0,
    **options: Any,
) -> Trace:
    """Apply `count` identical pulses and read every cell after each.

    Reading takes no time and disturbs nothing.

    Args:
      model: the cell or cells.
      volts: amplitude of the pulses [V].
      width: duration of their flat top [s].
      count: how many.
      x_0: state before the first pulse, by default `model.initial`.
      v_read: voltage of the reads [V].
      rise: duration of an edge [s], by default a hundredth of `width`.
      rest: time at zero volts after each pulse [s].
      **options: of `simulate`.

    Returns:
      A `Trace` whose `time` counts from the start of the first pulse to the end of each, whose `voltage` is
      `v_read`, and whose `state` and `current` (at `v_read`) have shape `[count, ...]`.

    Example:
      >>> from anajax.devices.memristor import Yakopcic, pulse_response
      >>> after = pulse_response(Yakopcic(), volts=0.5, width=1e-4, count=3)
      >>> bool((after.current[1:] > after.current[:-1]).all())
      True
    """
    whole(count, "count")
    edge = width / 100 if rise is None else rise
    period = jnp.asarray(width + 2 * edge + rest)
    pulse = Pulses(amplitude=volts, width=width, period=period, rise=edge, count=1)
    times = jnp.stack([jnp.zeros_like(period), period])

    def step(x: Array, _: None) -> tuple[Array, Array]:
        x = simulate(model, pulse, times, x, **options).state[-1]
        return x, x

    _, states = jax.lax.scan(step, _start(model, x_0), length=count)
    return Trace(
        time=period * jnp.arange(1, count + 1),
        voltage=jnp.full((count,), v_read),
        state=states,
        current=model.current(states, v_read),
    )


def _start(model: Memristor, x_0: ArrayLike | None) -> Array:
    """Return the state of every cell at the start, in the shape of the cells."""
    low, high = model.bounds
    if x_0 is None:
        start = jnp.where(model.initial < low, low, jnp.where(model.initial > high, high, model.initial))
    else:
        start = _check.floating(x_0, "x_0")
        known = all(map(_check.is_concrete, (start, low, high)))
        if known and not np.all((np.asarray(start) >= np.asarray(low)) & (np.asarray(start) <= np.asarray(high))):
            raise ValueError(f"x_0 must lie within the bounds of {type(model).__name__}, {low} to {high}; got {start}")
    shapes = [jnp.shape(field) for field in (start, *jax.tree.leaves(model))]
    try:
        return jnp.broadcast_to(start, jnp.broadcast_shapes(*shapes))
    except ValueError as error:
        raise ValueError(
            f"the fields of the model and x_0 must broadcast to one shape of cells; got {shapes}"
        ) from error
