"""Stochastic gradient descent by pulses, and its partition from what stays digital."""

from __future__ import annotations

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
from anajax.optim.crossbars import by_crossbar, by_name, checked_params, flat, key_of, seen_by_pulses


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
        seen_by_pulses(hardware, params, "analog_sgd")
        pulses = {
            name: over_groups(lambda _, c: jnp.zeros(c.cells_of_weights()), None, leaf.get_value())
            for name, leaf in flat(params)[0]
        }
        seed = jax.random.key(0) if key is None else key
        return AnalogState(key=seed, count=jnp.zeros((), jnp.int32), pulses=pulses)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AnalogState]:
        checked_params(params, "analog_sgd")
        rate = jnp.asarray(learning_rate(state.count) if callable(learning_rate) else learning_rate)
        now = None if key is None else fold_read(state.key, state.count)
        counts = dict(state.pulses)

        def one(name: str, crossbar: arrays.Crossbar, seen: Any) -> arrays.Crossbar:
            spec = by_name(hardware, name)
            after, pulses = over_groups(
                lambda k, c, s: arrays.pulsed(k, spec, c, s, rate), key_of(now, name), crossbar, seen
            )
            counts[name] = counts[name] + pulses
            return after

        updates = by_crossbar(one, params, updates)
        return updates, AnalogState(state.key, jnp.asarray(optax.safe_increment(state.count)), counts)

    return optax.GradientTransformation(init, update)


def partition(
    analog: optax.GradientTransformation, digital: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Return one transformation for a whole model: `analog` for its conductances, `digital` for all else.

    Args:
      analog: such as `analog_sgd`.
      digital: any of optax.
    """

    def labels(params: Any) -> Any:
        found = jax.tree.map(
            lambda v: "analog" if isinstance(v, Conductance) else "digital",
            params,
            is_leaf=lambda v: isinstance(v, nnx.Variable),
        )
        if "analog" not in jax.tree.leaves(found):
            raise ValueError(
                "params has no conductances: make the model one that lives in them, by anajax.nn.in_situ, and pass the"
                " parameters as anajax.nn.split returns them"
            )
        return found

    return optax.multi_transform({"analog": analog, "digital": digital}, labels)


def pulses(state: Any) -> dict[str, Any]:
    """Return the pulses of every weight so far by layer, of the state of whatever holds an optimiser of pulses.

    Arrays are `[groups, n_rows, n_cols, rows, cols]`, one for each array of a cell, the fastest first, where there are
    several.

    Args:
      state: of `partition`, `periodically`, `optax.chain`, or of the optimiser itself.
    """
    if hasattr(state, "pulses"):
        return dict(state.pulses)
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, tuple) else ()
    return {name: counts for part in parts for name, counts in pulses(part).items()}
