"""What keeps cells fit for training: transfers, refreshes and waiting between updates, and the preparation of zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from anajax._loop import shared
from anajax._random import fold_read
from anajax.arrays import Crossbar, Examples, Hardware
from anajax.arrays.residual import zeroed
from anajax.arrays.tile import over_grid
from anajax.devices import Cells
from anajax.nn.analog import over_groups
from anajax.optim.crossbars import by_crossbar, by_name, checked_params, flat, key_of, on_crossbars

Action = Callable[[Any, Array | None, Cells], Cells]


class UpkeepState(NamedTuple):
    """State of `periodically`.

    Attributes:
      inner: of the optimiser within.
      key: random key of the run.
      count: updates so far.
      waiting: by layer, examples since its last upkeep.
    """

    inner: Any
    key: Array
    count: Array
    waiting: dict[str, Array]


def periodically(
    optimiser: optax.GradientTransformation,
    hardware: Hardware | dict[str, Hardware],
    action: Action,
    *,
    every: int,
    key: Array | None,
) -> optax.GradientTransformation:
    """Do something to the cells after every so many examples, besides what an optimiser does.

    Args:
      optimiser: such as `analog_sgd`.
      hardware: the spec of all layers, or `{name: Hardware}`.
      action: `action(device, key, cells) -> cells`, such as a method of the device's class.
      every: examples (vectors of a layer) from one action to the next; after the mini-batch in which they end.
      key: random key, or `None` for the mean.

    Example:
      The cell of phase-change memories and a capacitor, which is transferred every 8,000 examples, and a pair of
      phase-change memories whose full cells are refreshed:

      >>> import jax
      >>> from anajax import devices, optim
      >>> def transferred(hardware, key):
      ...     sgd = optim.analog_sgd(hardware, 0.1, key=key)
      ...     return optim.periodically(sgd, hardware, devices.Significance.transfer, every=8000, key=key)
      >>> def refreshed(hardware, key):
      ...     sgd = optim.analog_sgd(hardware, 0.1, key=key)
      ...     return optim.periodically(sgd, hardware, devices.OneSidedPair.refresh, every=100, key=key)
    """
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a positive integer; got {every!r}")

    def init(params: Any) -> UpkeepState:
        waiting = {name: jnp.zeros((), jnp.uint32) for name, _ in flat(params)[0]}
        seed = jax.random.key(0) if key is None else key
        return UpkeepState(optimiser.init(params), seed, jnp.zeros((), jnp.int32), waiting)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, UpkeepState]:
        checked_params(params, "periodically")
        changes, inner = optimiser.update(updates, state.inner, params)
        now = None if key is None else fold_read(fold_read(state.key, state.count), 0x5EED)
        moved = optax.apply_updates(params, changes)
        told = {name: leaf.get_value().seen for name, leaf in flat(updates)[0]}
        waiting = {}

        def one(name: str, crossbar: Crossbar, _: Any) -> Crossbar:
            seen, spec = told[name], by_name(hardware, name)
            count = jnp.asarray(seen.x[0, ..., 0].size) if isinstance(seen, Examples) else seen.count.ravel()[0]
            waited = shared(state.waiting[name]) + shared(count)
            waiting[name] = waited % every

            def act(crossbar: Crossbar) -> Crossbar:
                def each(key: Array | None, crossbar: Crossbar) -> Crossbar:
                    act = over_grid(lambda k, cells: action(spec.device, k, cells), crossbar.scale.shape[:2])
                    return crossbar.replace(cells=act(key, crossbar.cells))

                return over_groups(each, key_of(now, name), crossbar)

            return jax.lax.cond(waited >= every, act, lambda c: c, crossbar)

        extra = by_crossbar(one, moved, moved)
        count = jnp.asarray(optax.safe_increment(state.count))
        return jax.tree.map(jnp.add, changes, extra), UpkeepState(inner, state.key, count, waiting)

    return optax.GradientTransformation(init, update)


def zero_shift(
    key: Array | None, hardware: Hardware | dict[str, Hardware], params: Any, *, pulses: int | None = None
) -> Any:
    """Return parameters whose fast cells read zero where steps up and down cancel.

    Their references are programmed to it; the fast cells must be `ReferencePair`s.
    Source: Kim et al., arXiv:1907.10228 (2019).

    Args:
      key: random key for pulses and for the programming of references, or `None` for the mean.
      hardware: the spec of all layers, or `{name: Hardware}`, of `Residual` cells.
      params: of a model of `anajax.nn.in_situ`.
      pulses: alternating pulses by which the symmetry points are found, up and down by turns; `None` knows them.
    """

    def one(name: str, crossbar: Crossbar) -> Crossbar:
        spec = by_name(hardware, name)

        def each(key: Array | None, crossbar: Crossbar) -> Crossbar:
            zero = over_grid(lambda k, cells: zeroed(k, spec.device, cells, pulses), crossbar.scale.shape[:2])
            return crossbar.replace(cells=zero(key, crossbar.cells))

        return over_groups(each, key_of(key, name), crossbar)

    return on_crossbars(one, params)
