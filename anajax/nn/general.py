"""Linear layers over several axes, by letters, or by lookup, on crossbar arrays."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from anajax.arrays import Effective, Hardware, Tile
from anajax.nn.analog import AnalogLayer, no_sharding


class LinearGeneral(AnalogLayer, nnx.LinearGeneral):
    """`flax.nnx.LinearGeneral` on crossbar arrays; each index of `batch_axis` has a matrix of its own.

    Takes the arguments of `flax.nnx.LinearGeneral`, and:

    Args:
      hardware: the `Hardware`; `None` is ideal.
      learn_output_scale: whether each output gets a learned digital factor.
    """

    def matrices(self) -> Array:
        """Return the kernel as `[groups, in, out]`, all axes of each flat."""
        groups = math.prod(self.batch_axis.values())
        return self.kernel[...].reshape(groups, math.prod(self.in_features), math.prod(self.out_features))

    def _outputs(self) -> tuple[int, ...]:
        first, last = len(self.batch_axis), len(self.batch_axis) + len(self.in_features)
        return (*range(first), *range(last, last + len(self.out_features)))

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
          inputs: with `in_features` on the axes `axis`.
          out_sharding: not supported; must be `None`.
          key: random key for the noise of this call.
          time: seconds since programming, for a chip.
          chip: from `program` or `settle`; `None` for the layer's own, or none.

        Returns:
          `[*batch, *other axes, *out_features]`.
        """
        no_sharding(out_sharding)
        axis = tuple(sorted(a % inputs.ndim for a in self.axis))  # Flax takes axes in ascending order
        batch = tuple(a % inputs.ndim for a in self.batch_axis)
        if tuple(inputs.shape[a] for a in axis) != self.in_features:
            raise ValueError(f"inputs must have {self.in_features} features on axes {axis}; got shape {inputs.shape}")
        bias = None if self.bias is None else self.bias[...].reshape(-1)
        inputs, _, bias = self.promote_dtype((inputs, self._like_weights, bias), dtype=self.dtype)
        rest = tuple(a for a in range(inputs.ndim) if a not in axis + batch)
        x = inputs.transpose(rest + batch + axis)
        sizes, groups = x.shape[: len(rest)], x.shape[len(rest) : len(rest + batch)]
        y = self._forward(x.reshape(*sizes, math.prod(groups), -1), bias, key, time, chip)
        y = y.reshape(*sizes, *groups, *self.out_features)
        return jnp.moveaxis(y, range(len(rest), len(rest + batch)), range(len(batch)))


