"""Crossbars that learn: weights that live in conductances, and change only by pulses.

crossbar = in_conductances(key, hardware, weights)         # in the place of a kernel
y        = in_situ_mvm(keys, hardware, crossbar, x)        # its gradient is what rows and columns are told
crossbar = pulsed(key, hardware, crossbar, seen, rate)     # which pulses then descend
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from anajax import _check
from anajax._record import Record, leaf, record, static
from anajax.arrays.converters import AbsMax, LearnedRange, clip_to_range, decay_range
from anajax.arrays.hardware import Hardware
from anajax.arrays.mapping import cut, grid
from anajax.arrays.pulses import Pulsed, Sums, aggregate_update, sequential_update, sums, whole_update
from anajax.arrays.reads import mvm, zeros_of
from anajax.arrays.tile import Effective, checked_fractions, checked_weights, over_grid, read_through
from anajax.devices import Cells


@record
class Examples(Record):
    """What the rows and the columns of a matrix were told, example by example.

    Attributes:
      x: inputs, `[n, rows]`, or `[calls, n, rows]` of a layer that is called several times.
      d: errors, `[n, cols]` or `[calls, n, cols]`.
    """

    x: Array = leaf()
    d: Array = leaf()


@record
class Crossbar(Record):
    """A weight matrix that lives in conductances.

    Attributes:
      cells: of all arrays, `[n_rows, n_cols, cells, rows, lines]`.
      scale: digital factor of each column, `[n_rows, n_cols, cols]`: the weight that is full scale.
      seen: zeros. Their cotangents are what a backward pass tells the cells: `Sums` over a mini-batch, or `Examples`.
      shape: `(rows, cols)` of the whole matrix.
    """

    cells: Cells = leaf()
    scale: Array = leaf()
    seen: Sums | Examples = leaf()
    shape: tuple[int, ...] = static()

    def cells_of_weights(self) -> tuple[int, ...]:
        """Return the shape of the weights in their arrays, `(n_rows, n_cols, rows, cols)`."""
        n_rows, n_cols, cols = self.scale.shape
        return n_rows, n_cols, -(-self.shape[0] // n_rows), cols


def in_conductances(key: Array | None, hardware: Hardware, weights: Array) -> Crossbar:
    """Fabricate arrays and program `weights` onto them, open loop, for training on.

    Args:
      key: random key; `None` gives mean devices without programming error.
      hardware: the spec.
      weights: `[rows, cols]`.
    """
    if hardware.slices is not None:
        raise ValueError(f"Hardware.slices must be None for weights that live in conductances; got {hardware.slices}")
    weights = checked_weights(weights)
    arrays = cut(weights, hardware.array_shape)
    scale = hardware.mapping.scales(arrays)
    fractions = checked_fractions(hardware, arrays / scale[..., None, :])

    def one(key: Array | None, w: Array) -> Cells:
        device = hardware.device
        made, programmed = (None, None) if key is None else jax.random.split(key)
        target = hardware.mapping.encode(device, w)
        cells = device.program(programmed, device.fabricate(made, target.shape), target)
        return device.wait(None, cells, 0.0)  # which turns the target into a state

    zeros = jnp.zeros_like(arrays)
    return Crossbar(
        cells=over_grid(one, arrays.shape[:2])(key, fractions),
        scale=scale,
        seen=Sums(gradient=zeros, magnitude=zeros, square=zeros, largest=zeros[..., 0, 0], count=zeros[..., 0, 0]),
        shape=weights.shape,
    )


def stand(key: Array | None, hardware: Hardware, crossbar: Crossbar, time: Array | float = 0.0) -> Effective:
    """Return the arrays as they stand `time` seconds after they were last pulsed; see `settle`.

    Drift compensation, scores of outputs and the modifier of hardware-aware training have no part in it.
    """
    present = cut(jnp.ones(crossbar.shape, crossbar.scale.dtype), hardware.array_shape)

    def one(key: Array | None, cells: Cells, present: Array) -> tuple[Array, Array | None]:
        return read_through(hardware, hardware.device.read(key, cells, time), {}, present)

    weights, held = over_grid(one, present.shape[:2])(key, crossbar.cells, present)
    return Effective(weights=weights, cells=held, conduction={}, scale=crossbar.scale, outputs={}, shape=crossbar.shape)


def in_situ_mvm(
    keys: Array | None,
    hardware: Hardware,
    crossbar: Crossbar,
    effective: Effective,
    x: Array,
    input_range: Array | float | None = None,
) -> Array:
    """Multiply as `mvm` does; the gradient of `x` is a transposed read, that of `crossbar.seen` what cells are told.

    All else has the true gradients of `mvm`.

    Args:
      keys: two random keys, for the noise of the two reads, or `None` for none.
      hardware: the spec.
      crossbar: of `effective`.
      effective: from `stand`.
      x: inputs, `[..., rows]`.
      input_range: as in `mvm`.
    """
    forward, back = (None, None) if keys is None else keys
    if isinstance(hardware.inputs, LearnedRange) and input_range is not None:
        bound = jnp.maximum(jnp.asarray(input_range), 0.0)
        bound = decay_range(bound, x, hardware.inputs.decay, hardware.inputs.coverage)
        x = clip_to_range(x, jax.lax.stop_gradient(bound))
    y = mvm(forward, hardware, effective, jax.lax.stop_gradient(x), input_range)
    y = jnp.where(_changed_by_numbers(crossbar.seen), jnp.nan, y)
    flat = x.reshape(-1, x.shape[-1])
    told = _told(crossbar.seen, flat, crossbar.scale, _transposed(effective), _periphery(hardware), back)
    return y + told.reshape(y.shape)


def _changed_by_numbers(seen: Sums | Examples) -> Array:
    """Return whether an optimiser of numbers has been here: room for what cells are told stays zero under pulses."""
    changed = jnp.any((seen.count if isinstance(seen, Sums) else seen.x) != 0)
    if _check.is_concrete(changed) and changed:
        raise ValueError(
            "these conductances were changed by numbers, not by pulses: train them by an optimiser of anajax.optim, and"
            " what is digital by another, with anajax.optim.partition"
        )
    return changed


def pulsed(
    key: Array | None, hardware: Hardware, crossbar: Crossbar, seen: Sums | Examples, learning_rate: Array | float
) -> tuple[Crossbar, Array]:
    """Descend a gradient by pulses.

    Args:
      key: random key for trains and cycle-to-cycle noise, or `None` for the mean.
      hardware: the spec.
      crossbar: as it stands.
      seen: the cotangent of `crossbar.seen`, summed over examples.
      learning_rate: change of a weight for a gradient of 1.

    Returns:
      `(crossbar, pulses)`: after the update, and the pulses of each weight, `[n_rows, n_cols, rows, cols]`.
    """

    def jump(key: Array | None, cells: Cells, total: Sums) -> Pulsed:
        return aggregate_update(key, hardware, cells, total, learning_rate)

    def walk(key: Array | None, cells: Cells, told: Examples) -> Pulsed:
        return sequential_update(key, hardware, cells, told.x, told.d, learning_rate)

    step: Callable[..., Pulsed] = walk if isinstance(seen, Examples) else jump
    told = told_to_arrays(hardware, crossbar, seen)
    after = over_grid(step, crossbar.scale.shape[:2])(key, crossbar.cells, told)
    return crossbar.replace(cells=after.cells), after.pulses


def summed(hardware: Hardware, crossbar: Crossbar, seen: Sums | Examples) -> tuple[Array, Array]:
    """Return the gradient of what arrays hold, `[n_rows, n_cols, rows, cols]`, and of how many examples it is."""
    told = told_to_arrays(hardware, crossbar, seen)
    if isinstance(told, Sums):
        return told.gradient, told.count[0, 0]
    return jnp.swapaxes(told.x, -1, -2) @ told.d, jnp.full((), told.x.shape[2], told.x.dtype)


def pulsed_whole(
    key: Array | None, hardware: Hardware, crossbar: Crossbar, wanted: Array, due: Array | bool = True
) -> tuple[Crossbar, Array, Array]:
    """Change weights by the whole pulses that a change is worth; see `whole_update`.

    Args:
      key: random key for cycle-to-cycle noise, or `None` for its mean.
      hardware: the spec.
      crossbar: as it stands.
      wanted: changes of what arrays hold, `[n_rows, n_cols, rows, cols]`.
      due: whether there are to be any pulses yet.

    Returns:
      `(crossbar, left, pulses)`: after the update; what was wanted beyond it; and pulses, with their signs.
    """

    def one(key: Array | None, cells: Cells, wanted: Array) -> tuple[Pulsed, Array]:
        return whole_update(key, hardware, cells, wanted, due)

    after, left = over_grid(one, crossbar.scale.shape[:2])(key, crossbar.cells, wanted)
    return crossbar.replace(cells=after.cells), left, after.pulses


def told_to_arrays(hardware: Hardware, crossbar: Crossbar, seen: Sums | Examples) -> Sums | Examples:
    """Return what each array was told, `[n_rows, n_cols, ...]`: errors over scales, for steps in weights."""
    if isinstance(seen, Sums):
        return seen
    n_rows, n_cols, cols = crossbar.scale.shape
    x, d = (a.reshape(-1, a.shape[-1]) for a in (seen.x, seen.d))
    x = _cut_vectors(x, n_rows, grid(crossbar.shape[0], cols, hardware.array_shape)[2])
    d = _cut_vectors(d, n_cols, cols) / crossbar.scale[:, :, None]
    return _examples(jnp.broadcast_to(x[:, None], (n_rows, n_cols, *x.shape[1:])), d)


@jax.jit  # where NaN passes, as in `sums`
def _examples(x: Array, d: Array) -> Examples:
    return Examples(x=x, d=d)


def _cut_vectors(x: Array, count: int, size: int) -> Array:
    """Cut vectors `[n, length]` into those of arrays, `[count, n, size]`, padded with zeros."""
    padded = jnp.pad(x, ((0, 0), (0, count * size - x.shape[1])))
    return jnp.moveaxis(padded.reshape(-1, count, size), 1, 0)


def _transposed(effective: Effective) -> Effective:
    """Return the arrays as their columns see them; factors of columns are relative to the largest of an array."""
    peak = jnp.max(effective.scale, axis=-1, keepdims=True)
    weights = effective.weights * (effective.scale / peak)[..., None, :]
    weights = weights.transpose(1, 0, 3, 2)
    scale = jnp.broadcast_to(peak.swapaxes(0, 1), weights.shape[:2] + weights.shape[3:])
    return Effective(weights=weights, scale=scale, outputs={}, conduction={}, shape=effective.shape[::-1])


def _periphery(hardware: Hardware) -> Hardware:
    if hardware.transposed is not None:
        return hardware.transposed
    return hardware.replace(inputs=AbsMax())


@jax.custom_vjp
def _told(
    seen: Sums | Examples, x: Array, scale: Array, transposed: Effective, periphery: Hardware, key: Array | None
) -> Array:
    """Return zeros, `[n, cols]`, of which the gradient by `x` is a read, and that by `seen` what the cells are told."""
    return zeros_of((x.shape[0], transposed.shape[0]), seen, x, scale, transposed).astype(x.dtype)


def _told_fwd(seen, x, scale, transposed, periphery, key):
    if isinstance(seen, Examples) and seen.x.shape[0] != x.shape[0]:
        raise ValueError(
            f"Crossbar.seen has room for {seen.x.shape[0]} examples, and the layer is given {x.shape[0]} vectors:"
            " make it anew for this batch"
        )
    return _told(seen, x, scale, transposed, periphery, key), (seen, x, scale, transposed, periphery, key)


def _told_bwd(saved, d):
    seen, x, scale, transposed, periphery, key = saved
    dx = mvm(key, periphery, transposed, d)
    if isinstance(seen, Examples):
        told = _examples(x, d)
    else:
        n_rows, n_cols, cols = scale.shape
        rows = transposed.weights.shape[-1]
        by_row, by_col = _cut_vectors(x, n_rows, rows), _cut_vectors(d, n_cols, cols)
        told = jax.vmap(lambda x, s: jax.vmap(lambda d, s: sums(x, d / s))(by_col, s))(by_row, scale)
    zero = jax.tree.map(jnp.zeros_like, (scale, transposed, periphery))
    return told, dx, *zero, None


_told.defvjp(_told_fwd, _told_bwd)
