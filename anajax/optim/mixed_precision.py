"""Mixed precision: gradients add up in digital, and what is worth a pulse is pulsed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from anajax import arrays
from anajax._random import fold_read
from anajax.arrays import Crossbar, Hardware
from anajax.nn.analog import over_groups
from anajax.optim.crossbars import by_crossbar, by_name, checked_params, flat, key_of, seen_by_pulses


class MixedState(NamedTuple):
    """State of `mixed_precision`.

    Attributes:
      key: random key of the run.
      count: updates so far.
      gathered: by layer, what is not yet pulsed, in weights, `[groups, n_rows, n_cols, rows, cols]`.
      waiting: by layer, examples since its last pulses.
      pulses: by layer, the pulses that each weight has got.
    """

    key: Array
    count: Array
    gathered: dict[str, Array]
    waiting: dict[str, Array]
    pulses: dict[str, Array]


def mixed_precision(
    hardware: Hardware | dict[str, Hardware],
    learning_rate: optax.ScalarOrSchedule,
    *,
    every: int = 1,
    key: Array | None,
) -> optax.GradientTransformation:
    """Gather the gradient in digital, and send each cell the whole pulses that it is due, without looking.

    What is less than a pulse stays gathered. Gradients cost digital products here, pulses are few.
    Source: Nandakumar et al., Front. Neurosci. 14:406 (2020).

    Args:
      hardware: the spec of all layers, or `{name: Hardware}`; any device that is trained by pulses.
      learning_rate: change of a weight for a gradient of 1, a number or an optax schedule.
      every: examples (vectors of a layer) from pulses to pulses; those due within a mini-batch follow it.
      key: random key for cycle-to-cycle noise; `None` for its mean.
    """
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a positive integer; got {every!r}")

    def init(params: Any) -> MixedState:
        seen_by_pulses(hardware, params, "mixed_precision")
        zeros, waiting = {}, {}
        for name, leaf in flat(params)[0]:
            zeros[name] = over_groups(lambda _, c: jnp.zeros(c.cells_of_weights()), None, leaf.get_value())
            waiting[name] = jnp.zeros((), jnp.int32)
        seed = jax.random.key(0) if key is None else key
        return MixedState(seed, jnp.zeros((), jnp.int32), zeros, waiting, jax.tree.map(jnp.zeros_like, zeros))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MixedState]:
        checked_params(params, "mixed_precision")
        rate = jnp.asarray(learning_rate(state.count) if callable(learning_rate) else learning_rate)
        now = None if key is None else fold_read(state.key, state.count)
        gathered, waiting, pulses = dict(state.gathered), dict(state.waiting), dict(state.pulses)

        def one(name: str, crossbar: Crossbar, seen: Any) -> Crossbar:
            spec = by_name(hardware, name)
            gradient, n = over_groups(lambda _, c, s: arrays.summed(spec, c, s), None, crossbar, seen)
            waited = waiting[name] + n[0].astype(jnp.int32)
            waiting[name] = waited % every
            after, gathered[name], counts = over_groups(
                lambda k, c, h: arrays.pulsed_whole(k, spec, c, h, waited >= every),
                key_of(now, name),
                crossbar,
                gathered[name] - rate * gradient,
            )
            pulses[name] = pulses[name] + jnp.abs(counts)
            return after

        updates = by_crossbar(one, params, updates)
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, MixedState(state.key, count, gathered, waiting, pulses)

    return optax.GradientTransformation(init, update)
