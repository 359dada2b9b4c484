"""A loop of training: plain optax, hardware-aware by what the hardware says. Read it, copy it, change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from anajax import _check
from anajax.nn.model import Apply


def cross_entropy(logits: Array, y: Array) -> Array:
    """Return the mean cross-entropy of `logits [..., classes]` and classes `y [...]`."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def distilled(temperature: float = 10.0, weight: float = 0.75) -> Callable[[Array, Any], Array]:
    """Return a loss of `(classes, logits of a teacher)`, such as the digital network that training began with.

    Source: Hinton et al. (2015); Rasch et al., Nat. Commun. 14:5282 (2023), with a temperature of 10 and a weight of
    3/4.

    Args:
      temperature: by which logits of both are divided, > 0.
      weight: of the teacher, from 0 to 1; the classes have the rest.

    Example:
      >>> import jax.numpy as jnp
      >>> from anajax import nn
      >>> logits = jnp.array([[2.0, 0.0], [0.0, 1.0]])
      >>> loss = nn.distilled(temperature=2.0)
      >>> bool(loss(logits, (jnp.array([0, 1]), logits)) < loss(-logits, (jnp.array([0, 1]), logits)))
      True
    """
    _check.in_range(temperature, "temperature", gt=0)
    _check.in_range(weight, "weight", ge=0, le=1)

    def loss(logits: Array, y: Any) -> Array:
        classes, teacher = y
        soft = jax.nn.softmax(teacher / temperature)
        apart = temperature**2 * optax.softmax_cross_entropy(logits / temperature, soft).mean()
        return weight * apart + (1 - weight) * cross_entropy(logits, classes)

    return loss


def train(
    apply: Apply,
    params: Any,
    hardware: Any,
    x: Any,
    y: Any,
    steps: int,
    key: Array,
    *,
    loss: Callable[[Any, Any], Array] = cross_entropy,
    learning_rate: float = 2e-3,
    batch: int = 64,
    tx: optax.GradientTransformation | None = None,
    after: Callable[[Any], Any] | None = None,
    ramp: float = 0.0,
    rest: Any = None,
) -> tuple[Any, Any]:
    """Train a model; what noise it sees is what `hardware` says, drawn anew for each batch.

    Hardware-aware training starts from exact weights, as Rasch et al. (Nat. Commun. 14:5282, 2023) do it: train with
    `Hardware()`, set `init_input_ranges`, then train again with hardware whose `modifier` disturbs the weights, with a
    `ramp`, `after` each step `clip` or `remap`, and perhaps a loss that is `distilled`.

    Args:
      apply: from `split`.
      params: to start from.
      hardware: one `Hardware`, or `{name: Hardware}`.
      x: inputs, a pytree of arrays `[n, ...]`.
      y: what the loss compares with, a pytree of arrays `[n, ...]`.
      steps: of the optimiser.
      key: random key.
      loss: `loss(outputs, y) -> scalar`.
      learning_rate: of Adam at the first step, from which it falls along a cosine to zero.
      batch: examples of one step, drawn with replacement.
      tx: another optimiser, with a rate of its own.
      after: `after(params) -> params`, at the end of each step.
      ramp: share of the steps over which the noise of modifiers grows to its full size.
      rest: Flax's other state to start from, if not that of the model at `split`.

    Returns:
      `(params, rest)`, rest being Flax's other state, such as batch statistics.

    Example:
      >>> import jax, optax, anajax
      >>> from anajax import nn
      >>> from flax import nnx
      >>> hw = anajax.presets.standard_aimc().replace(modifier=anajax.arrays.DeviceNoise(time=20.0))
      >>> apply, params, hw, _ = nn.split(nn.Linear(8, 2, hardware=hw, rngs=nnx.Rngs(0)))
      >>> x = jax.random.normal(jax.random.key(0), (100, 8))
      >>> clip = lambda params: nn.clip(params, sigmas=2.0)
      >>> params, _ = nn.train(apply, params, hw, x, (x[:, 0] > 0).astype(int), 20, jax.random.key(1), after=clip)
    """
    _check.integer(steps, "steps", ge=1)
    _check.integer(batch, "batch", ge=1)
    _check.in_range(ramp, "ramp", ge=0, le=1)
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, steps)) if tx is None else tx
    size = jax.tree.leaves(x)[0].shape[0]

    def off(params: Any, rest: Any, share: Array | float, key: Array, x: Any, y: Any) -> tuple[Array, Any]:
        outputs, rest = apply.updating(params, _ramped(hardware, share), x, key=key, rest=rest, train=True)
        return loss(outputs, y), rest

    def step(carry: Any, part: tuple[Array, Array]) -> tuple[Any, None]:
        (params, rest, state), (k, key) = carry, part
        batch_key, noise_key = jax.random.split(key)
        chosen = jax.random.randint(batch_key, (batch,), 0, size)
        some_x, some_y = jax.tree.map(lambda a: a[chosen], (x, y))
        share = jnp.minimum((k + 1) / (ramp * steps), 1.0) if ramp else 1.0
        slopes, rest = jax.grad(off, has_aux=True)(params, rest, share, noise_key, some_x, some_y)
        updates, state = tx.update(slopes, state, params)
        params = optax.apply_updates(params, updates)
        return (params if after is None else after(params), rest, state), None

    rest = apply.rest if rest is None else rest
    parts = (jnp.arange(steps), jax.random.split(key, steps))
    run = jax.jit(lambda start, parts: jax.lax.scan(step, start, parts)[0])
    params, rest, _ = run((params, rest, tx.init(params)), parts)
    return params, rest


def _ramped(hardware: Any, share: Array | float) -> Any:
    """Return the hardware with the noise of its modifiers at a share of their size."""
    if isinstance(hardware, dict):
        return {name: _ramped(one, share) for name, one in hardware.items()}
    modifier = hardware.modifier
    if modifier is None or isinstance(share, float):
        return hardware
    names = [n for n in ("sigma", "scale", "probability") if getattr(modifier, n, None) is not None]
    return hardware.replace(modifier=modifier.replace(**{n: share * getattr(modifier, n) for n in names}))
