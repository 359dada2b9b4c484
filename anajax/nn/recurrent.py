"""Loops over time: Flax's `RNN`, with fresh noise at every step and arrays that settle once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.recurrent import flip_sequences
from jax import Array

from anajax.nn.analog import Context
from anajax.nn.model import hosts


class RNN(nnx.RNN):
    """`flax.nnx.RNN` of a cell with analog layers.

    Takes the arguments of `flax.nnx.RNN`, without `state_axes` and `broadcast_rngs`. Every step draws read noise of its
    own. The arrays stand still during a sequence: drift, 1/f noise and the modifier of hardware-aware training are the
    same at all its steps.

    Example:
      >>> import anajax, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> hw = anajax.presets.standard_aimc()
      >>> cell = anajax.nn.LSTMCell(3, 4, hardware=hw, rngs=nnx.Rngs(0))
      >>> apply, params, hw, _ = anajax.nn.split(anajax.nn.RNN(cell))
      >>> apply(params, hw, jnp.ones((2, 7, 3)), key=jax.random.key(0)).shape
      (2, 7, 4)
    """

    def __call__(
        self,
        inputs: Array,
        *,
        initial_carry: Any = None,
        seq_lengths: Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: Any = None,
    ) -> Any:
        """Run the cell over a sequence.

        Args:
          inputs: `[*batch, time, features]`, or `[time, *batch, features]` where `time_major`.
          initial_carry: of the cell; what it initialises by default.
          seq_lengths: steps of each sequence, `[*batch]`.
          return_carry: whether to return `(carry, outputs)`, the carry after the last step of each sequence.
          time_major: whether time is the first axis.
          reverse: whether to run from the last step to the first.
          keep_order: whether reversed outputs come in the order of the inputs.
          rngs: for the initial carry.

        Returns:
          Outputs, with the axes of the inputs.
        """
        if not isinstance(self.state_axes, nnx.StateAxes) or self.broadcast_rngs is not None:
            raise ValueError("state_axes and broadcast_rngs are not supported by anajax.nn.RNN")
        given = (return_carry, time_major, reverse, keep_order)
        own = (self.return_carry, self.time_major, self.reverse, self.keep_order)
        return_carry, time_major, reverse, keep_order = (a if b is None else b for a, b in zip(own, given, strict=True))
        axis = 0 if time_major else inputs.ndim - self.cell.num_feature_axes - 1
        batch = inputs.ndim - self.cell.num_feature_axes - 1
        if reverse:
            inputs = flip_sequences(inputs, seq_lengths, num_batch_dims=batch, time_major=time_major)
        rngs = self.rngs if rngs is None else rngs
        x = jnp.moveaxis(inputs, axis, 0)
        carry = self.cell.initialize_carry(x.shape[1:], rngs) if initial_carry is None else initial_carry
        every = seq_lengths is not None and return_carry

        def step(carry: Any, x: Array) -> tuple[Any, Any]:
            carry, y = self.cell(carry, x)
            return carry, (carry, y) if every else (None, y)

        carry, (carries, outputs) = over_time(step, self.cell, carry, x, unroll=self.unroll)
        if every:
            last = jnp.asarray(seq_lengths) - 1
            carry = jax.tree.map(lambda c: _at(c, last), carries)
        outputs = jnp.moveaxis(outputs, 0, axis)
        if reverse and keep_order:
            outputs = flip_sequences(outputs, seq_lengths, num_batch_dims=batch, time_major=time_major)
        return (carry, outputs) if return_carry else outputs


def over_time(
    step: Callable[[Any, Any], tuple[Any, Any]], module: nnx.Module, carry: Any, xs: Any, *, unroll: int = 1
) -> tuple[Any, Any]:
    """Scan `step(carry, x) -> (carry, y)`, which calls a module with analog layers, over the leading axis of `xs`.

    For loops of your own within a model: `jax.lax.scan` would repeat one noise at every step.

    Args:
      step: one step; it may read what it closes over.
      module: whose analog layers it calls.
      carry: at the start.
      xs: a pytree of arrays `[steps, ...]`.
      unroll: as in `jax.lax.scan`.
    """
    inside = [host for _, host in hosts(module)]
    steps = jax.tree.leaves(xs)[0].shape[0]
    if any(m.crossbar is not None or (m.context is not None and m.context.inputs is not None) for m in inside):
        ys = []  # each step leaves something of its own: inputs that are collected, or what cells learn from
        for k in range(steps):
            carry, y = step(carry, jax.tree.map(lambda a, k=k: a[k], xs))
            ys.append(y)
        return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *ys)
    outer = [m.context for m in inside]
    inner = [(c or Context()).in_loop(m.hold()) for c, m in zip(outer, inside, strict=True)]
    calls = [c.calls for c in inner]

    def one(carry: Any, part: tuple[Array, Any]) -> tuple[Any, Any]:
        k, x = part
        for context, count in zip(inner, calls, strict=True):
            context.step, context.calls = k, count
        return step(carry, x)

    try:
        _put(inside, inner)
        result = jax.lax.scan(one, carry, (jnp.arange(steps, dtype=jnp.uint32), xs), unroll=unroll)
    finally:
        _put(inside, outer)
    for context, used in zip(outer, inner, strict=True):
        if context is not None:
            context.calls = used.calls
    return result


def _put(inside: list[Any], contexts: list[Any]) -> None:
    for layer, context in zip(inside, contexts, strict=True):
        object.__setattr__(layer, "context", context)  # no part of the model's state, at any level of tracing


def _at(carries: Array, last: Array) -> Array:
    """Return `carries [time, *batch, ...]` at the step `last [*batch]`."""
    index = last.reshape(1, *last.shape, *(1,) * (carries.ndim - 1 - last.ndim))
    return jnp.take_along_axis(carries, index, axis=0)[0]
