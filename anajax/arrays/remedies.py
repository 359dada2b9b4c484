"""Remedies against the resistance of wires that need no other hardware: where inputs go, and what is programmed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax.arrays.hardware import Hardware
from anajax.arrays.mapping import grid
from anajax.arrays.tile import as_matrix, unprogrammed
from anajax.arrays.wires import Wires


def row_order(inputs: ArrayLike, array_shape: tuple[int, int] | None = None) -> Array:
    """Return the order of the rows that puts large inputs near the sensed end of the bit lines.

    `x[..., order] @ w[order]` is the same product; where most current enters near the end of its bit line, the wires
    take least. A matrix that is cut into arrays gets large and small inputs in each of them.

    Args:
      inputs: examples, `[n, rows]`; rows are sorted by their mean magnitude.
      array_shape: that of the hardware.

    Example:
      >>> row_order([[0.1, 0.9, 0.5]])
      Array([0, 2, 1], dtype=int32)
    """
    x = _check.floating(inputs, "inputs")
    _check.shape(x, "inputs", "n rows")
    rows = x.shape[1]
    ascending = jnp.argsort(jnp.mean(jnp.abs(x), axis=0))
    _, _, each, _ = grid(rows, 1, array_shape)
    place = np.arange(rows)
    in_array = np.minimum(each, rows - place // each * each)  # the last one may have fewer
    quantile = (place % each + 0.5) / in_array
    return ascending[np.argsort(np.argsort(quantile, kind="stable"))]


def compensate(hardware: Hardware, weights: ArrayLike, *, steps: int = 50) -> tuple[Array, Array]:
    """Find weights to program so that the arrays, with their wires, compute as if they held `weights`.

    Descends the gradient through the circuit, by L-BFGS, of the squared differences between the weights that the
    terminals see and the wanted ones. Cells far from the terminals get more than their share, and what then exceeds
    the window moves into the digital scale of the column.

    Args:
      hardware: with `wires`; noise and converters have no part in it.
      weights: wanted, `[rows, cols]`.
      steps: iterations.

    Returns:
      `(weights, error)`: those to program, and the root mean square of the difference that is left, over that of
      the weights.
    """
    wanted = _check.floating(weights, "weights")
    _check.shape(wanted, "weights", "rows cols")
    _check.finite(wanted, "weights")
    if not isinstance(hardware.wires, Wires):
        raise ValueError(
            f"compensate needs Hardware.wires to be Wires(...), one matrix for all inputs; got {hardware.wires}"
        )
    if hardware.cell_by_cell:
        raise ValueError(
            "compensate needs arrays that compute a matrix product; got a nonlinear hardware.conduction, or transistors"
        )
    return _compensated(hardware, wanted, steps)


@jax.jit(static_argnames="steps")
def _compensated(hardware: Hardware, weights: Array, steps: int) -> tuple[Array, Array]:
    import optax  # which takes flax's time to import

    size = jnp.sqrt(jnp.mean(weights**2))
    size = jnp.where(size > 0, size, 1.0)

    def seen(w: Array) -> Array:
        return as_matrix(hardware, unprogrammed(None, hardware, w))

    def loss(w: Array) -> Array:
        return jnp.mean(((seen(w * size) - weights) / size) ** 2)

    search = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: tuple[Any, Any], _: None) -> tuple[Any, None]:
        w, state = carry
        value, slope = value_and_grad(w, state=state)
        updates, state = search.update(slope, state, w, value=value, grad=slope, value_fn=loss)
        return (optax.apply_updates(w, updates), state), None

    start = weights / size
    (w, _), _ = jax.lax.scan(step, (start, search.init(start)), None, length=steps)
    return w * size, jnp.sqrt(loss(w))
