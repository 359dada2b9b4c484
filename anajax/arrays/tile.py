"""Tiles: a weight matrix on crossbar arrays. Program it, let it settle at a time, and multiply.

    tile      = program(key, hardware, weights)                # a chip's share: standard scores only
    effective = settle(key, hardware, tile, weights, time)     # once per chip and time
    y         = mvm(key, hardware, effective, x)               # per input

`weights` is `[rows, cols]`, rows are inputs, as in a Flax kernel. Matrices larger than
`hardware.array_shape` are cut into a grid of arrays whose outputs add in digital. Inside, everything has
leading axes `[n_rows, n_cols]` of that grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from anajax import _check
from anajax._record import Record, leaf, record, static
from anajax.arrays.hardware import DriftCompensation, Hardware
from anajax.arrays.mapping import cut, grid, join
from anajax.arrays.wires import Wires
from anajax.devices import Cells

_OUTPUT_SCORES = ("output_noise", "nonlinearity", "read_voltage")


@record
class Tile(Record):
    """What a chip adds to a weight matrix: standard scores, no realised value.

    Attributes:
      cells: scores of the cells, each `[n_rows, n_cols, cells, rows, lines]`.
      outputs: scores of the outputs by the name of their nonideality, each `[n_rows, n_cols, cols]`; those of
        capacitors of ADCs `[n_rows, n_cols, capacitors, cols]`.
      conduction: scores of the cells for `hardware.conduction`, in the shape of `cells`.
    """

    cells: Cells = leaf()
    outputs: dict[str, Array] = leaf()
    conduction: dict[str, Array] = leaf()


@record
class Effective(Record):
    """The arrays as they stand at one time: what the inputs of this evaluation meet.

    Attributes:
      weights: fractions of the window as the terminals see them, through `Wires`, `[n_rows, n_cols, rows, cols]`;
        with digital `Slices`, here and below `cols` counts their lines.
      variance: that a modifier of hardware-aware training adds to each output, per squared input: one number
        for each array, or one for each weight, or `None`.
      cells: conductances [S], `[n_rows, n_cols, cells, rows, lines]`, where currents are not a matrix product (see
        `Hardware.cell_by_cell`); `weights` are then those without wires.
      conduction: scores of these cells for their law, as in `Tile`.
      scale: digital factor of each column, `[n_rows, n_cols, cols]`.
      outputs: scores of the outputs, as in `Tile`.
      shape: `(rows, cols)` of the whole matrix.
    """

    weights: Array = leaf()
    variance: Array | None = leaf(default=None)
    cells: Array | None = leaf(default=None)
    scale: Array = leaf()
    outputs: dict[str, Array] = leaf()
    conduction: dict[str, Array] = leaf()
    shape: tuple[int, ...] = static()


def program(key: Array | None, hardware: Hardware, weights: Array) -> Tile:
    """Fabricate arrays and program `weights` onto them, open loop.

    The tile holds only standard scores: `settle` computes conductances from the weights it is given, so the
    same chip serves weights that change, and hardware that is swept or differentiated.

    Args:
      key: random key; `None` gives mean devices without programming error.
      hardware: the spec.
      weights: finite, shape `[rows, cols]`.
    """
    weights = checked_weights(weights)
    n_rows, n_cols, r, c = grid(weights.shape[0], weights.shape[1], hardware.array_shape)
    lines, c = _widths(hardware, c)
    shape = (n_rows, n_cols, *hardware.mapping.cells(r, lines))
    life, programming, outputs, law = (None,) * 4 if key is None else jax.random.split(key, 4)
    cells = hardware.device.fabricate(life, shape)
    # the target is computed from the weights at each settling; nobody keeps a copy
    cells = hardware.device.program(programming, cells, jnp.zeros(shape, weights.dtype)).replace(target=None)
    if outputs is None or law is None:
        return Tile(cells=cells, outputs={}, conduction={})
    keys = jax.random.split(outputs, len(_OUTPUT_SCORES))
    scores = {n: jax.random.normal(k, (n_rows, n_cols, c)) for n, k in zip(_OUTPUT_SCORES, keys, strict=True)}
    if hardware.adc is not None:
        scores |= hardware.adc.fabricate(outputs, (n_rows, n_cols, c))
    names = () if hardware.conduction is None else hardware.conduction.life_scores
    residuals = {n: jax.random.normal(k, shape) for n, k in zip(names, jax.random.split(law, len(names)), strict=True)}
    return Tile(cells=cells, outputs=scores, conduction=residuals)


def settle(key: Array | None, hardware: Hardware, tile: Tile, weights: Array, time: Array | float = 0.0) -> Effective:
    """Return the arrays as they stand `time` seconds after programming.

    Draws the 1/f read noise once, clamped so that no conductance is negative; it is frozen for this
    evaluation, as slow noise is.

    Args:
      key: random key for the read noise, or `None` for none.
      hardware: the spec.
      tile: from `program`, for the same shape.
      weights: the weights that were programmed, `[rows, cols]`.
      time: seconds since programming, scalar, >= 0.
    """
    weights = checked_weights(weights)
    _check.in_range(time, "time", ge=0)
    _check.shape(jnp.asarray(time), "time", "", "One call settles arrays at one time; map over times")
    arrays = cut(weights, hardware.array_shape)
    _check_tile(tile, hardware, arrays)
    scale = hardware.mapping.scales(arrays)
    fractions = checked_fractions(hardware, arrays / scale[..., None, :])
    present = cut(jnp.ones_like(weights), hardware.array_shape)
    fractions, present, scale = _sliced(hardware, fractions, present, scale)

    def one(
        key: Array | None, cells: Cells, scores: dict[str, Array], w: Array, present: Array
    ) -> tuple[Array, Array | None, Array]:
        device, mapping = hardware.device, hardware.mapping
        cells = cells.aimed(mapping.encode(device, w))
        mean, g = device.conductance(cells, time), device.read(key, cells, time)
        factor = jnp.ones((), w.dtype)
        if hardware.compensation is not None:
            reference = w
            if hardware.compensation.reference == "programmed":
                reference = mapping.decode(device, device.conductance(cells, 0.0))
            now = mapping.decode(device, mean)
            reference, now = _seen(hardware, reference * present), _seen(hardware, now * present)
            factor = _compensate(hardware.compensation, reference, now)
        w, g = read_through(hardware, g, scores, present)
        frozen = _seen(hardware, w)
        return frozen, g, jnp.broadcast_to(factor, frozen.shape[-1:])

    frozen, held, factor = over_grid(one, arrays.shape[:2])(key, tile.cells, tile.conduction, fractions, present)
    present = present[..., : frozen.shape[-1]]
    return Effective(
        weights=frozen,
        cells=held,
        conduction={} if held is None else tile.conduction,
        scale=scale * factor,
        # ADCs may serve columns that pad too
        outputs={n: s * present[:, :, 0] if n in _OUTPUT_SCORES else s for n, s in tile.outputs.items()},
        shape=weights.shape,
    )


def unprogrammed(key: Array | None, hardware: Hardware, weights: Array) -> Effective:
    """Return the arrays that hold `weights` exactly, but for the modifier of hardware-aware training.

    Args:
      key: random key for `hardware.modifier`; `None` leaves it out.
      hardware: the spec.
      weights: `[rows, cols]`.
    """
    weights = checked_weights(weights)
    arrays = cut(weights, hardware.array_shape)
    scale = hardware.mapping.scales(arrays)
    arrays = _saturated(hardware, arrays / scale[..., None, :])
    present = cut(jnp.ones_like(weights), hardware.array_shape)
    arrays, present, scale = _sliced(hardware, arrays, present, scale)
    modifier, variance = hardware.modifier, None
    if modifier is not None and key is not None:
        if modifier.per == "step":
            keys = jax.random.split(key, arrays.shape[:2])
            arrays = jax.vmap(jax.vmap(lambda k, w: modifier.modify(k, hardware, w)))(keys, arrays)
            arrays = arrays * present  # no noise on what pads
        else:
            variance = jax.vmap(jax.vmap(lambda w: modifier.std(hardware, w) ** 2))(arrays)
            arrays = modifier.mean(arrays)
    held = None
    if hardware.conduction is not None or isinstance(hardware.wires, Wires) or hardware.cell_by_cell:
        device, encode = hardware.device, hardware.mapping.encode
        wired = over_grid(lambda _, w, used: read_through(hardware, encode(device, w), {}, used), arrays.shape[:2])
        arrays, held = wired(None, arrays, present)
    if hardware.slices is not None and variance is not None:
        each = variance if variance.ndim > 2 else jnp.broadcast_to(variance[..., None, None], arrays.shape)
        variance = _seen(hardware, each, power=2)
    arrays = _seen(hardware, arrays)
    return Effective(
        weights=arrays, variance=variance, cells=held, scale=scale, outputs={}, conduction={}, shape=weights.shape
    )


def as_matrix(hardware: Hardware, effective: Effective) -> Array:
    """Return the weights that the arrays multiply with, `[rows, cols]`, slices added."""
    weights = effective.weights * effective.scale[..., None, :]
    return join(weights if hardware.slices is None else hardware.slices.total(weights), *effective.shape)


def _sliced(hardware: Hardware, fractions: Array, present: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Return what lines hold, which of them are there, and the scales of outputs, of those of columns."""
    slices, fill = hardware.slices, hardware.mapping.fill
    if slices is None:
        return fractions, present, scale
    return slices.split(fractions / fill) * fill, slices.repeat(present), slices.scales(scale)


