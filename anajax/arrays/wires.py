"""Wires: what parasitic resistance does to the currents of an array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._record import Numbers, Record, leaf, record, static
from anajax.arrays.circuits.linear import in_lanes
from anajax.arrays.circuits.lines import Grid, Lines
from anajax.arrays.circuits.solve import currents_of, matrix_of
from anajax.devices.conduction import Conduction, Scores


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
class WireModel(Record):
    """Base of what the wires of an array may be: resistances solved for exactly, or a formula for their effect."""

    def settled(self, g: Array, used: Array) -> Array:
        """Return what the terminals see of cells `g [cells, rows, lines]` [S], of which a mask says which are used."""
        return g

    def currents(self, law: Conduction, g: Array, v: Array, scores: Scores) -> Array:
        """Return the currents [A], `[n, cells, lines]`, of cells `g [cells, rows, lines]` at voltages `v [n, rows]`."""
        g, scores = jax.tree.map(lambda a: a[..., None], (g, scores))

        def some(inputs: Array) -> Array:
            return jnp.sum(law.current(g, v.T[None, :, None, inputs], scores), axis=1)

        return jnp.moveaxis(in_lanes(some, v.shape[0]), -1, 0)

    def __call__(self, weights: Array, x: Array, y: Array) -> Array:
        """Return what the wires make of the currents `y = x @ weights`, in units of full-scale cells."""
        return y


@record
class IRDrop(WireModel):
    """Algebraic voltage drop along the bit lines of one array, as in the standard AIMC model.

    With a = n_rows * gamma * sum_j |w_j| |x_j| and rows j = 0, 1, ... counted from the sensed end,

        y <- y - scale * (c[0] a + c[1] a**2 + c[2] a**3) * sum_j w_j x_j (1 - (1 - j / n_rows)**2)

    Each column is on its own; the exact circuit of the whole array is not this model. As in `Wires`, the last row of
    a matrix is the one at the sensed end; published code counts j from the first.
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
        far = 1 - (1 - jnp.arange(n, dtype=weights.dtype)[::-1] / n) ** 2
        a = n * self.resistance * self.conductance * correction_dot(jnp.abs(x), jnp.abs(weights))
        c = jnp.asarray(self.coefficients)
        return y - self.scale * a * (c[0] + a * (c[1] + a * c[2])) * correction_dot(x, far[:, None] * weights)


