"""Convolutions on crossbar arrays: each patch is one input vector."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from anajax.arrays import Effective, Hardware, Tile
from anajax.nn.analog import AnalogLayer, check_features, no_sharding


class Conv(AnalogLayer, nnx.Conv):
    """`flax.nnx.Conv` on crossbar arrays, in one to three dimensions: each patch is one input vector.

    Takes the arguments of `flax.nnx.Conv`, and:

    Args:
      hardware: the `Hardware`; `None` is ideal.
      learn_output_scale: whether each output channel gets a learned digital factor.

    The rows of its matrices are (input channel, *kernel position), the groups of `feature_group_count`
    separate matrices.
    """

    def matrices(self) -> Array:
        """Return the kernel as `[groups, in_features / groups * positions, out_features / groups]`."""
        kernel = self.kernel[...] if self.mask is None else self.kernel[...] * self.mask
        rows = jnp.moveaxis(kernel, -2, 0).reshape(
            -1, self.feature_group_count, kernel.shape[-1] // self.feature_group_count
        )
        return jnp.swapaxes(rows, 0, 1)

    def __call__(
        self,
        inputs: Array,
        out_sharding: Any = None,
        *,
        key: Array | None = None,
        time: Array | float | None = None,
        chip: Tile | Effective | None = None,
    ) -> Array:
        """Apply the layer.

        Args:
          inputs: `[*batch, *spatial, in_features]`.
          out_sharding: not supported; must be `None`.
          key: random key for the noise of this call.
          time: seconds since programming, for a chip.
          chip: from `program` or `settle`; `None` for the layer's own, or none.

        Returns:
          `[*batch, *spatial', out_features]`.
        """
        no_sharding(out_sharding)
        check_features(inputs, self.in_features)
        bias = None if self.bias is None else self.bias[...]
        inputs, _, bias = self.promote_dtype((inputs, self._like_weights, bias), dtype=self.dtype)
        dims = len(self.kernel_size)
        batch = inputs.shape[: inputs.ndim - dims - 1]
        patches = self._patches(inputs.reshape(-1, *inputs.shape[len(batch) :]))
        y = self._forward(patches, bias, key, time, chip)
        return y.reshape(*batch, *y.shape[1:])

    def _patches(self, inputs: Array) -> Array:
        """Cut `[n, *spatial, channels]` into `[n, *spatial', groups, channels / groups * positions]`."""
        strides, dilation, stretch = (
            _each(v, self.kernel_size) for v in (self.strides, self.kernel_dilation, self.input_dilation)
        )
        inputs, padding = _pad(inputs, self.padding, self.kernel_size, dilation)
        patches = _cut(inputs, self.kernel_size, strides, padding, stretch, dilation)
        return patches.reshape(*patches.shape[:-1], self.feature_group_count, -1)


class ConvTranspose(AnalogLayer, nnx.ConvTranspose):
    """`flax.nnx.ConvTranspose` on crossbar arrays: each patch of the stretched input is one input vector.

    Takes the arguments of `flax.nnx.ConvTranspose`, any padding but `"CIRCULAR"`, and:

    Args:
      hardware: the `Hardware`; `None` is ideal.
      learn_output_scale: whether each output channel gets a learned digital factor.

    The rows of its matrix are (input channel, *kernel position).
    """

    def set_up(self, hardware: Hardware | None, learn_output_scale: bool, param_dtype: Any) -> None:
        """Refuse what is no product with one matrix, and go on as all analog layers."""
        if self.padding == "CIRCULAR":
            raise ValueError("padding='CIRCULAR' is not supported by an analog ConvTranspose")
        super().set_up(hardware, learn_output_scale, param_dtype)

    def matrices(self) -> Array:
        """Return the kernel as `[1, in_features * positions, out_features]`."""
        kernel = self.kernel[...] if self.mask is None else self.kernel[...] * self.mask
        if self.transpose_kernel:
            kernel = jnp.flip(jnp.swapaxes(kernel, -1, -2), range(len(self.kernel_size)))
        return jnp.moveaxis(kernel, -2, 0).reshape(1, -1, self.out_features)

    def _outputs(self) -> tuple[int, ...]:
        return (len(self.kernel_size) + (0 if self.transpose_kernel else 1),)

    def __call__(
        self,
        inputs: Array,
        *,
        key: Array | None = None,
        time: Array | float | None = None,
        chip: Tile | Effective | None = None,
    ) -> Array:
        """Apply the layer.

        Args:
          inputs: `[*batch, *spatial, in_features]`.
          key: random key for the noise of this call.
          time: seconds since programming, for a chip.
          chip: from `program` or `settle`; `None` for the layer's own, or none.

        Returns:
          `[*batch, *spatial', out_features]`.
        """
        check_features(inputs, self.in_features)
        bias = None if self.bias is None else self.bias[...]
        inputs, _, bias = self.promote_dtype((inputs, self._like_weights, bias), dtype=self.dtype)
        batch = inputs.shape[: inputs.ndim - len(self.kernel_size) - 1]
        stretch, dilation = (_each(v, self.kernel_size) for v in (self.strides, self.kernel_dilation))
        padding = _transposed_padding(self.padding, self.kernel_size, stretch, dilation)
        ones = (1,) * len(self.kernel_size)
        flat = inputs.reshape(-1, *inputs.shape[len(batch) :])
        patches = _cut(flat, self.kernel_size, ones, padding, stretch, dilation)
        y = self._forward(patches[..., None, :], bias, key, time, chip)
        return y.reshape(*batch, *y.shape[1:])


def _each(value: Any, kernel_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return a setting for each dimension, as Flax reads it."""
    value = 1 if value is None else value
    return (value,) * len(kernel_size) if isinstance(value, int) else tuple(value)


