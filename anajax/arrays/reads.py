"""Reads: the matrix-vector products of arrays as they stand, through converters, wires and fresh noise.

A batch runs in blocks, a matrix array by array; `_array_mvm` is one array from its DACs to its ADCs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from anajax import _check
from anajax._random import read_normal, split_read
from anajax.arrays.converters import AbsMax, FixedRange, LearnedRange, clip_to_range, decay_range
from anajax.arrays.hardware import Hardware
from anajax.arrays.serial import BitSerial
from anajax.arrays.tile import Effective, Tile, as_matrix, settle, unprogrammed
from anajax.arrays.wires import WireModel, correction_dot
from anajax.devices.conduction import Ohmic

_BLOCK = 512  # vectors of one block of an MVM on a CPU
_UNROLLED = 16  # arrays of one matrix that are unrolled in the program; more are looped over


def mvm(
    key: Array | None,
    hardware: Hardware,
    effective: Effective,
    x: Array,
    input_range: Array | float | None = None,
) -> Array:
    """Multiply inputs with the arrays, through converters, wires and fresh noise.

    Args:
      key: random key for the noise of this read, or `None` for none.
      hardware: the spec.
      effective: from `settle` or `unprogrammed`.
      x: inputs, `[..., rows]`.
      input_range: scalar, for `hardware.inputs = LearnedRange(...)`: the range learned.

    Returns:
      Outputs, `[..., cols]`.
    """
    x, flat, input_range = _checked_inputs(hardware, effective, x, input_range)
    keys = _array_keys(key, effective)

    def block(first: Array, x: Array) -> Array:
        scaled, divisor = _scale_inputs(hardware, x, input_range)
        return _arrays_mvm(keys, first, hardware, effective, scaled) * divisor

    return _in_blocks(block, flat).reshape(*x.shape[:-1], effective.shape[1])


def currents(
    key: Array | None,
    hardware: Hardware,
    effective: Effective,
    x: Array,
    input_range: Array | float | None = None,
) -> Array:
    """Return what the ADCs see of inputs: arguments as those of `mvm`, which with the same key converts just these.

    Returns:
      Currents in full-scale weights, `[n_rows, n, slices, cols]`: by row of arrays; by vector, and with digital
      `BitSerial` inputs by pulse within it; by line of a digitally sliced weight, or 1.
    """
    _, flat, input_range = _checked_inputs(hardware, effective, x, input_range)
    keys = _array_keys(key, effective)
    n_rows, n_cols, r, _ = effective.weights.shape
    scaled = _scale_inputs(hardware, flat, input_range)[0]
    scaled = jnp.pad(scaled, ((0, 0), (0, n_rows * r - flat.shape[1]))).reshape(-1, n_rows, r)

    def one(index: Array) -> Array:
        i, j = index // n_cols, index % n_cols
        matrix, outputs = jax.tree.map(lambda a: a[i, j], (_matrix(effective), effective.outputs))
        noise = None if keys is None else _Noise(keys[i, j], jnp.zeros((), jnp.uint32))
        return _to_adc(noise, hardware, matrix, outputs, scaled[:, i])[0]

    y = jax.lax.map(one, jnp.arange(n_rows * n_cols))
    lines = 1 if hardware.slices is None else hardware.slices.outputs
    y = y.reshape(n_rows, n_cols, y.shape[1], lines, -1)
    return jnp.moveaxis(y, 1, 3).reshape(n_rows, y.shape[2], lines, -1)[..., : effective.shape[1]]


def _checked_inputs(
    hardware: Hardware, effective: Effective, x: Array, input_range: Array | float | None
) -> tuple[Array, Array, Array | float | None]:
    """Return the inputs as floats, as vectors `[n, rows]`, and their range as it enters the arrays."""
    rows = effective.shape[0]
    x = _check.floating(x, "x")
    _check.shape(x, "x", "... rows", "weights are [rows, cols], rows are inputs", rows=rows)
    flat = x.reshape(-1, rows)
    if isinstance(hardware.inputs, LearnedRange):
        if input_range is None:
            raise ValueError("hardware.inputs is LearnedRange: mvm needs input_range, the range learned")
        input_range = jnp.asarray(input_range, x.dtype)
        input_range = jnp.maximum(input_range, 0.0)  # a range that training drove below zero lets nothing in
        input_range = decay_range(input_range, flat, hardware.inputs.decay, hardware.inputs.coverage)
    return x, flat, input_range


def _array_keys(key: Array | None, effective: Effective) -> Array | None:
    # threefry once, here: its keys are in memory, while hashed ones would be hashed again for every number drawn
    shape = (*effective.weights.shape[:2], 3)  # of each array: input, weight and output noise
    return None if key is None else jax.random.split(key, shape)


def read(
    key: Array | None,
    hardware: Hardware,
    tile: Tile,
    weights: Array,
    x: Array,
    time: Array | float = 0.0,
    input_range: Array | float | None = None,
) -> Array:
    """Settle and multiply: `mvm(settle(...))`, with a key for each. Arguments as there."""
    settle_key, read_key = (None, None) if key is None else split_read(key, (2,))
    effective = settle(settle_key, hardware, tile, weights, time)
    return mvm(read_key, hardware, effective, x, input_range)


def aware_mvm(
    noise_key: Array | None,
    read_key: Array | None,
    hardware: Hardware,
    weights: Array,
    x: Array,
    input_range: Array | float | None = None,
    effective: Effective | None = None,
) -> Array:
    """Multiply in hardware-aware training: modified weights straight to the arrays, no chip.

    `mvm(read_key, hardware, unprogrammed(noise_key, hardware, weights), x)`, with the gradients that
    `hardware.backward` declares.

    Args:
      noise_key: random key for the modifier, or `None` for none.
      read_key: random key for the noise of the read, or `None` for none.
      hardware: the spec.
      weights: `[rows, cols]`.
      x: inputs, `[..., rows]`.
      input_range: as in `mvm`.
      effective: `unprogrammed(noise_key, hardware, weights)`, where several calls share it.

    Returns:
      Outputs, `[..., cols]`.
    """
    modified = hardware.modifier is not None and (noise_key is not None or effective is not None)
    if effective is None:
        effective = unprogrammed(noise_key, hardware, weights)
    if hardware.backward == "exact":
        return mvm(read_key, hardware, effective, x, input_range)
    fixed = jax.lax.stop_gradient((hardware, effective, x, input_range))
    y = mvm(read_key, *fixed)
    if isinstance(hardware.inputs, LearnedRange):
        input_range = jnp.maximum(jnp.asarray(input_range), 0.0)
        input_range = decay_range(input_range, x, hardware.inputs.decay, hardware.inputs.coverage)
        x = clip_to_range(x, input_range)
    # inputs see the weights of the forward pass
    used = as_matrix(hardware, fixed[1]) if modified else jax.lax.stop_gradient(weights)
    return y + _no_value(x, weights, used)


@jax.custom_vjp
def _no_value(x: Array, w: Array, used: Array) -> Array:
    """Return zeros, with the gradient of `x @ w` for `w`, and that of `x @ used` for `x`."""
    return zeros_of((*x.shape[:-1], w.shape[-1]), x, w, used)


def zeros_of(shape: tuple[int, ...], *args: Any) -> Array:
    """Return zeros that have every axis of `vmap` of the arguments: else gradients would be summed over these."""
    leaves = [a for a in jax.tree.leaves(args) if a.size]
    nothing = sum((jnp.minimum(jnp.abs(a.ravel()[0]), 0) for a in leaves), jnp.zeros((), jnp.result_type(*leaves)))
    return jnp.broadcast_to(nothing, shape)


def _no_value_fwd(x, w, used):
    return _no_value(x, w, used), (x, used)


def _no_value_bwd(saved, g):
    x, used = saved
    return g @ used.T, x.reshape(-1, x.shape[-1]).T @ g.reshape(-1, g.shape[-1]), jnp.zeros_like(used)


_no_value.defvjp(_no_value_fwd, _no_value_bwd)


def _in_blocks(f: Callable[[Array, Array], Array], x: Array) -> Array:
    """Apply `f(first, x)` to blocks of the vectors `x [n, rows]`, one after the other; `first` is a block's first.

    On a CPU what a block makes stays in the cache: twice as fast as all at once.
    """
    n = x.shape[0]
    count = max(1, math.ceil(n / (_BLOCK if jax.default_backend() == "cpu" else 64 * _BLOCK)))
    if count == 1:
        return f(jnp.zeros((), jnp.uint32), x)
    size = math.ceil(n / count)
    blocks = jnp.pad(x, ((0, count * size - n), (0, 0))).reshape(count, size, -1)
    y = jax.lax.map(lambda part: f(*part), (size * jnp.arange(count, dtype=jnp.uint32), blocks))
    return y.reshape(count * size, -1)[:n]


class _Matrix(NamedTuple):
    """What one array multiplies with: see `Effective`."""

    weights: Array
    variance: Array | None
    cells: Array | None
    conduction: dict[str, Array]


def _matrix(effective: Effective) -> _Matrix:
    return _Matrix(effective.weights, effective.variance, effective.cells, effective.conduction)


def _cell_by_cell(hardware: Hardware, cells: Array, scores: dict[str, Array], x: Array) -> Array:
    """Return the outputs of one array whose currents are not a matrix product: a circuit for every input."""
    assert hardware.v_read is not None  # Hardware.check
    law = Ohmic() if hardware.conduction is None else hardware.conduction
    wires = WireModel() if hardware.wires is None else hardware.wires
    i = wires.currents(law, cells, hardware.v_read * x, scores) / hardware.v_read  # [n, cells, lines] S
    y = jax.vmap(lambda i: hardware.mapping.decode(hardware.device, i[:, None])[0])(i)
    return y if hardware.slices is None else hardware.slices.seen(y)


class _Noise(NamedTuple):
    """What one array draws from: keys of input, weight and output noise, and the index of its first vector."""

    keys: Array
    first: Array

    def normal(self, which: int, like: Array) -> Array:
        return read_normal(self.keys[which], like.shape, like.dtype, self.first)


def _arrays_mvm(keys: Array | None, first: Array, hardware: Hardware, effective: Effective, x: Array) -> Array:
    """All arrays of a matrix: inputs `x [n, rows]`, outputs `[n, cols]`; partial sums add in digital."""
    n_rows, n_cols, r, c = effective.weights.shape
    c = c if hardware.slices is None else c // hardware.slices.outputs
    rows, cols = effective.shape
    x = jnp.pad(x, ((0, 0), (0, n_rows * r - rows)))

    def one(i: int | Array, j: int | Array) -> Array:
        parts = (_matrix(effective), effective.scale, effective.outputs)
        matrix, scale, outputs = jax.tree.map(lambda a: a[i, j], parts)
        block = jax.lax.dynamic_slice_in_dim(x, i * r, r, axis=1)
        noise = None if keys is None else _Noise(keys[i, j], first)
        return _array_mvm(noise, hardware, matrix, scale, outputs, block)

    if n_rows * n_cols <= _UNROLLED:  # separate matrix products are twice as fast as a batched one on a CPU
        columns = [functools.reduce(jnp.add, [one(i, j) for i in range(n_rows)]) for j in range(n_cols)]
        return jnp.concatenate(columns, axis=1)[:, :cols]

    def add(total: Array, i: Array) -> tuple[Array, None]:
        row = jax.lax.map(lambda j: one(i, j), jnp.arange(n_cols))  # [n_cols, n, c]
        return total + jnp.moveaxis(row, 0, 1).reshape(x.shape[0], n_cols * c), None

    total = jnp.zeros((x.shape[0], n_cols * c), x.dtype)
    return jax.lax.scan(add, total, jnp.arange(n_rows))[0][:, :cols]


def _array_mvm(
    noise: _Noise | None,
    hardware: Hardware,
    matrix: _Matrix,
    scale: Array,
    outputs: dict[str, Array],
    x: Array,
) -> Array:
    """One array: inputs `x [n, rows]` already scaled to the DAC's range; outputs `[n, cols]`, slices added."""
    y, divisor = _to_adc(noise, hardware, matrix, outputs, x)
    if hardware.adc is not None:
        y = hardware.adc(y, outputs)
    if isinstance(hardware.dac, BitSerial) and hardware.dac.add == "digital":
        y = hardware.dac.total(y)
    y = y * (divisor * scale)
    return y if hardware.slices is None else hardware.slices.total(y)