def read_through(hardware: Hardware, g: Array, scores: dict[str, Array], present: Array) -> tuple[Array, Array | None]:
    """Return the weights that the terminals of an array see of cells `g [cells, rows, lines]` [S].

    Where no matrix says what they see, the weights are those of the cells, and the cells themselves come with them.
    """
    reference = jnp.repeat(present[:, :1], g.shape[-1] - present.shape[-1], axis=1)  # lines without weights
    used = jnp.concatenate([present, reference], axis=1)
    held = g * used if hardware.cell_by_cell else None
    if held is None and hardware.conduction is not None:  # a linear law
        g = hardware.conduction.small_signal(g, jnp.zeros_like(g), scores)
    if held is None and hardware.wires is not None:
        g = hardware.wires.settled(g, used)
    return hardware.mapping.decode(hardware.device, g) * present, held


def _widths(hardware: Hardware, cols: int) -> tuple[int, int]:
    """Return how many lines of weights, and how many outputs, `cols` columns of weights need."""
    slices = hardware.slices
    return (cols, cols) if slices is None else (slices.count * cols, slices.outputs * cols)


def _seen(hardware: Hardware, weights: Array, power: int = 1) -> Array:
    """Return the weights that outputs see of those of lines `[..., rows, lines]`; for variances `power` is 2."""
    return weights if hardware.slices is None else hardware.slices.seen(weights, power)