class Einsum(AnalogLayer, nnx.Einsum):
    """`flax.nnx.Einsum` on crossbar arrays; each index that inputs, kernel and outputs share has a matrix of its own.

    Takes the arguments of `flax.nnx.Einsum`, and:

    Args:
      hardware: the `Hardware`; `None` is ideal.
      learn_output_scale: whether each output gets a learned digital factor.

    Example:
      >>> import jax, anajax
      >>> from flax import nnx
      >>> layer = anajax.nn.Einsum("btd,dhk->bthk", (8, 2, 4), rngs=nnx.Rngs(0))
      >>> layer(jax.numpy.ones((3, 5, 8))).shape
      (3, 5, 2, 4)
    """

    def set_up(self, hardware: Hardware | None, learn_output_scale: bool, param_dtype: Any) -> None:
        """Refuse what is no product with matrices, and go on as all analog layers."""
        if self.einsum_op is not jnp.einsum:
            raise ValueError(f"einsum_op is not supported by analog layers; got {self.einsum_op!r}")
        self._letters()
        super().set_up(hardware, learn_output_scale, param_dtype)

    def _letters(self) -> tuple[str, str, str, str]:
        """Return the letters of groups, rows and columns of the kernel, and those of the inputs alone that stay."""
        (inputs, kernel), outputs = self.einsum_str.split("->")[0].split(","), self.einsum_str.split("->")[1]
        alone = set(kernel) - set(inputs) - set(outputs)
        if "." in kernel or alone or any(len(set(t)) < len(t) for t in (inputs.replace("...", ""), kernel)):
            raise ValueError(
                "einsum_str must name each axis of the kernel once, and again in inputs or outputs, without an"
                f" ellipsis; got {self.einsum_str!r}"
            )
        groups = "".join(c for c in kernel if c in inputs and c in outputs)
        rows = "".join(c for c in kernel if c in inputs and c not in outputs)
        cols = "".join(c for c in kernel if c not in inputs)
        return groups, rows, cols, "".join(c for c in outputs if c in inputs and c not in kernel + ".")

    def matrices(self) -> Array:
        """Return the kernel as `[groups, rows, cols]`."""
        groups, rows, cols, _ = self._letters()
        kernel = self.einsum_str.split("->")[0].split(",")[1]
        size = dict(zip(kernel, self.kernel_shape, strict=True))
        shape = (math.prod(size[c] for c in part) for part in (groups, rows, cols))
        return self.kernel[...].transpose([kernel.index(c) for c in groups + rows + cols]).reshape(*shape)

    def _outputs(self) -> tuple[int, ...]:
        groups, _, cols, _ = self._letters()
        kernel = self.einsum_str.split("->")[0].split(",")[1]
        return tuple(kernel.index(c) for c in groups + cols)

    def __call__(
        self,
        inputs: Array,
        einsum_str: str | None = None,
        out_sharding: Any = None,
        *,
        key: Array | None = None,
        time: Array | float | None = None,
        chip: Tile | Effective | None = None,
    ) -> Array:
        """Apply the layer.

        Args:
          inputs: as the letters say.
          einsum_str: that of the layer, or `None`.
          out_sharding: not supported; must be `None`.
          key: random key for the noise of this call.
          time: seconds since programming, for a chip.
          chip: from `program` or `settle`; `None` for the layer's own, or none.

        Returns:
          Outputs, as the letters say.
        """
        no_sharding(out_sharding)
        if einsum_str is not None and einsum_str.replace(" ", "") != self.einsum_str:
            raise ValueError(f"einsum_str must be that of the layer, {self.einsum_str!r}; got {einsum_str!r}")
        groups, rows, cols, kept = self._letters()
        (given, kernel), wanted = self.einsum_str.split("->")[0].split(","), self.einsum_str.split("->")[1]
        bias = None if self.bias is None else self.bias[...]
        inputs, like, bias = self.promote_dtype((inputs, self._like_weights, bias), dtype=self.dtype)
        more = "..." if "..." in given else ""
        x = jnp.einsum(f"{given}->{more}{kept}{groups}{rows}", inputs)
        size = dict(zip(kernel, self.kernel_shape, strict=True))
        sizes = x.shape[: x.ndim - len(groups + rows)]
        found = tuple(size[c] for c in groups + rows)
        if x.shape[len(sizes) :] != found:
            raise ValueError(f"inputs must have sizes {found} on {groups + rows!r}; got shape {inputs.shape}")
        x = x.reshape(*sizes, math.prod(found[: len(groups)]), math.prod(found[len(groups) :]))
        y = self._forward(x, None, key, time, chip).reshape(*sizes, *(size[c] for c in groups + cols))
        y = jnp.einsum(f"{more}{kept}{groups}{cols}->{wanted}", y)
        return (
            y if bias is None else y + bias.reshape(self._infer_broadcasted_bias_shape(self.einsum_str, inputs, like))
        )


class Embed(AnalogLayer, nnx.Embed):
    """`flax.nnx.Embed` on crossbar arrays: a lookup drives one row, and reads it.

    Takes the arguments of `flax.nnx.Embed`, and:

    Args:
      hardware: the `Hardware`; `None` is ideal.
      learn_output_scale: whether each feature gets a learned digital factor.
    """

    def set_up(self, hardware: Hardware | None, learn_output_scale: bool, param_dtype: Any) -> None:
        """Take the table for the kernel, and go on as all analog layers."""
        self.kernel = self.embedding
        del self.embedding
        super().set_up(hardware, learn_output_scale, param_dtype)

    def matrices(self) -> Array:
        """Return the table, `[1, num_embeddings, features]`."""
        return self.kernel[...][None]

    def __call__(
        self,
        inputs: Array,
        out_sharding: Any = None,
        *,
        key: Array | None = None,
        time: Array | float | None = None,
        chip: Tile | Effective | None = None,
    ) -> Array:
        """Look inputs up.

        Args:
          inputs: integers, `[...]`.
          out_sharding: not supported; must be `None`.
          key: random key for the noise of this call.
          time: seconds since programming, for a chip.
          chip: from `program` or `settle`; `None` for the layer's own, or none.

        Returns:
          `[..., features]`.
        """
        no_sharding(out_sharding)
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(f"inputs must be integers; got {inputs.dtype}")
        rows = jax.nn.one_hot(inputs, self.num_embeddings, dtype=self.dtype)
        return self._forward(rows[..., None, :], None, key, time, chip)

    def attend(self, query: Array, out_sharding: Any = None) -> Array:
        """Refuse: a crossbar of this layer has no converters for a read from the other side."""
        raise NotImplementedError(
            "attend reads the table from its columns, which an analog Embed cannot; use nnx.Embed"
        )