def _to_adc(
    noise: _Noise | None,
    hardware: Hardware,
    matrix: _Matrix,
    outputs: dict[str, Array],
    x: Array,
) -> tuple[Array, Array]:
    """Return what the ADCs of one array convert, `[n, outputs]` or `[n * pulses, outputs]`, and its divisor."""
    divisor = jnp.ones((), x.dtype)
    if isinstance(hardware.inputs, AbsMax):
        divisor = hardware.inputs.ranges(x)
        x = x / jnp.where(divisor > 0, divisor, 1.0)  # a vector of zeros reads as exactly zero
    if hardware.halvings:
        factor = _halve(noise, hardware, matrix, outputs, x)
        x, divisor = x / factor, divisor * factor
    serial = hardware.dac if isinstance(hardware.dac, BitSerial) else None
    if serial is not None:
        x = serial.pulses(x).reshape(-1, x.shape[-1])
        noise = None if noise is None else noise._replace(first=noise.first * jnp.uint32(serial.count))
    y = _currents(noise, hardware, matrix, outputs, x)
    if serial is not None and serial.add == "analog":
        y = serial.total(y)
    return y, divisor


def _currents(
    noise: _Noise | None,
    hardware: Hardware,
    matrix: _Matrix,
    outputs: dict[str, Array],
    x: Array,
) -> Array:
    """Return what the ADC sees, in full-scale weights."""
    if hardware.dac is not None:
        x = hardware.dac(None if noise is None else noise.keys[0], x, 0 if noise is None else noise.first)
    weights = matrix.weights
    y = x @ weights if matrix.cells is None else _cell_by_cell(hardware, matrix.cells, matrix.conduction, x)
    if hardware.wires is not None:
        y = hardware.wires(weights, x, y)
    if hardware.read_voltage is not None:
        y = hardware.read_voltage(x, y, outputs.get("read_voltage", 0.0))

    spread = None if noise is None else weight_noise(hardware, weights, matrix.variance, x)  # variance not yet added
    shaped = hardware.nonlinearity is not None or (hardware.adc is not None and hardware.adc.asymmetry is not None)
    if shaped:
        if noise is not None and spread is not None:
            y = y + _root(spread) * noise.normal(1, y)
            spread = None
        y = _shape_outputs(hardware, outputs, y)
    if noise is not None and hardware.output_noise is not None:
        level = hardware.output_noise.level(outputs.get("output_noise", 0.0)) ** 2
        spread = level if spread is None else spread + level
    if noise is not None and spread is not None:
        y = y + _root(spread) * noise.normal(2, y)
    return y


