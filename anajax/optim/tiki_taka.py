"""Tiki-Taka: training on fast cells which are read, row by row, onto slow ones. All take `Residual` cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from anajax import arrays
from anajax._random import fold_read
from anajax.arrays import Crossbar, Hardware, Memory, Transfer
from anajax.devices import Residual
from anajax.nn.analog import over_groups
from anajax.optim.crossbars import by_crossbar, by_name, checked_params, flat, is_hidden, key_of


class TransferState(NamedTuple):
    """State of an optimiser that transfers.

    Attributes:
      key: random key of the run.
      count: updates so far.
      memory: by layer, what its transfers remember, with an axis of groups; see `anajax.arrays.Memory`.
    """

    key: Array
    count: Array
    memory: dict[str, Memory]

    @property
    def pulses(self) -> dict[str, tuple[Array, ...]]:
        """By layer, the pulses that each cell has got, `[groups, n_rows, n_cols, rows, cols]`, the fastest first."""
        return {name: memory.pulses for name, memory in self.memory.items()}


def transferring(
    hardware: Hardware | dict[str, Hardware],
    learning_rate: optax.ScalarOrSchedule,
    transfer: Transfer,
    *,
    key: Array | None,
    fast_rate: optax.ScalarOrSchedule | None = None,
) -> optax.GradientTransformation:
    """Descend the gradient by pulses on fast cells, carried over to slow ones by any rule.

    Args:
      hardware: the spec of all layers, or `{name: Hardware}`; its devices are `Residual`s.
      learning_rate: change of a weight for a gradient of 1, a number or an optax schedule.
      transfer: the rule.
      key: random key; `None` for the mean response, to trains that are not stochastic.
      fast_rate: in the place of `transfer.fast_rate`, a number or an optax schedule.
    """

    def init(params: Any) -> Any:
        memory = {}
        for name, leaf in flat(params)[0]:
            spec = by_name(hardware, name)
            memory[name] = over_groups(
                lambda _, c, spec=spec: arrays.memory_of(spec, transfer, c), None, leaf.get_value()
            )
        seed = jax.random.key(0) if key is None else key
        return TransferState(key=seed, count=jnp.zeros((), jnp.int32), memory=memory)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, TransferState]:
        checked_params(params, "an optimiser of pulses")
        rate = _at(learning_rate, state.count)
        rule = transfer if fast_rate is None else transfer.replace(fast_rate=_at(fast_rate, state.count))
        now = None if key is None else fold_read(state.key, state.count)
        memory = dict(state.memory)

        def one(name: str, crossbar: Crossbar, seen: Any) -> Crossbar:
            spec = by_name(hardware, name)
            after, memory[name] = over_groups(
                lambda k, m, c, s: arrays.transferred(k, spec, rule, c, s, m, rate),
                key_of(now, name),
                state.memory[name],
                crossbar,
                seen,
            )
            return after

        updates = by_crossbar(one, params, updates)
        return updates, TransferState(state.key, jnp.asarray(optax.safe_increment(state.count)), memory)

    return optax.GradientTransformation(init, update)


def _at(value: optax.ScalarOrSchedule, count: Array) -> Array:
    return jnp.asarray(value(count) if callable(value) else value)


def tiki_taka(
    hardware: Hardware | dict[str, Hardware],
    learning_rate: optax.ScalarOrSchedule,
    *,
    every: int = 1,
    horizon: Array | float = 200.0,
    fast_learning_rate: Array | float | None = None,
    busiest: Array | float = 5.0,
    key: Array | None,
) -> optax.GradientTransformation:
    """Tiki-Taka (version 1): rows of the fast cells are read in turn, and pulsed onto the slow ones.

    Its slow cells follow the noise of every reading. The zero of the fast cells must be their symmetry points: give
    them a `Reference(symmetry=True)`, or prepare the parameters by `zero_shift`.
    Source: Gokmen & Haensch, Front. Neurosci. 14:103 (2020).

    Args:
      hardware: the spec, or `{name: Hardware}`, of `Residual` cells; their gamma is the share of the fast ones.
      learning_rate: change of a slow weight for a gradient of 1, a number or an optax schedule.
      every: examples (vectors of a layer) from one reading of a row to the next.
      horizon: examples whose gradients a fast cell is taken to hold. Slow weights move by `learning_rate` if it holds
        those of so many, faster if of more.
      fast_learning_rate: change of a fast weight for a gradient of 1; by default such that the usual example's
        busiest cell is due `busiest` pulses.
      busiest: see there.
      key: random key.
    """
    rule = Transfer(every=(every,), horizon=horizon, fast_rate=fast_learning_rate, busiest=busiest, buffered=False)
    return transferring(hardware, learning_rate, rule, key=key)


def tiki_taka_v2(
    hardware: Hardware | dict[str, Hardware],
    learning_rate: optax.ScalarOrSchedule,
    *,
    every: int = 1,
    horizon: Array | float = 200.0,
    momentum: Array | float = 0.1,
    fast_learning_rate: Array | float | None = None,
    busiest: Array | float = 5.0,
    key: Array | None,
) -> optax.GradientTransformation:
    """Tiki-Taka with a digital buffer, which filters the readings: a slow cell gets a pulse when one is due.

    Source: Gokmen, Front. Artif. Intell. 4:699148 (2021). Arguments as those of `tiki_taka`, and:

    Args:
      hardware: the spec, or `{name: Hardware}`, of `Residual` cells.
      learning_rate: change of a slow weight for a gradient of 1.
      every: examples from one reading of a row to the next.
      horizon: see `tiki_taka`.
      momentum: what a pulse leaves of the buffer.
      fast_learning_rate: see `tiki_taka`.
      busiest: see `tiki_taka`.
      key: random key.
    """
    rule = Transfer(every=(every,), horizon=horizon, momentum=momentum, fast_rate=fast_learning_rate, busiest=busiest)
    return transferring(hardware, learning_rate, rule, key=key)


def chopped_tiki_taka(
    hardware: Hardware | dict[str, Hardware],
    learning_rate: optax.ScalarOrSchedule,
    *,
    every: int = 1,
    horizon: Array | float = 200.0,
    chop: Array | float = 0.1,
    chop_order: str = "random",
    momentum: Array | float = 0.0,
    fast_learning_rate: Array | float | None = None,
    busiest: Array | float = 5.0,
    key: Array | None,
) -> optax.GradientTransformation:
    """Chopped Tiki-Taka (c-TTv2): rows of the fast cells change sign now and then, so that an offset averages out.

    Source: Rasch et al., Nat. Commun. 15:7133 (2024). Arguments as those of `tiki_taka_v2`, and:

    Args:
      hardware: the spec, or `{name: Hardware}`, of `Residual` cells, of any gamma.
      learning_rate: change of a slow weight for a gradient of 1.
      every: examples from one reading of a row to the next.
      horizon: see `tiki_taka`.
      chop: how often a row changes sign, per reading of it.
      chop_order: `"random"`, or `"regular"`: every ceil(1 / chop) readings.
      momentum: see `tiki_taka_v2`.
      fast_learning_rate: see `tiki_taka`.
      busiest: see `tiki_taka`.
      key: random key.
    """
    rule = Transfer(
        every=(every,),
        horizon=horizon,
        momentum=momentum,
        fast_rate=fast_learning_rate,
        busiest=busiest,
        chop=chop,
        chop_order=chop_order,
    )
    return transferring(hardware, learning_rate, rule, key=key)


def agad(
    hardware: Hardware | dict[str, Hardware],
    learning_rate: optax.ScalarOrSchedule,
    *,
    every: int = 1,
    horizon: Array | float = 200.0,
    chop: Array | float = 0.1,
    chop_order: str = "regular",
    follow: Array | float = 0.5,
    momentum: Array | float = 0.0,
    fast_learning_rate: Array | float | None = None,
    busiest: Array | float = 5.0,
    key: Array | None,
) -> optax.GradientTransformation:
    """Analog gradient accumulation with dynamic reference: readings count from where the last sign of the row ended.

    No reference needs to be programmed, and none can be wrong.
    Source: Rasch et al., Nat. Commun. 15:7133 (2024). Arguments as those of `chopped_tiki_taka`, and:

    Args:
      hardware: the spec, or `{name: Hardware}`, of `Residual` cells.
      learning_rate: change of a slow weight for a gradient of 1.
      every: examples from one reading of a row to the next.
      horizon: see `tiki_taka`.
      chop: how often a row changes sign, per reading of it.
      chop_order: `"regular"`: every ceil(1 / chop) readings; or `"random"`.
      follow: weight of a reading in the running mean that becomes the reference.
      momentum: see `tiki_taka_v2`.
      fast_learning_rate: see `tiki_taka`.
      busiest: see `tiki_taka`.
      key: random key.
    """
    rule = Transfer(
        every=(every,),
        horizon=horizon,
        momentum=momentum,
        fast_rate=fast_learning_rate,
        busiest=busiest,
        chop=chop,
        chop_order=chop_order,
        follow=follow,
    )
    return transferring(hardware, learning_rate, rule, key=key)


def residual_learning(
    hardware: Hardware | dict[str, Hardware],
    learning_rate: optax.ScalarOrSchedule,
    *,
    transfer_rate: Array | float,
    every: int | tuple[int, ...] = 1,
    key: Array | None,
) -> optax.GradientTransformation:
    """Residual learning: the fast cells descend the gradient of a weight that they are part of, the slow ones follow.

    With gamma > 0 the fast cells mend what the slow ones cannot hold, and rest where nothing is left to mend.
    Nested `Residual` cells learn each what those before them leave over.
    Source: Wu et al., arXiv:2502.06309 and arXiv:2510.02516 (2025).

    Args:
      hardware: the spec, or `{name: Hardware}`, of `Residual` cells with gamma > 0.
      learning_rate: change of a fastest weight for a gradient of 1, a number or an optax schedule.
      transfer_rate: change of a slower weight for a faster one of 1, each time it is read.
      every: examples from one reading of a row to the next; one number for each transfer of nested cells, the fastest
        first, or one for the first, each slower one waiting ten times as long.
      key: random key.
    """
    for spec in hardware.values() if isinstance(hardware, dict) else [hardware]:
        if is_hidden(spec.device):
            raise ValueError("residual_learning needs Residual cells with gamma greater than 0; got 0")
    stages = _stages(hardware)
    if isinstance(every, int):
        every = tuple(every * 10**k for k in range(stages))
    rule = Transfer(every=every, rate=transfer_rate, buffered=False)
    return transferring(hardware, learning_rate, rule, key=key, fast_rate=learning_rate)


def _stages(hardware: Hardware | dict[str, Hardware]) -> int:
    spec = next(iter(hardware.values())) if isinstance(hardware, dict) else hardware
    device, count = spec.device, 0
    while isinstance(device, Residual):
        device, count = device.fast, count + 1
    return max(count, 1)
