"""The network of the demo and of study files: a multilayer perceptron on analog layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx
from jax import Array

from anajax import nn
from anajax.arrays import Hardware


def network(
    sizes: Sequence[int], hardware: Hardware, seed: int, activation: Callable[[Array], Array] = nnx.relu
) -> nnx.Module:
    """Return linear layers of these sizes, the inputs' first, with an activation after all but the last."""
    rngs = nnx.Rngs(seed)
    parts: list[Callable[..., Any]] = []
    for a, b in itertools.pairwise(sizes):
        parts += [nn.Linear(a, b, hardware=hardware, rngs=rngs), activation]
    return nnx.Sequential(*parts[:-1])
