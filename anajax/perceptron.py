"""The network of the demo and of study files: a multilayer perceptron on analog layers, and its training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
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


def train(
    apply: nn.Apply,
    params: Any,
    hardware: Hardware,
    x: Array,
    y: Array,
    steps: int,
    key: Array,
    *,
    clip_sigmas: float | None = None,
    learning_rate: float = 2e-3,
    batch: int = 64,
) -> Any:
    """Train a classifier with Adam, one ordinary optax loop; what noise it sees is what `hardware` says.

    Args:
      apply: from `anajax.nn.split`.
      params: to start from.
      hardware: one `Hardware`.
      x: inputs, `[n, ...]`.
      y: classes, `[n]`.
      steps: of the optimiser; its rate falls along a cosine to zero.
      key: random key.
      clip_sigmas: standard deviations at which a layer's weights are clipped after each step; `None` for none.
      learning_rate: of the first step.
      batch: examples of one step, drawn with replacement.
    """
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(params: Any, key: Array, x: Array, y: Array) -> Array:
        logits = apply(params, hardware, x, key=key, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(carry: Any, key: Array) -> tuple[Any, None]:
        params, state = carry
        batch_key, noise_key = jax.random.split(key)
        chosen = jax.random.randint(batch_key, (batch,), 0, x.shape[0])
        grads = jax.grad(loss)(params, noise_key, x[chosen], y[chosen])
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        if clip_sigmas is not None:
            params = nn.clip(params, sigmas=clip_sigmas)
        return (params, state), None

    start = (params, tx.init(params))
    (params, _), _ = jax.jit(lambda start, keys: jax.lax.scan(step, start, keys))(start, jax.random.split(key, steps))
    return params
