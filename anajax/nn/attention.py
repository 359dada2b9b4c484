"""The products of attention on arrays: activations are written as weights are, at every call."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jax import Array

from anajax import arrays
from anajax._random import split_read
from anajax.arrays import Hardware, LearnedRange
from anajax.devices import Ideal
from anajax.nn.analog import Context, Hosted, Spec


class AttentionProducts(Hosted, nnx.Module):
    """The products of queries with keys, and of attention weights with values, on arrays: an `attention_fn`.

    Keys and values are written into arrays of their own at every call, with the errors of cells and of programming, in
    training as on a chip, and read at once. Cells that bear this are capacitors rather than phase-change memory. Masks,
    the softmax and dropout are digital. `convert(model, hardware, products=...)` puts it into all attention of a model.

    What is masked is written all the same, and counts where a mapping scales columns or arrays by their largest weight:
    with noise or converters, a large value disturbs earlier outputs a little. `Differential(scale_by="none")` scales by
    nothing, and clips at 1. The age of a chip and `hardware.modifier` have no part in it.
    Source: softmax(Q K^T / sqrt(depth)) V, Vaswani et al., NeurIPS 2017.

    Args:
      hardware: the `Hardware`; its inputs are scaled by `AbsMax()`, by a fixed range, or not at all.

    Example:
      >>> import anajax
      >>> from flax import nnx
      >>> products = anajax.nn.AttentionProducts(anajax.Hardware(array_shape=(64, 64)))
      >>> attention = nnx.MultiHeadAttention(2, 8, attention_fn=products, decode=False, rngs=nnx.Rngs(0))
    """

    def __init__(self, hardware: Hardware):
        if not isinstance(hardware, Hardware):
            raise TypeError(f"hardware must be a Hardware; got {type(hardware).__name__}")
        _check_inputs(hardware)
        self.hardware = Spec(hardware)
        self.context = None

    def __call__(
        self,
        query: Array,
        key: Array,
        value: Array,
        bias: Array | None = None,
        mask: Array | None = None,
        *,
        broadcast_dropout: bool = True,
        dropout_rng: Array | None = None,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Any = None,
        precision: Any = None,
        module: nnx.Module | None = None,
        is_causal: bool = False,
    ) -> Array:
        """Attend: arguments and result are those of `flax.nnx.dot_product_attention`."""
        if precision is not None:
            raise ValueError(f"precision is not supported by products on arrays; got {precision!r}")
        query, key, value = promote_dtype((query, key, value), dtype=dtype)
        keys = self._keys()
        grouped = self._grouped(query, key.shape[-2])  # [..., kv heads, queries of its heads, depth]
        scaled = grouped / jnp.sqrt(query.shape[-1]).astype(query.dtype)
        scores = _heads_first(self._multiply(keys[0], jnp.moveaxis(key, -3, -1), scaled), query)
        weights = _softmax(scores, bias, mask, is_causal)
        if module is not None:
            module.sow(nnx.Intermediate, "attention_weights", weights)
        if dropout_rate > 0.0 and not deterministic:
            if dropout_rng is None:
                raise ValueError("dropout_rng must be a random key where there is dropout; got None")
            shape = (1,) * (weights.ndim - 2) + weights.shape[-2:] if broadcast_dropout else weights.shape
            kept = jax.random.bernoulli(dropout_rng, 1 - dropout_rate, shape)
            weights = weights * kept / (1 - dropout_rate)
        by_head = weights.reshape(*weights.shape[:-3], key.shape[-2], -1, weights.shape[-1])
        out = _heads_first(self._multiply(keys[1], jnp.moveaxis(value, -3, -2), by_head), query)
        return jnp.moveaxis(out, -3, -2).astype(query.dtype)

    def _keys(self) -> Any:
        """Return a key for each of the products, or none."""
        hardware: Hardware = self.hardware.get_value()
        _check_inputs(hardware)
        key = (self.context or Context()).keys(None)[1]
        if key is None and (hardware.noisy or not isinstance(hardware.device, Ideal)):
            raise ValueError(
                "AttentionProducts is noisy and was called without a key: pass key=jax.random.key(...) to the apply"
                " function of anajax.nn.split(model)"
            )
        return (None, None) if key is None else split_read(key, (2,))

    def _grouped(self, query: Array, kv_heads: int) -> Array:
        """Return queries `[..., length, heads, depth]` by the keys that they meet, `[..., kv heads, rows, depth]`."""
        heads = query.shape[-2]
        if heads % kv_heads:
            raise ValueError(f"the heads of queries must be a multiple of those of keys; got {heads} and {kv_heads}")
        by_head = jnp.moveaxis(query, -2, -3)
        return by_head.reshape(*by_head.shape[:-3], kv_heads, -1, by_head.shape[-1])

    def _multiply(self, key: Array | None, weights: Array, x: Array) -> Array:
        """Write matrices `[..., rows, cols]` and read them with `x [..., n, rows]`: `[..., n, cols]`."""
        hardware, batch = self.hardware.get_value(), weights.shape[:-2]
        weights, x = (a.reshape(-1, *a.shape[-2:]) for a in (weights, x))
        keys = None if key is None else jax.random.split(key, len(weights))
        product = jax.vmap(functools.partial(_product, hardware), in_axes=(None if keys is None else 0, 0, 0))
        y = product(keys, weights, x)
        return y.reshape(*batch, *y.shape[1:])


def _check_inputs(hardware: Hardware) -> None:
    if isinstance(hardware.inputs, LearnedRange):
        raise ValueError(
            "the inputs of products of attention are activations of two kinds, which share no learned range: give"
            " AttentionProducts, or products=, a Hardware with inputs=AbsMax(), or None, such as"
            f" hardware.replace(inputs=AbsMax()); got {hardware.inputs}"
        )


def _product(hardware: Hardware, key: Array | None, weights: Array, x: Array) -> Array:
    made, frozen, read = (None,) * 3 if key is None else jax.random.split(key, 3)
    tile = arrays.program(made, hardware, weights)
    held = arrays.settle(frozen, hardware, tile, weights)
    return arrays.aware_mvm(None, read, hardware.replace(modifier=None), weights, x, effective=held)


def _heads_first(y: Array, query: Array) -> Array:
    """Return results `[..., kv heads, rows, n]` as `[..., heads, length, n]` of these queries."""
    return y.reshape(*y.shape[:-3], query.shape[-2], query.shape[-3], y.shape[-1])


def _softmax(scores: Array, bias: Array | None, mask: Array | None, is_causal: bool) -> Array:
    """Return the attention weights of scores `[..., heads, queries, keys]`."""
    if bias is not None:
        scores = scores + bias
    lowest = jnp.finfo(scores.dtype).min
    if is_causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, lowest)
    if mask is not None:
        scores = jnp.where(mask, scores, lowest)
    return jax.nn.softmax(scores)