def _cut(inputs: Array, kernel_size: Any, strides: Any, padding: Any, stretch: Any, dilation: Any) -> Array:
    """Cut `[n, *spatial, channels]` into patches `[n, *spatial', channels * positions]`."""
    dims = len(kernel_size)
    last = (0, dims + 1, *range(1, dims + 1))
    numbers = jax.lax.ConvDimensionNumbers(last, (dims + 1, dims, *range(dims)), last)
    return jax.lax.conv_general_dilated_patches(
        inputs, kernel_size, strides, padding, lhs_dilation=stretch, rhs_dilation=dilation, dimension_numbers=numbers
    )


def _transposed_padding(padding: Any, kernel_size: Any, strides: Any, dilation: Any) -> Any:
    """Return the padding of the stretched input, as `jax.lax.conv_transpose` has it."""
    if isinstance(padding, int):
        return [(padding, padding)] * len(kernel_size)
    if not isinstance(padding, str):
        return [(p, p) if isinstance(p, int) else tuple(p) for p in padding]
    pads = []
    for size, stride, spread in zip(kernel_size, strides, dilation, strict=True):
        reach = (size - 1) * spread + 1
        if padding == "SAME":
            total = reach + stride - 2
            before = reach - 1 if stride > reach - 1 else (total + 1) // 2
        elif padding == "VALID":
            total, before = reach + stride - 2 + max(reach - stride, 0), reach - 1
        else:
            raise ValueError(f"padding must be 'SAME', 'VALID', or numbers; got {padding!r}")
        pads.append((before, total - before))
    return pads


def _pad(inputs: Array, padding: Any, kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[Array, Any]:
    """Do the paddings that XLA does not know; return inputs and what is left to do, as `flax.nnx.Conv` does."""
    dims = len(kernel_size)
    reach = [(k - 1) * d for k, d in zip(kernel_size, dilation, strict=True)]
    if padding in ("CIRCULAR", "REFLECT"):
        pads = [(0, 0), *((r // 2, (r + 1) // 2) for r in reach), (0, 0)]
        return jnp.pad(inputs, pads, mode="wrap" if padding == "CIRCULAR" else "reflect"), "VALID"
    if padding == "CAUSAL":
        if dims != 1:
            raise ValueError(f"padding='CAUSAL' is for one dimension; got kernel_size={kernel_size}")
        return jnp.pad(inputs, [(0, 0), (reach[0], 0), (0, 0)]), "VALID"
    if isinstance(padding, int):
        return inputs, [(padding, padding)] * dims
    if isinstance(padding, str):
        return inputs, padding
    return inputs, [(p, p) if isinstance(p, int) else tuple(p) for p in padding]