def _compensate(compensation: DriftCompensation, reference: Array, now: Array) -> Array:
    axis = 0 if compensation.per == "column" else None
    top, bottom = jnp.sum(jnp.abs(reference), axis=axis), jnp.sum(jnp.abs(now), axis=axis)
    return jnp.where(bottom > 0, top / jnp.where(bottom > 0, bottom, 1.0), 1.0)


def over_grid(f: Callable[..., Any], shape: tuple[int, ...]) -> Callable[..., Any]:
    """Map `f(key, ...)` over the grid of arrays, one after the other, with a key for each, or `None` for all.

    The loop keeps what enters it in memory; side by side, XLA would draw a chip's scores again for each use.
    """

    def mapped(key: Array | None, *args: Any) -> Any:
        keys = None if key is None else jax.random.split(key, shape)
        flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (keys, args))
        results = jax.lax.map(lambda part: f(part[0], *part[1]), flat)
        return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), results)

    return mapped


def checked_weights(weights: Array) -> Array:
    """Return weights as floats; raise for what is no finite matrix."""
    weights = _check.floating(weights, "weights")
    _check.shape(weights, "weights", "rows cols")
    _check.finite(weights, "weights")
    return weights


def _check_tile(tile: Tile, hardware: Hardware, arrays: Array) -> None:
    n_rows, n_cols, r, c = arrays.shape
    lines, outputs = _widths(hardware, c)
    wanted = (n_rows, n_cols, *hardware.mapping.cells(r, lines))
    for name, score in tile.cells.scores.items():
        if score.shape != wanted:
            raise ValueError(
                f"tile must have been programmed for these weights and this mapping: cells of shape {wanted};"
                f" got scores {name!r} of shape {score.shape}"
            )
    for name, score in tile.outputs.items():
        if score.shape[-1] != outputs:
            raise ValueError(
                f"tile must have been programmed for these weights and Hardware.slices: {outputs} outputs of an array;"
                f" got scores {name!r} of {score.shape[-1]}"
            )
    for name in () if hardware.adc is None or not tile.outputs else hardware.adc.fabricated:
        if name not in tile.outputs:
            raise ValueError(
                f"tile must have been programmed with an ADC of this kind: {type(hardware.adc).__name__} needs scores"
                f" {name!r}; got {', '.join(map(repr, tile.outputs))}"
            )


def checked_fractions(hardware: Hardware, fractions: Array) -> Array:
    """Return fractions of the window within it; raise where no scale brings weights there."""
    known = _check.is_concrete(fractions) and _check.is_concrete(hardware.mapping.fill)
    if hardware.mapping.scale_by == "none" and known:
        peak = float(jnp.max(jnp.abs(fractions)) / hardware.mapping.fill)
        if peak > 1 + 1e-6:
            end = float(hardware.mapping.largest)
            raise ValueError(
                f"weights must lie within [-{end:g}, {end:g}] where mapping.scale_by='none'; got {peak * end:g}."
                " Clip them, or let the mapping scale by 'column' or 'array'"
            )
    return _saturated(hardware, fractions)


def _saturated(hardware: Hardware, fractions: Array) -> Array:
    """Clip weights that are taken as they are at the window: a cell has no conductance beyond."""
    if hardware.mapping.scale_by != "none":
        return fractions
    return jnp.clip(fractions, -hardware.mapping.fill, hardware.mapping.fill)
