"""Closed-loop writing: program and verify cell by cell, and descent on what whole arrays read."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from anajax import _check
from anajax._random import fold_read
from anajax.arrays.crossbar import Crossbar, in_situ_mvm, pulsed_whole, stand, summed
from anajax.arrays.hardware import Hardware
from anajax.arrays.mapping import cut
from anajax.arrays.tile import checked_fractions, checked_weights
from anajax.devices import Cells, Device


class Written(NamedTuple):
    """What writing came to; arrays in the shape of the cells but for the last.

    Attributes:
      cells: the cells.
      accepted: which of them were read within the window.
      pulses: pulses of each cell, or programming attempts of cells without pulses; a RESET counts as one.
      reads: verifying reads of each cell.
      progress: share of cells accepted after each round, `[most]`.
    """

    cells: Cells
    accepted: Array
    pulses: Array
    reads: Array
    progress: Array


def write_verify(
    key: Array | None,
    device: Device,
    cells: Cells,
    target: Array,
    window: Array | float,
    *,
    most: int = 100,
    longest: int = 1,
) -> Written:
    """Write cells to `target` in rounds of reading and pulsing, until each is read within `window` of it.

    A cell below its window is pulsed up, one above it down, which for phase-change memory is a RESET. A cell that was
    accepted is left alone. Devices without pulses are programmed anew until they are accepted: they keep target and
    score, as after `program`.

    Args:
      key: random key for reads and pulses, or `None` for the mean.
      device: the device.
      cells: cells, virgin or written before.
      target: wanted conductances [S], broadcast to the cells.
      window: half of the width of the window of acceptance [S].
      most: rounds.
      longest: pulses of a round, at most; where more than 1, as many as the mean response asks for.

    Returns:
      `Written`. Its cells have derivatives by the device, the numbers of pulses held fixed.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from anajax import arrays, devices
      >>> device = devices.SoftBounds(dx=0.01, c2c=0.3)
      >>> key = jax.random.key(0)
      >>> written = arrays.write_verify(key, device, device.fabricate(key, (100,)), jnp.full(100, 15e-6), 0.3e-6)
      >>> bool(written.accepted.all()), float(jnp.abs(device.conductance(written.cells) - 15e-6).max()) < 0.3e-6
      (True, True)
    """
    target = _check.floating(target, "target")
    _check.finite(target, "target")
    _check.in_range(window, "window", gt=0)
    for name, value in (("most", most), ("longest", longest)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer; got {value!r}")
    shape = jnp.broadcast_shapes(*(a.shape for a in jax.tree.leaves(cells)))
    fits = all(n in (1, of_cells) for n, of_cells in zip(target.shape[::-1], shape[::-1], strict=False))
    if shape and not (fits and target.ndim <= len(shape)):
        raise ValueError(f"target must have the shape {shape} of the cells or broadcast to it; got {target.shape}")
    target = jnp.broadcast_to(target, shape or target.shape)
    by_pulses = type(device).pulse is not Device.pulse
    if not by_pulses:
        cells = device.program(None if key is None else fold_read(key, 0), cells, target)

    def verify(k: Array, cells: Cells, accepted: Array) -> tuple[Array, Array]:
        g = device.read(None if key is None else fold_read(key, 1, k, 0), cells)
        return g, accepted | (jnp.abs(target - g) <= window)

    def one(carry: Any, k: Array) -> tuple[Any, Array]:
        cells, accepted, pulses, reads = carry
        reads = reads + ~accepted
        g, accepted = verify(k, cells, accepted)
        own = None if key is None else fold_read(key, 1, k, 1)
        if by_pulses:
            counts = jnp.where(accepted, 0.0, jnp.sign(target - g))
            if longest > 1:
                counts = counts * _asked_for(device, cells, counts, target - g, longest)
            counts = jax.lax.stop_gradient(counts)
            cells = device.pulse(own, cells, counts)
        else:
            counts = (~accepted).astype(target.dtype)
            cells = _anew(device.program(own, cells, target), cells, ~accepted)
        return (cells, accepted, pulses + jnp.abs(counts), reads), jnp.mean(accepted)

    none = jnp.zeros(target.shape, target.dtype)
    start = (cells, jnp.zeros(target.shape, bool), none if by_pulses else none + 1, none)
    (cells, accepted, pulses, reads), progress = jax.lax.scan(one, start, jnp.arange(most, dtype=jnp.uint32))
    reads = reads + ~accepted
    accepted = verify(jnp.uint32(most), cells, accepted)[1]
    return Written(cells, accepted, pulses, reads, progress)


def write_weights(
    key: Array | None,
    hardware: Hardware,
    crossbar: Crossbar,
    weights: Array,
    window: Array | float,
    *,
    most: int = 100,
    longest: int = 1,
) -> tuple[Crossbar, Written]:
    """Write weights into the cells of a crossbar by `write_verify`, with the scales that it has.

    Args:
      key: random key, or `None` for the mean.
      hardware: the spec.
      crossbar: from `in_conductances`.
      weights: `[rows, cols]`.
      window: half of the width of the window of acceptance, as a share of that of the conductances.
      most: see `write_verify`.
      longest: see `write_verify`.

    Returns:
      `(crossbar, written)`: with its new cells, and what it took.
    """
    weights = checked_weights(weights)
    _check.shape(weights, "weights", "rows cols", rows=crossbar.shape[0], cols=crossbar.shape[1])
    device = hardware.device
    fractions = checked_fractions(hardware, cut(weights, hardware.array_shape) / crossbar.scale[..., None, :])
    target = jax.vmap(jax.vmap(lambda w: hardware.mapping.encode(device, w)))(fractions)
    written = write_verify(key, device, crossbar.cells, target, window * device.window, most=most, longest=longest)
    return crossbar.replace(cells=written.cells), written


def descend_reads(
    key: Array | None,
    hardware: Hardware,
    crossbar: Crossbar,
    weights: Array,
    *,
    learning_rate: Array | float = 0.1,
    steps: int = 100,
    vectors: int = 32,
) -> tuple[Crossbar, Array]:
    """Write weights by descending the errors of whole reads: gradient-descent programming.

    The arrays are read with random vectors, and the outer products of these and of what is missing of the wanted
    outputs add up in digital, until they are worth a pulse. It sees what multiplications will see: wires, converters,
    offsets.
    Source: Büchel et al., IEEE JETCAS 13:1052 (2023).

    Args:
      key: random key; it also draws the vectors, so it must not be `None`.
      hardware: the spec, of a device with pulses.
      crossbar: as it stands.
      weights: wanted, `[rows, cols]`.
      learning_rate: change of a weight for a gradient of 1 of the mean squared error of a vector, halved.
      steps: rounds.
      vectors: read in each round, uniform within 1.

    Returns:
      `(crossbar, errors)`: after the last round; and the root mean square errors of outputs, `[steps]`.
    """
    if key is None:
        raise ValueError("descend_reads draws random vectors and needs a key; got None")
    weights = checked_weights(weights)
    _check.shape(weights, "weights", "rows cols", rows=crossbar.shape[0], cols=crossbar.shape[1])

    def one(carry: tuple[Crossbar, Array], key: Array) -> tuple[tuple[Crossbar, Array], Array]:
        crossbar, left = carry
        drawn, settling, reading, pulsing = jax.random.split(key, 4)
        x = jax.random.uniform(drawn, (vectors, weights.shape[0]), weights.dtype, -1.0)
        effective = stand(settling, hardware, crossbar)

        def loss(seen: Any) -> tuple[Array, Array]:
            now = crossbar.replace(seen=seen)
            y = in_situ_mvm(jax.random.split(reading), hardware, now, effective, x)
            missing = y - x @ weights
            return jnp.sum(missing**2) / (2 * vectors), missing

        seen, missing = jax.grad(loss, has_aux=True)(crossbar.seen)
        gradient, _ = summed(hardware, crossbar, seen)
        after, left, _ = pulsed_whole(pulsing, hardware, crossbar, left - learning_rate * gradient)
        return (after, left), jnp.sqrt(jnp.mean(missing**2))

    start = crossbar, jnp.zeros(crossbar.cells_of_weights(), weights.dtype)
    (crossbar, _), errors = jax.lax.scan(one, start, jax.random.split(key, steps))
    return crossbar, errors


def _asked_for(device: Device, cells: Cells, direction: Array, wanted: Array, longest: int) -> Array:
    """Return how many pulses a mean cell's response asks for, at least 1: nobody knows a cell's own."""
    typical = _typical(cells)
    moved = jnp.abs(device.conductance(device.pulse(None, typical, direction)) - device.conductance(typical))
    return jnp.clip(jnp.round(jnp.abs(wanted) / jnp.where(moved > 0, moved, jnp.inf)), 1, longest)


def _typical(cells: Cells) -> Cells:
    parts = None if cells.parts is None else {name: _typical(part) for name, part in cells.parts.items()}
    return cells.replace(scores={}, parts=parts)


def _anew(new: Cells, old: Cells, where: Array) -> Cells:
    """Return cells with the scores of a programming where it took place."""
    scores = {name: jnp.where(where, score, old.score(name)) for name, score in new.scores.items()}
    return new.replace(scores=scores)
