"""Random numbers for read noise: cheap normals of 16 bits each, and cheap keys for them.

Noise of reads is drawn at every MVM, and with threefry it costs more than the matrix product that it
decorates. Here a key seeds an integer hash of an index, which fuses with what uses the noise. Chips are made
with `jax.random` itself: programming errors have tails that decide about yield.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

# The normal quantile at x in (-1, 1) is x * P(w), w = -ln(1 - x**2). A Chebyshev fit over the 65,536 points
# used here errs by less than 4e-4 sigma, at 4.3 sigma, and by less than 1.6e-4 of the value everywhere.
# -ln(1 + m) for sqrt(1/2) < 1 + m < sqrt(2) is m * L(m), within 7.1e-5 (minimax, degree four): the library's
# logarithm, exact to the last digit, takes longer than all the rest.
_LOGARITHM = (-0.999352329, 0.502465432, -0.358710008, 0.228480382)
_QUANTILE = (1.25323277, 3.27936973e-1, 1.78803515e-2, -4.86089114e-3, 3.92049026e-4, -1.14334874e-5)


def read_normal(key: Array, shape: tuple[int, ...], dtype: Any, first: int | Array = 0) -> Array:
    """Draw standard normals for noise that is fresh at each read.

    They take 65,536 equally likely values, symmetric about zero, up to 4.3 sigma.

    Args:
      key: random key.
      shape: shape of the result.
      dtype: floating type of the result.
      first: index of the first row `[0]` of the result in a longer array drawn in parts: row i of the part
        has the bits of row `first + i` of the whole.

    Returns:
      Normals of mean 0 and variance 1 within 1e-4. The same key and shape give the same bits.
    """
    start = jnp.asarray(first, jnp.uint32) * jnp.uint32(math.prod(shape[1:]))
    words = _words(key, start + jax.lax.iota(jnp.uint32, math.prod(shape)))
    # in float32 whatever the type: in half of it the outermost values would round to infinity
    x = ((words >> 16).astype(jnp.float32) + 0.5) * (2.0 / 65536) - 1.0  # never -1, 0 or 1
    return (x * _polynomial(_QUANTILE, _minus_log((1 - x) * (1 + x)))).reshape(shape).astype(dtype)


def _minus_log(x: Array) -> Array:
    """Return -ln(x) of normal float32 numbers, from their exponents and a polynomial of their mantissas."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits - 0x3F3504F3) >> 23  # the bits of sqrt(1/2)
    m = jax.lax.bitcast_convert_type(bits - (exponent << 23), jnp.float32) - 1
    return m * _polynomial(_LOGARITHM, m) - math.log(2) * exponent.astype(jnp.float32)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Return c[0] + c[1] x + c[2] x**2 + ..."""
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


def read_uniform(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draw numbers from [0, 1), as `read_normal` draws its own: multiples of 2**-24 at most, or of a type's epsilon."""
    exact = jnp.promote_types(dtype, jnp.float32)
    words = _words(key, jax.lax.iota(jnp.uint32, math.prod(shape)))
    bits = min(24, jnp.finfo(dtype).nmant + 1)
    return ((words >> (32 - bits)).astype(exact) * 2.0**-bits).astype(dtype).reshape(shape)


def fold_read(key: Array, *data: int | Array) -> Array:
    """Return a key for reads, of a key and integers below 2**32, as `jax.random.fold_in` would."""
    for d in data:
        key = _child(key, jnp.asarray(d, jnp.uint32))
    return key


def split_read(key: Array, shape: tuple[int, ...]) -> Array:
    """Return an array of keys for reads, as `jax.random.split` would."""
    return _child(key, jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape))


def _child(key: Array, data: Array) -> Array:
    """Return the keys of `data`, an integer each, of any shape."""
    seed = jax.random.key_data(key)
    own = _hash(seed ^ jax.lax.iota(jnp.uint32, seed.shape[-1]))  # the words of a key never mix alike
    words = _hash(own ^ _hash(data + jnp.uint32(0x9E3779B9))[..., None])
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def _words(key: Array, index: Array) -> Array:
    """Return 32 random bits for each index."""
    words = index
    for seed in jax.random.key_data(key):
        words = _hash(words ^ seed)
    return words


def _hash(x: Array) -> Array:
    """Mix 32 bits so that each output bit depends on all input bits: a bijection (C. Wellons' lowbias32)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