@record
class Wires(WireModel):
    """Resistive word and bit lines of an array, whose currents and voltages are solved for exactly.

        v[i] o-driver-+-word-(i,0)--word--(i,1)--word-- ... (i,cols-1) -word- far_driver -o v[i]
                               |cell       |cell
               far_sense-bit-(0,j)                bit lines run down: a segment after each cell,
                               |bit               then the sense resistance to the output
                             (1,j) ... (rows-1,j) -bit-+-sense-o I[j]

    Word line i is driven at its left end, before column 0, bit line j sensed at its bottom end, after the last row.
    The other ends are open, unless `far_driver` or `far_sense` is given: then lines are driven, or sensed, at both
    ends, with a segment to each. Any resistance may be zero, but a line that is held at both ends needs some.

    Attributes:
      word_line: of the segment left of each cell [ohm]; a number or an array that broadcasts to `[rows, cols]`,
        with a column more, for the last segment on the right, where `far_driver` is given.
      bit_line: of the segment below each cell [ohm]; likewise, with a row more, first, where `far_sense` is given.
      driver: in series with the left end of each word line [ohm], a number or `[rows]`.
      sense: in series with the bottom end of each bit line [ohm], a number or `[cols]`.
      far_driver: in series with the right ends [ohm], or `None` where these are open.
      far_sense: in series with the top ends [ohm], or `None` where these are open.
      select: on-resistance of the select transistor in series with each cell [ohm], which may be zero; the
        transistors of rows that are at zero volts are off (1T1R). `None`: no transistors, a passive array (1R).
      method: `"exact"`; `"first-order"`, the first term in the resistances, nearly free, good where the wires take
        little; or a number of sweeps, each of which solves all word lines for given bit lines and the reverse.
      layout: how `Hardware` arranges the cells that share a weight: `"separate"`, an array for each of them;
        `"columns"`, neighbouring bit lines of one array; `"rows"`, neighbouring word lines of one array, the
        second of a pair driven with the opposite voltage.
    """

    word_line: Array | float = leaf(ge=0)
    bit_line: Array | float = leaf(ge=0)
    driver: Array | float = leaf(default=0.0, ge=0)
    sense: Array | float = leaf(default=0.0, ge=0)
    far_driver: Array | float | None = leaf(default=None, ge=0)
    far_sense: Array | float | None = leaf(default=None, ge=0)
    select: Array | float | None = leaf(default=None, ge=0)
    method: str | int = static(default="exact")
    layout: str = static(default="separate", choices=("separate", "columns", "rows"))

    def check(self) -> None:
        """Check the method, and that every resistance is finite: a line without a path to a terminal floats."""
        sweeps = isinstance(self.method, int) and not isinstance(self.method, bool) and self.method > 0
        if self.method not in ("exact", "first-order") and not sweeps:
            raise ValueError(f"Wires.method must be 'exact', 'first-order', or a number of sweeps; got {self.method!r}")
        for name in ("word_line", "bit_line", "driver", "sense", "far_driver", "far_sense", "select"):
            if getattr(self, name) is not None:
                _check.finite(getattr(self, name), f"Wires.{name}")

    def settled(self, g: Array, used: Array) -> Array:
        """Return the effective matrices of cells `g [cells, rows, lines]` [S]; those not `used` are absent."""
        cells, rows, lines = g.shape
        g = g * used
        if self.layout == "separate":
            return jax.lax.map(lambda plane: matrix_of(self, plane), g)
        if self.layout == "columns":
            return matrix_of(self, _side_by_side(g)).reshape(rows, lines, cells).transpose(2, 0, 1)
        # the response to each row's voltage is the same whatever the voltages of the others
        return matrix_of(self, _one_by_one(g)).reshape(rows, cells, lines).transpose(1, 0, 2)

    def currents(self, law: Conduction, g: Array, v: Array, scores: Scores) -> Array:
        """Return the currents [A], `[n, cells, lines]`, of cells `g [cells, rows, lines]` at voltages `v [n, rows]`.

        In the layout by rows the difference of the two cells comes as the current of the first.
        """
        n, (cells, _, lines) = v.shape[0], g.shape
        if self.layout == "separate":
            return jnp.moveaxis(jax.lax.map(lambda p: currents_of(self, law, p[0], p[1], v), (g, scores)), 0, 1)
        if self.layout == "columns":
            g, scores = jax.tree.map(_side_by_side, (g, scores))
            return currents_of(self, law, g, scores, v).reshape(n, lines, cells).swapaxes(1, 2)
        g, scores = jax.tree.map(_one_by_one, (g, scores))
        difference = currents_of(self, law, g, scores, jnp.stack([v, -v], axis=-1).reshape(n, -1))
        return jnp.stack([difference, jnp.zeros_like(difference)], axis=1)

    def grid(self, rows: int, cols: int) -> Grid:
        """Return the wires of an array of `rows` x `cols` cells, as ladders from the terminals."""
        word = _segments("word_line", self.word_line, "far_driver", self.far_driver, (rows, cols), 1)
        bit = _segments("bit_line", self.bit_line, "far_sense", self.far_sense, (rows, cols), 0)
        word = _lines("driver", word.T, self.driver, "far_driver", self.far_driver, cols)
        bit = _lines("sense", bit[::-1], self.sense, "far_sense", self.far_sense, rows)
        word = jax.tree.map(lambda r: r[..., ::-1], word)  # rows count from the sensed end there
        return Grid(word, bit, jnp.asarray(0.0 if self.select is None else self.select, word.segment.dtype))


def _side_by_side(g: Array) -> Array:
    """Put the cells of each weight on neighbouring bit lines: `[cells, rows, lines] -> [rows, lines * cells]`."""
    return g.transpose(1, 2, 0).reshape(g.shape[1], -1)


def _one_by_one(g: Array) -> Array:
    """Put the cells of each weight on neighbouring word lines: `[cells, rows, lines] -> [rows * cells, lines]`."""
    return g.transpose(1, 0, 2).reshape(-1, g.shape[2])


def _segments(name: str, r: Array | float, end: str, far: Array | float | None, shape: tuple, axis: int) -> Array:
    wanted = tuple(n + (far is not None and k == axis) for k, n in enumerate(shape))
    try:
        return jnp.broadcast_to(r, wanted)
    except ValueError:
        also = f", one more along axis {axis} as {end} is given" if far is not None else ""
        raise ValueError(
            f"Wires.{name} must be a number or broadcast to {wanted} for cells of shape {shape}{also};"
            f" got shape {jnp.shape(r)}"
        ) from None


def _lines(name: str, segment: Array, near: Array | float, end: str, far: Array | float | None, length: int) -> Lines:
    count = segment.shape[1]
    for field, r in ((name, near), (end, far)):
        if r is not None and jnp.shape(r) not in ((), (count,)):
            raise ValueError(f"Wires.{field} must be a number or have shape ({count},); got shape {jnp.shape(r)}")
    open_end = jnp.zeros(count, segment.dtype)
    beyond = open_end if far is None else 1 / (segment[length] + far)
    if _check.is_concrete(beyond) and not np.isfinite(np.asarray(beyond)).all():
        raise ValueError(
            f"Wires.{end} must be positive where the last segment has no resistance: between two ideal terminals"
            " the currents of a line are not defined; got 0 ohm"
        )
    return Lines(segment=segment[:length].at[0].add(near), far=beyond)
