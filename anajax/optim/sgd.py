"""Stochastic gradient descent by pulses, and what all in-situ optimisers share."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from anajax import arrays
from anajax._random import fold_read
from anajax.arrays import Hardware
from anajax.nn.analog import Conductance, over_groups


class AnalogState(NamedTuple):
    """State of `analog_sgd`.

    Attributes:
      key: random key of the run.
      count: updates so far.
      pulses: by layer, the pulses that each weight has got, `[groups, n_rows, n_cols, rows, cols]`.
    """

    key: Array
    count: Array
    pulses: dict[str, Array]


def analog_sgd(
    hardware: Hardware | dict[str, Hardware], learning_rate: optax.ScalarOrSchedule, *, key: Array | None
) -> optax.GradientTransformation:
    """Descend the gradient by pulses on the cells themselves: the crossbar's own, parallel update.

    Takes the gradients of the parameters of a model from `anajax.nn.in_situ`, all of which must be conductances; biases
    and what else is digital go elsewhere, by `partition`. The updates it returns are differences of states: add them
    as they are, by `optax.apply_updates`.

    Args:
      hardware: the spec of all layers, or `{name: Hardware}`, as `anajax.nn.split` returns it.
      learning_rate: change of a weight for a gradient of 1, a number or an optax schedule.
      key: random key for trains of pulses and cycle-to-cycle noise; `None` for their means.

    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016).
    """

    def init(params: Any) -> AnalogState:
        pulses = {name: jnp.zeros(_weights_shape(leaf.get_value())) for name, leaf in _flat(params)[0]}
        seed = jax.random.key(0) if key is None else key
        return AnalogState(key=seed, count=jnp.zeros((), jnp.int32), pulses=pulses)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AnalogState]:
        if params is None:
            raise ValueError("analog_sgd needs params: call update(grads, state, params)")
        rate = jnp.asarray(learning_rate(state.count) if callable(learning_rate) else learning_rate)
        now = None if key is None else fold_read(state.key, state.count)
        counts = dict(state.pulses)

        def one(name: str, crossbar: arrays.Crossbar, seen: Any) -> arrays.Crossbar:
            own = None if now is None else fold_read(now, zlib.crc32(name.encode()))
            spec = hardware[name] if isinstance(hardware, dict) else hardware
            after, pulses = over_groups(lambda k, c, s: arrays.pulsed(k, spec, c, s, rate), own, crossbar, seen)
            counts[name] = counts[name] + pulses
            return after

        updates = _by_crossbar(one, params, updates)
        return updates, AnalogState(state.key, jnp.asarray(optax.safe_increment(state.count)), counts)

    return optax.GradientTransformation(init, update)


def partition(
    analog: optax.GradientTransformation, digital: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Return one transformation for a whole model: `analog` for its conductances, `digital` for all else."""

    def labels(params: Any) -> Any:
        return jax.tree.map(
            lambda v: "analog" if isinstance(v, Conductance) else "digital",
            params,
            is_leaf=lambda v: isinstance(v, nnx.Variable),
        )

    return optax.multi_transform({"analog": analog, "digital": digital}, labels)


def _is_conductance(x: Any) -> bool:
    return isinstance(x, Conductance)


def _flat(params: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Return `(name, Conductance)` of all parameters, and the structure to put them back; raise for others."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_conductance)
    named = []
    for path, leaf in leaves:
        if not _is_conductance(leaf):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} does not live in conductances: optimisers of pulses take models of"
                " anajax.nn.in_situ; route other parameters elsewhere, by anajax.optim.partition"
            )
        named.append((".".join(str(getattr(k, "key", k)) for k in path[:-1]) or "self", leaf))
    return named, treedef


def _weights_shape(crossbar: arrays.Crossbar) -> tuple[int, ...]:
    """Return the shape of the weights in their arrays, `(groups, n_rows, n_cols, rows, cols)`."""
    groups, n_rows, n_cols, cols = crossbar.scale.shape
    return groups, n_rows, n_cols, -(-crossbar.shape[0] // n_rows), cols


def _by_crossbar(f: Callable[..., arrays.Crossbar], params: Any, grads: Any) -> Any:
    """Return the updates that lead from every crossbar to `f(name, crossbar, what it was told)`."""
    now, treedef = _flat(params)
    told = [leaf.get_value() for _, leaf in _flat(grads)[0]]
    updates = []
    for (name, leaf), gradient in zip(now, told, strict=True):
        before = leaf.get_value()
        after = f(name, before, gradient.seen)
        updates.append(leaf.replace(jax.tree.map(jnp.subtract, after, before)))
    return treedef.unflatten(updates)