def _shape_outputs(hardware: Hardware, outputs: dict[str, Array], y: Array) -> Array:
    assert hardware.adc is not None  # Hardware.check
    if hardware.nonlinearity is not None:
        resistance = 0.0 if hardware.read_voltage is None else hardware.read_voltage.series_resistance
        y = hardware.nonlinearity(y, hardware.adc.bound, outputs.get("nonlinearity", 0.0), resistance)
    asymmetry = hardware.adc.asymmetry
    return y if asymmetry is None else jnp.where(y < 0, y * (1 - asymmetry), y)


def _halve(noise, hardware, matrix, outputs, x):
    """Bound management: the power of two, for each input vector `[n, 1]`, at which no output is out of bound.

    Searches with the noise of the read that follows, so that what was accepted is what is read.
    """
    fixed = jax.lax.stop_gradient((hardware, matrix, outputs, x))

    def too_large(factor: Array) -> Array:
        y = _currents(noise, *fixed[:3], fixed[3] / factor)
        return jnp.any(jnp.abs(y) > fixed[0].adc.bound, axis=-1, keepdims=True)

    def again(carry: tuple[Array, Array]) -> Array:
        count, factor = carry
        return (count < hardware.halvings) & jnp.any(too_large(factor))

    def halve(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        count, factor = carry
        return count + 1, jnp.where(too_large(factor), 2 * factor, factor)

    start = jnp.ones((x.shape[0], 1), x.dtype)
    return jax.lax.while_loop(again, halve, (jnp.zeros((), jnp.int32), start))[1]


def _scale_inputs(hardware: Hardware, x: Array, input_range: Array | float | None) -> tuple[Array, Array | float]:
    inputs = hardware.inputs
    if isinstance(inputs, FixedRange):
        return x / inputs.range, inputs.range
    if isinstance(inputs, LearnedRange):
        assert input_range is not None  # checked by mvm
        bound = jax.lax.stop_gradient(jnp.asarray(input_range))
        return clip_to_range(x, jnp.asarray(input_range)) * (1 / jnp.where(bound > 0, bound, 1.0)), bound
    return x, 1.0


def weight_noise(hardware: Hardware, weights: Array, variance: Array | None, x: Array) -> Array | None:
    """Return the variance that noise of the weights gives each output, `[n, cols]`, or `None`."""
    noise = hardware.weight_noise
    if noise is None and variance is None:
        return None
    squares = x**2
    constant, proportional = variance, None  # of each weight; to |w|
    if noise is not None:
        square = jnp.asarray(noise.sigma) ** 2
        if noise.kind == "pcm":
            proportional = square * jnp.abs(weights)
        else:
            constant = square if constant is None else constant + square
    if constant is not None and constant.ndim == 2:
        return correction_dot(squares, constant if proportional is None else constant + proportional)
    alike = None if constant is None else constant * jnp.sum(squares, -1, keepdims=True)
    if proportional is None:
        return alike
    each = correction_dot(squares, proportional)
    return each if alike is None else alike + each


def _root(variance: Array) -> Array:
    """Square root with slope zero at zero, where an input of zeros meets no noise."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
