"""What the experiments of in-situ training share: networks and their devices, the loop, the figure."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import anajax
from anajax import devices, nn

WINDOW = {"g_min": 50e-6, "g_max": 100e-6}
#: at the symmetry point of each cell, so that this reads as zero
ZEROED = devices.Reference(symmetry=True)


def rough(dx: float, reference: devices.Reference | None = None, **changes: Any) -> devices.ReferencePair:
    """Return a resistive memory of about 2 / dx states, with all spreads 0.3, after Rasch et al. (2024)."""
    spreads = dict.fromkeys(("x_min_d2d", "x_max_d2d", "dx_d2d", "up_down_d2d", "c2c"), 0.3)
    device = devices.SoftBounds(dx=dx, reference=reference, **(spreads | WINDOW | changes))
    return devices.ReferencePair(device=device, reference=devices.SoftBounds(dx=dx, **WINDOW))


def network(hw: anajax.Hardware | None, sizes: Sequence[int], seed: int = 0) -> nnx.Module:
    """Return linear layers with sigmoids between them, in conductances, or for `None` in numbers."""
    rngs, layers = nnx.Rngs(seed), []
    for rows, cols in itertools.pairwise(sizes):
        linear = nnx.Linear(rows, cols, rngs=rngs)
        layers += [linear if hw is None else nn.convert(linear, hw), nnx.sigmoid]
    model = nnx.Sequential(lambda x: x.reshape(len(x), -1), *layers[:-1])
    return model if hw is None else nn.in_situ(jax.random.key(1 + seed), model)


def epochs(
    key: jax.Array,
    apply: Callable[..., jax.Array],
    params: Any,
    hardware: Any,
    tx: optax.GradientTransformation,
    data: Any,
    *,
    batch: int,
    epochs: int,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Any:
    """Train, and yield `(params, state, test accuracy in percent)` after each epoch.

    Args:
      key: random key.
      apply: from `nn.split`.
      params: parameters.
      hardware: hardware.
      tx: optimiser.
      data: `x_train`, `y_train`, `x_test`, `y_test` as arrays.
      batch: images of a mini-batch.
      epochs: how many.
      augment: `augment(key, x) -> x`, of a mini-batch.
    """
    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)
    x_test, y_test = jnp.asarray(data.x_test), jnp.asarray(data.y_test)

    def loss(params: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, hardware, x, key=key), y).mean()

    def step(carry: Any, item: Any) -> tuple[Any, jax.Array]:
        params, state = carry
        index, key = item
        value, grads = jax.value_and_grad(loss)(params, x[index], y[index], key)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(carry: Any, order: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        return jax.lax.scan(step, carry, (order, jax.random.split(key, len(order))))

    @jax.jit
    def accuracy(params: Any, key: jax.Array) -> jax.Array:
        return 100 * (apply(params, hardware, x_test, key=key).argmax(-1) == y_test).mean()

    carry = jax.tree.map(jnp.array, (params, tx.init(params)))
    for k in range(epochs):
        order = np.random.default_rng(k).permutation(len(y))[: len(y) // batch * batch].reshape(-1, batch)
        carry, _ = epoch(carry, order, jax.random.fold_in(key, k))
        params, state = jax.tree.map(jnp.array, carry)
        yield params, state, float(accuracy(params, jax.random.fold_in(key, epochs + k)))


def draw(curves: dict[str, list[float]], label: str, log: bool = False) -> Figure:
    """Draw a curve over epochs for each name."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve, "o-", markersize=3, label=name)
    axes.set(xlabel="epoch", ylabel=label, yscale="log" if log else "linear")
    axes.legend(frameon=False, fontsize="small")
    return figure
