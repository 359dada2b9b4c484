"""Random numbers for read noise: two standard normals from one 32-bit word."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array


def read_normal(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Draw standard normals of 16 bits each, at half the price of `jax.random.normal`.

    They take 65,536 equally likely values, symmetric, up to 4.3 sigma: enough for noise that is fresh at
    each read; not for programming errors, whose tails decide about yield.

    Args:
      key: random key.
      shape: shape of the result.
      dtype: floating type of the result.

    Returns:
      Standard normals of mean 0 and variance 1 - 6e-5.
    """
    size = math.prod(shape)
    words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
    halves = jnp.concatenate([words >> 16, words & 0xFFFF])[:size].reshape(shape)
    centred = (halves.astype(dtype) + 0.5) * (2.0 / 65536) - 1.0  # never 0 or 1, and symmetric
    return jnp.asarray(math.sqrt(2.0), dtype) * jax.lax.erf_inv(centred)
