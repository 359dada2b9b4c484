"""The network of the benchmarks, MLP 784-256-128-10, analog and as its plain digital twin."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

import anajax
from anajax import nn


def analog(hardware: anajax.Hardware) -> tuple[nn.Apply, Any, Any, Any]:
    """Return the split network."""
    rngs = nnx.Rngs(0)
    sizes = ((784, 256), (256, 128), (128, 10))
    first, second, third = (nn.Linear(a, b, hardware=hardware, rngs=rngs) for a, b in sizes)
    return nn.split(nnx.Sequential(first, nnx.relu, second, nnx.relu, third))


def digital(params: Any, x: jax.Array) -> jax.Array:
    """Return what the network computes in plain JAX."""
    for k in (0, 2, 4):
        part = params["layers"][k]
        x = x @ part["kernel"][...] + part["bias"][...]
        x = nnx.relu(x) if k < 4 else x
    return x
