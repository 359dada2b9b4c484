"""Wires: what parasitic resistance does to the currents of an array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from anajax._record import Numbers, Record, leaf, record


def correction_dot(x: Array, w: Array) -> Array:
    """Matrix product for corrections: float32 operands are rounded to bfloat16 and summed in float32.

    Voltage drops and noise variances are corrections of a few percent; their products lose three digits
    of their own (1e-3 relative, averaged over the rows), the result of an MVM less than 1e-4, and half of
    their time. Other types are multiplied as they are.

    Args:
      x: `[..., rows]`.
      w: `[rows, cols]`.
    """
    if not x.dtype == w.dtype == jnp.float32:
        return x @ w
    return _low_precision_dot(x, w)


@jax.custom_jvp
def _low_precision_dot(x: Array, w: Array) -> Array:
    return jnp.matmul(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


@_low_precision_dot.defjvp
def _low_precision_dot_jvp(primals, tangents):
    (x, w), (dx, dw) = primals, tangents
    return _low_precision_dot(x, w), dx @ w + x @ dw  # in full precision: gradients sum over many examples


@record
class IRDrop(Record):
    """Algebraic voltage drop along the bit lines of one array, as in the standard AIMC model.

    With a = n_rows * gamma * sum_j |w_j| |x_j| and inputs ordered from the far end to the near one,

        y <- y - scale * (c[0] a + c[1] a**2 + c[2] a**3) * sum_j w_j x_j (1 - (1 - j / n_rows)**2)

    Each column is on its own; the exact circuit of the whole array is not this model.
    Source: Rasch et al., Nat. Commun. 14:5282 (2023).

    Attributes:
      resistance: wire resistance of one cell [ohm].
      conductance: effective conductance of a full-scale weight in the published fit [S], 5 uS whatever the
        device's own window; gamma = resistance * conductance.
      scale: factor on the drop.
      coefficients: c, from the first order up.
    """

    resistance: Array | float = leaf(default=0.35, ge=0)
    conductance: Array | float = leaf(default=5e-6, ge=0)
    scale: Array | float = leaf(default=1.0, ge=0)
    coefficients: Numbers = leaf(default=(0.5, -0.2, 0.05))

    def __call__(self, weights: Array, x: Array, y: Array) -> Array:
        """Return the currents with their drop.

        Args:
          weights: `[rows, cols]`, fractions of the window.
          x: inputs `[..., rows]` in units of the read voltage.
          y: `x @ weights`, `[..., cols]`.
        """
        n = weights.shape[0]
        far = 1 - (1 - jnp.arange(n, dtype=weights.dtype) / n) ** 2
        a = n * self.resistance * self.conductance * correction_dot(jnp.abs(x), jnp.abs(weights))
        c = jnp.asarray(self.coefficients)
        return y - self.scale * a * (c[0] + a * (c[1] + a * c[2])) * correction_dot(x, far[:, None] * weights)
