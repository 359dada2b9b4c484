"""Low-rank digital adapters beside weights on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from anajax import _check
from anajax.nn.model import layers


class Adapter(nnx.Module):
    """A digital product of low rank that is added to the outputs of an analog layer: `x @ a @ b`.

    Source: Hu et al., ICLR 2022. It starts at zero, as `b` does.
    """

    def __init__(self, matrices: tuple[int, int, int], rank: int, *, dtype: Any, rngs: nnx.Rngs):
        groups, rows, cols = matrices
        a = jax.random.normal(rngs.params(), (groups, rows, rank), dtype) * rows**-0.5
        self.a, self.b = nnx.LoRAParam(a), nnx.LoRAParam(jnp.zeros((groups, rank, cols), dtype))

    def matrices(self) -> Array:
        """Return what is added to the weights, `[groups, rows, cols]`."""
        return self.a[...] @ self.b[...]

    def __call__(self, inputs: Array) -> Array:
        """Return what is added to the outputs, `[..., groups * cols]`, of inputs `[..., groups, rows]`."""
        low = jnp.einsum("...gr,grk->...gk", inputs, self.a[...])
        y = jnp.einsum("...gk,gkc->...gc", low, self.b[...])
        return y.reshape(*y.shape[:-2], -1)


def with_adapters(
    model: nnx.Module,
    rank: int,
    *,
    rngs: nnx.Rngs,
    where: Callable[[str, nnx.Module], bool] | None = None,
) -> Any:
    """Return a copy of a model whose analog layers have digital adapters beside their arrays.

    Train these alone with `adapters_only`: weights that are programmed stay as they are, and a chip, or what years made
    of it, can be mended in digital.

    Args:
      model: with analog layers.
      rank: of the adapters, at least 1.
      rngs: for their first values.
      where: `where(name, layer)` chooses layers; all by default.

    Example:
      >>> import anajax, optax
      >>> from flax import nnx
      >>> model = anajax.nn.Linear(8, 4, hardware=anajax.presets.standard_aimc(), rngs=nnx.Rngs(0))
      >>> apply, params, hw, _ = anajax.nn.split(anajax.nn.with_adapters(model, 2, rngs=nnx.Rngs(1)))
      >>> state = anajax.nn.adapters_only(optax.adam(1e-3)).init(params)
    """
    _check.integer(rank, "rank", ge=1)
    model = nnx.clone(model)
    chosen = [layer for name, layer in layers(model) if where is None or where(name, layer)]
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no analog layers to adapt; see anajax.nn.convert")
    for layer in chosen:
        layer.adapter = Adapter(layer.shape, rank, dtype=layer.param_dtype, rngs=rngs)
    return model


def adapters_only(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return an optimiser that changes adapters by `tx`, and nothing else."""

    def labels(params: Any) -> Any:
        return jax.tree.map(
            lambda v: "adapter" if isinstance(v, nnx.LoRAParam) else "fixed",
            params,
            is_leaf=lambda v: isinstance(v, nnx.Variable),
        )

    return optax.multi_transform({"adapter": tx, "fixed": optax.set_to_zero()}, labels)
