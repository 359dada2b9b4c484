"""Transfers: from cells that gather gradients to cells that hold the weights, row by row.

Steps up and down that differ draw a cell to its symmetry point, and a weight that pulses train directly with them.
Tiki-Taka trains another, fast array instead, whose rows are read in turn, and whose readings are pulsed onto the slow
one. `Residual` cells hold both.

Source: Gokmen & Haensch, Front. Neurosci. 14:103 (2020); Gokmen, Front. Artif. Intell. 4:699148 (2021), the buffer;
Rasch et al., Nat. Commun. 15:7133 (2024), choppers, and the reference that follows.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from anajax._loop import iterate, shared
from anajax._random import fold_read, read_uniform, split_read
from anajax._record import Record, leaf, record, static
from anajax.arrays.crossbar import Crossbar, Examples, told_to_arrays
from anajax.arrays.hardware import Hardware
from anajax.arrays.pulses import (
    PulseTrain,
    Sums,
    aggregate_update,
    coincidences,
    granularity,
    sequential_update,
)
from anajax.arrays.reads import mvm
from anajax.arrays.residual import chopper, put, take, tiles, turned
from anajax.arrays.tile import Effective, over_grid
from anajax.devices import Cells
from anajax.devices.pulsed import with_derivatives_of

_BLOCK = 16  # rows that are read together, where several are due
_FOLLOWS = 0.01  # share of a mini-batch in the running mean of the size of gradients


@record
class Transfer(Record):
    """When rows of the fast arrays are read, and what becomes of the readings.

    With lambda the learning rate, y a row as read, c its chopper and delta the step of the slow cells,

        z = c y, or c (y - past),      h <- h + rate z / delta,      rate = lambda every rows / (horizon fast_rate)

    and where |h| >= 1 the slow cells get trunc(h) pulses, at most `longest`, and h <- momentum h. Without a buffer
    they get trains of pulses of mean rate z / delta at once. All rates are in weights, whatever the steps. Nested
    `Residual`s take neither choppers nor buffers.

    Attributes:
      every: examples from one reading of a row to the next; one number for each transfer of nested cells.
      fast_rate: change of a fast weight for a gradient of 1; `None` for one at which the busiest fast cell is due
        `busiest` pulses from the usual example.
      busiest: see `fast_rate`.
      rate: change of a slow weight for a fast one that is read; `None` for the above.
      horizon: examples whose gradients a fast cell is taken to hold: it forgets as its steps fade, by 1 / (pulses of
        an example, times the share of a bound that one moves).
      buffered: whether readings add up in digital until they are worth a pulse.
      momentum: what is left of the buffer after a pulse.
      longest: pulses of a cell by one reading of a buffer, at most.
      chop: how often the sign of a row changes, per reading of it; `None` for never.
      chop_order: `"random"` changes, or `"regular"` ones, every ceil(1 / chop) readings, and at least two.
      follow: weight of a reading in the running mean from which `past` is taken whenever the sign changes; `None` for
        readings that are taken as they are.
    """

    every: tuple[int, ...] = static(default=(1,))
    fast_rate: Array | float | None = leaf(default=None, ge=0)
    busiest: Array | float = leaf(default=5.0, gt=0)
    rate: Array | float | None = leaf(default=None, ge=0)
    horizon: Array | float = leaf(default=200.0, gt=0)
    buffered: bool = static(default=True, choices=(False, True))
    momentum: Array | float = leaf(default=0.0, ge=0, le=1)
    longest: Array | float = leaf(default=1.0, ge=1)
    chop: Array | float | None = leaf(default=None, gt=0, le=1)
    chop_order: str = static(default="random", choices=("random", "regular"))
    follow: Array | float | None = leaf(default=None, gt=0, le=1)

    def check(self) -> None:
        """Check the intervals, and that a reference which follows has choppers to follow."""
        if not (isinstance(self.every, tuple) and self.every and all(isinstance(n, int) and n > 0 for n in self.every)):
            raise ValueError(f"Transfer.every must be positive integers; got {self.every!r}")
        if self.follow is not None and self.chop is None:
            raise ValueError("Transfer.follow takes the past whenever a chopper changes: it needs chop; got None")


class Memory(NamedTuple):
    """What a crossbar's transfers remember, in digital; leaves but for the last two are by array.

    Attributes:
      buffer: h, `[n_rows, n_cols, rows, cols]`, in pulses.
      mean: running mean of readings, or `None`.
      past: what readings are taken against, or `None`.
      started: whether a row has a past, `[n_rows, n_cols, rows, 1]`, or `None`.
      largest: running sums of the largest gradient of an example and of its weights, `[n_rows, n_cols, 2]`.
      pulses: of all cells so far, for each array of a cell, the fastest first.
      waiting: examples since the last reading, for each transfer; `None` within one array, as are `reads`.
      reads: readings so far, for each transfer.
    """

    buffer: Array | None
    mean: Array | None
    past: Array | None
    started: Array | None
    largest: Array
    pulses: tuple[Array, ...]
    waiting: Any
    reads: Any


def memory_of(hardware: Hardware, transfer: Transfer, crossbar: Crossbar) -> Memory:
    """Return what transfers remember before the first."""
    layers = tiles(hardware.device)
    if len(layers) < 2:
        raise ValueError(
            "Hardware.device must be a Residual, a slow and a fast cell for each weight; got"
            f" {type(hardware.device).__name__}"
        )
    if len(transfer.every) != len(layers) - 1:
        raise ValueError(
            f"Transfer.every must have {len(layers) - 1} numbers, one for each transfer between {len(layers)} cells;"
            f" got {transfer.every}"
        )
    if len(layers) > 2 and (transfer.buffered or transfer.chop is not None):
        raise ValueError(
            "nested Residual cells take Transfer(buffered=False, chop=None); got"
            f" buffered={transfer.buffered}, chop={transfer.chop}"
        )
    zeros = jnp.zeros(crossbar.cells_of_weights(), crossbar.scale.dtype)
    follows = transfer.follow is not None
    return Memory(
        buffer=zeros if transfer.buffered else None,
        mean=zeros if follows else None,
        past=zeros if follows else None,
        started=zeros[..., :1] if follows else None,
        largest=zeros[..., 0, :1].repeat(2, axis=-1),
        pulses=(zeros,) * len(layers),
        waiting=jnp.zeros(len(transfer.every), jnp.uint32),
        reads=jnp.zeros(len(transfer.every), jnp.uint32),
    )


@jax.jit
def transferred(
    key: Array | None,
    hardware: Hardware,
    transfer: Transfer,
    crossbar: Crossbar,
    seen: Sums | Examples,
    memory: Memory,
    learning_rate: Array | float,
) -> tuple[Crossbar, Memory]:
    """Pulse the fast cells by a gradient, and carry over what is due of them to the slow ones.

    A mini-batch of `Sums` moves the fast cells at once; what is due within it is then read. With choppers it goes in
    parts, of as many examples as a sweep over all rows takes. That of `Examples` goes one by one.

    Args:
      key: random key, or `None` for the mean: trains must then not be stochastic.
      hardware: the spec, of `Residual` cells.
      transfer: the rule.
      crossbar: as it stands.
      seen: the cotangent of `crossbar.seen`.
      memory: from `memory_of`, or the last update.
      learning_rate: change of a weight for a gradient of 1.
    """
    told = told_to_arrays(hardware, crossbar, seen)
    clock = _Clock(shared(memory.waiting), shared(memory.reads))
    setting = _Setting(hardware, transfer, jnp.asarray(learning_rate), clock)
    walk: Any = _by_example if isinstance(told, Examples) else _at_once
    n = told.x.shape[2] if isinstance(told, Examples) else shared(told.count[0, 0])

    def one(key: Array | None, *of_array: Any) -> tuple[Cells, Memory]:
        return walk(key, setting, *of_array)

    before = memory._replace(waiting=None, reads=None)
    cells, after = over_grid(one, crossbar.scale.shape[:2])(key, crossbar.cells, told, before)
    return crossbar.replace(cells=cells), after._replace(**clock.later(transfer, n)._asdict())


# -- clocks ------------------------------------------------------------------------------------------------------------


class _Clock(NamedTuple):
    waiting: Array
    reads: Array

    def due(self, transfer: Transfer, n: Any) -> Array:
        """Return how many readings of each transfer are due after `n` examples more."""
        every = jnp.asarray(transfer.every, jnp.uint32)
        return (self.waiting + jnp.asarray(n, jnp.uint32)) // every

    def later(self, transfer: Transfer, n: Any) -> _Clock:
        every = jnp.asarray(transfer.every, jnp.uint32)
        waited = self.waiting + jnp.asarray(n, jnp.uint32)
        return _Clock(waited % every, self.reads + waited // every)


# -- one array ---------------------------------------------------------------------------------------------------------


class _Setting(NamedTuple):
    """What all arrays of a crossbar have in common, and where its clock stands."""

    hardware: Hardware
    transfer: Transfer
    learning_rate: Array
    clock: _Clock

    def hardware_of(self, layer: int) -> Hardware:
        """Return the hardware of the fastest cells, 0, or of slower ones alone."""
        return self.hardware.replace(device=tiles(self.hardware.device)[layer])


class _Rates(NamedTuple):
    """Changes of weights: of the fast ones by a gradient of 1, of slow ones by a fast one, and by one pulse."""

    fast: Array
    slow: Array
    steps: tuple[Array, ...]


def _rates(setting: _Setting, memory: Memory, rows: int) -> _Rates:
    _, transfer, learning_rate, _ = setting
    steps = tuple(granularity(setting.hardware_of(layer)) for layer in range(len(memory.pulses)))
    fast = transfer.fast_rate
    if fast is None:
        total, weight = memory.largest
        usual = total / jnp.where(weight > 0, weight, 1.0)
        fast = jnp.where(usual > 0, transfer.busiest * steps[0] / jnp.where(usual > 0, usual, 1.0), 0.0)
    fast = jnp.asarray(fast)
    slow = transfer.rate
    if slow is None:
        some = fast > 0
        slow = learning_rate * transfer.every[0] * rows / (transfer.horizon * jnp.where(some, fast, 1.0))
        slow = jnp.where(some, slow, 0.0)
    # no learning rate, no learning
    return _Rates(jnp.where(learning_rate > 0, fast, 0.0), jnp.asarray(slow), steps)


def _seen_now(memory: Memory, largest: Array) -> Memory:
    old = memory.largest
    return memory._replace(largest=(1 - _FOLLOWS) * old + _FOLLOWS * jnp.stack([largest, jnp.ones_like(largest)]))


def _gathered(cells: Cells, memory: Memory, fast: Cells, pulses: Array) -> tuple[Cells, Memory]:
    """Return both after the fast cells have got these pulses."""
    cells = put(cells, [fast, *take(cells)[1:]])
    return cells, memory._replace(pulses=(memory.pulses[0] + pulses, *memory.pulses[1:]))


def _at_once(key: Array | None, setting: _Setting, cells: Cells, total: Sums, memory: Memory) -> tuple[Cells, Memory]:
    rows, n = total.gradient.shape[0], shared(total.count)
    memory = _seen_now(memory, total.mean_largest)
    rates = _rates(setting, memory, rows)
    if setting.transfer.chop is None:
        return _jump(key, setting, cells, total, memory, rates, n)
    # a row must gather by each of its signs: a jump for each sweep of readings, all of alike examples
    stride = jnp.uint32(setting.transfer.every[0] * rows)
    jumps = ((n + stride - 1) // stride).astype(jnp.int32)
    return iterate(_jump_of_sweep, jumps, (cells, memory), (key, setting, total, rates, n, stride))


def _jump_of_sweep(k: Array, carry: tuple[Cells, Memory], args: Any) -> tuple[Cells, Memory]:
    key, setting, total, rates, n, stride = args
    before = jnp.asarray(k, jnp.uint32) * stride
    own = jnp.minimum(stride, n - before)
    share = jax.tree.map(lambda a: a * (own / n).astype(a.dtype), total)
    setting = setting._replace(clock=setting.clock.later(setting.transfer, before))
    cells, memory = carry
    return _jump(None if key is None else fold_read(key, k), setting, cells, share, memory, rates, own)


def _jump(
    key: Array | None, setting: _Setting, cells: Cells, total: Sums, memory: Memory, rates: _Rates, n: Array
) -> tuple[Cells, Memory]:
    """Pulse what `n` examples sum up to, and carry over what is due then."""
    pulsing, reading = (None, None) if key is None else (fold_read(key, 0), fold_read(key, 1))
    if setting.transfer.chop is not None:
        total = total.replace(gradient=total.gradient * chopper(cells))
    moved = aggregate_update(pulsing, setting.hardware_of(0), take(cells)[0], total, rates.fast)
    cells, memory = _gathered(cells, memory, *moved)
    block = min(_BLOCK, total.gradient.shape[0])
    return _carry_over(reading, setting, cells, memory, rates, n, block)


def _by_example(
    key: Array | None, setting: _Setting, cells: Cells, told: Examples, memory: Memory
) -> tuple[Cells, Memory]:
    largest = jnp.max(jnp.abs(told.x), axis=1) * jnp.max(jnp.abs(told.d), axis=1)
    memory = _seen_now(memory, jnp.mean(largest))
    rates = _rates(setting, memory, told.x.shape[1])
    hardware = setting.hardware_of(0)

    def one(carry: Any, example: Any) -> tuple[Any, None]:
        cells, memory, clock = carry
        k, x, d = example
        pulsing, reading = (None, None) if key is None else (fold_read(key, k, 0), fold_read(key, k, 1))
        if setting.transfer.chop is not None:
            x = x * chopper(cells)[:, 0]
        moved = sequential_update(pulsing, hardware, take(cells)[0], x[None], d[None], rates.fast)
        cells, memory = _gathered(cells, memory, *moved)
        cells, memory = _carry_over(reading, setting._replace(clock=clock), cells, memory, rates, 1)
        return (cells, memory, clock.later(setting.transfer, 1)), None

    order = jnp.arange(told.x.shape[0], dtype=jnp.uint32)
    return jax.lax.scan(one, (cells, memory, setting.clock), (order, told.x, told.d))[0][:2]


def _carry_over(
    key: Array | None, setting: _Setting, cells: Cells, memory: Memory, rates: _Rates, n: Any, block: int = 1
) -> tuple[Cells, Memory]:
    """Read what is due after `n` examples, `block` rows at a time, and pulse what follows from it."""
    due = setting.clock.due(setting.transfer, n).astype(jnp.int32)
    for stage in range(len(setting.transfer.every)):
        own = None if key is None else fold_read(key, stage)
        blocks = (due[stage] + block - 1) // block
        args = (own, setting, rates, due[stage])
        cells, memory = iterate(_stage(stage, block), blocks, (cells, memory), args)
    return cells, memory


@functools.cache  # one function for each, as `iterate` asks for
def _stage(stage: int, block: int) -> Any:
    def step(k: Array, carry: tuple[Cells, Memory], args: Any) -> tuple[Cells, Memory]:
        return _read_and_pulse(stage, block, k, carry, args)

    return step


def _read_and_pulse(stage: int, block: int, k: Array, carry: tuple[Cells, Memory], args: Any) -> tuple[Cells, Memory]:
    """Read the next rows of the cells of this stage, those that are due, and pulse them of the next slower cells."""
    cells, memory = carry
    key, setting, rates, due = args
    transfer = setting.transfer
    reading, firing, pulsing, chopping = (None,) * 4 if key is None else (fold_read(key, k, i) for i in range(4))
    source, target = setting.hardware_of(stage), setting.hardware_of(stage + 1)
    turn = k * block + jnp.arange(block)
    now = (turn < due)[:, None]
    turn = setting.clock.reads[stage] + turn.astype(jnp.uint32)
    size = memory.pulses[0].shape[0]
    rows = _Rows((turn % size).astype(jnp.int32), now)
    parts = take(cells)
    old: Any = rows.of(memory._replace(largest=None))
    new = old._asdict()

    y = _read_rows(reading, source, rows.of(parts[stage], axis=1))
    sign = rows.of(chopper(cells)) if transfer.chop is not None else 1.0
    z = sign * y if transfer.follow is None else jnp.where(old.started > 0, sign * (y - old.past), 0.0)
    wanted = rates.slow / rates.steps[stage + 1] * z
    if transfer.buffered:
        counts, new["buffer"] = _worth(old.buffer + wanted, transfer)
    else:
        counts = _trains(firing, setting.hardware.pulses, wanted)
    counts = jnp.where(now, counts, 0.0)
    new["pulses"] = tuple(p + jnp.abs(counts) if i == stage + 1 else p for i, p in enumerate(old.pulses))
    after = target.device.pulse(pulsing, rows.of(parts[stage + 1], axis=1), target.mapping.route(counts))
    parts[stage + 1] = rows.put(parts[stage + 1], after, axis=1)
    cells = put(cells, parts)
    if transfer.chop is not None:
        flips = now & _flips(chopping, transfer, turn // size)[:, None]
        cells = turned(cells, rows.index, flips)
        if transfer.follow is not None:
            new["mean"] = old.mean + transfer.follow * (y - old.mean)
            new["past"] = jnp.where(flips, new["mean"], old.past)
            new["started"] = jnp.where(flips, 1.0, old.started)
    memory = rows.put(memory._replace(largest=None), Memory(**new))._replace(largest=memory.largest)
    return cells, memory


class _Rows(NamedTuple):
    """Rows of an array, of which those `now` change."""

    index: Array
    now: Array

    def of(self, whole: Any, axis: int = 0) -> Any:
        return jax.tree.map(lambda a: jnp.take(a, self.index, axis=axis, mode="clip"), whole)

    def put(self, whole: Any, part: Any, axis: int = 0) -> Any:
        def one(whole: Array, part: Array) -> Array:
            kept = jnp.take(whole, self.index, axis=axis, mode="clip")
            part = jnp.where(self.now, part, kept)
            where = (slice(None),) * axis + (self.index,)
            return whole.at[where].set(part, mode="promise_in_bounds", unique_indices=True)

        return jax.tree.map(one, whole, part)


def _read_rows(key: Array | None, hardware: Hardware, cells: Cells) -> Array:
    """Read rows of cells `[cells, rows, lines]`, one by one, through the periphery: `[rows, cols]`."""
    settling, reading = (None, None) if key is None else (fold_read(key, 0), fold_read(key, 1))
    weights = hardware.mapping.decode(hardware.device, hardware.device.read(settling, cells))
    shape = weights.shape
    array = Effective(
        weights=weights[None, None],
        scale=jnp.ones((1, 1, shape[1]), weights.dtype),
        outputs={},
        conduction={},
        shape=shape,
    )
    # with a single row on, wires and laws of conduction hardly matter, and inputs need no scaling
    periphery = hardware.replace(inputs=None, wires=None, conduction=None)
    return mvm(reading, periphery, array, jnp.eye(shape[0], dtype=weights.dtype))


def _trains(key: Array | None, train: PulseTrain, wanted: Array) -> Array:
    """Return the pulses of trains of these means, row by row."""
    one = jnp.ones(1, wanted.dtype)
    if key is None:
        return jax.vmap(lambda w: coincidences(None, train, one, -w, 1.0)[0])(wanted)
    keys = split_read(key, wanted.shape[:1])
    return jax.vmap(lambda k, w: coincidences(k, train, one, -w, 1.0)[0])(keys, wanted)


def _worth(h: Array, transfer: Transfer) -> tuple[Array, Array]:
    """Return the pulses that a buffer is worth, and what is left of it; counts have derivatives of the buffer."""
    counts = jnp.clip(jnp.trunc(h), -transfer.longest, transfer.longest)
    counts = with_derivatives_of(jnp.clip(h, -transfer.longest, transfer.longest), counts)
    # derivatives go by the counts: kept in the buffer as well, they would be counted at each reading again
    return counts, jnp.where(counts != 0, transfer.momentum * h, jax.lax.stop_gradient(h))


def _flips(key: Array | None, transfer: Transfer, sweep: Array) -> Array:
    """Return whether rows' choppers change after a reading in these sweeps; without a key, always regularly."""
    chop = jnp.asarray(transfer.chop)
    if transfer.chop_order == "random" and key is not None:
        return read_uniform(key, sweep.shape, chop.dtype) < chop
    period = jnp.maximum(jnp.ceil(1 / chop - 1e-4), 2).astype(jnp.uint32)
    return (sweep + 1) % period == 0
