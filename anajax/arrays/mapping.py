"""Mapping: how signed weights become conductances, and back.

Inside an array a weight is a fraction of the window: 1 is one cell (or all pairs of it) driven from
`g_min` to `g_max`. Weights of any size are brought there by a digital scale per column or per array.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from anajax._record import Numbers, Record, leaf, record, static
from anajax.devices import Device


@record
class Mapping(Record):
    """Base of the mappings.

    Attributes:
      scale_by: what shares one digital scale: `"column"` (of an array), `"array"`, or `"none"` when weights
        are already fractions of the window, within [-1, 1]; what training drives beyond saturates there.
      fill: fraction of the window that the largest weight uses.
    """

    scale_by: str = static(default="column", choices=("column", "array", "none"))
    fill: Array | float = leaf(default=1.0, gt=0, le=1)
    largest: ClassVar[Any] = 1.0  # weight at the end of the window where weights are taken as they are

    def scales(self, weights: Array) -> Array:
        """Return the digital scale of each column, shape `[..., cols]`, of weights `[..., rows, cols]`.

        It is the largest magnitude, differentiated through; columns of zeros have scale 1.
        """
        if self.scale_by == "none":
            return self.largest * jnp.ones(weights.shape[:-2] + weights.shape[-1:], weights.dtype) / self.fill
        axes = -2 if self.scale_by == "column" else (-2, -1)
        peak = jnp.max(jnp.abs(weights), axis=axes, keepdims=True)
        peak = jnp.where(peak > 0, peak, 1.0)
        return jnp.broadcast_to(peak, (*weights.shape[:-2], 1, weights.shape[-1]))[..., 0, :] / self.fill

    def encode(self, device: Device, weights: Array) -> Array:
        """Return target conductances [S], shape `[cells, rows, lines]`, of weights in [-1, 1], `[rows, cols]`."""
        raise NotImplementedError

    def decode(self, device: Device, g: Array) -> Array:
        """Return the weights `[rows, cols]` that conductances `[cells, rows, lines]` [S] stand for."""
        raise NotImplementedError

    def decode_variance(self, device: Device, variance: Array) -> Array:
        """Return the variance of the weights, given that [S^2] of independent conductances."""
        raise NotImplementedError

    def cells(self, rows: int, cols: int) -> tuple[int, int, int]:
        """Return the shape `(cells, rows, lines)` of the conductances of a `rows` x `cols` matrix."""
        raise NotImplementedError

    def route(self, counts: Array) -> Array:
        """Return the pulses of each cell of a weight, `[cells, rows, cols]`, of those of weights, `[rows, cols]`."""
        raise NotImplementedError


@record
class Differential(Mapping):
    """Pairs of cells, the current of one subtracted from the other's.

    `"lowest"`: the cell of the weight's sign carries it and its partner stays at `g_min`.
    `"midpoint"`: both move around the middle of the window, in opposite directions.
    With several pairs of different significance f, w = sum f (g+ - g-) / (window * sum f), and the least
    significant pair is filled first.
    Sources: Mehonic et al. 2019 and Joksas et al. 2022 (schemes); Mackin et al. 2022 (significance).

    Attributes:
      scheme: `"lowest"` or `"midpoint"`.
      significance: factor of each pair, ascending, shape `[pairs]`.
    """

    scheme: str = static(default="lowest", choices=("lowest", "midpoint"))
    significance: Numbers = leaf(default=(1.0,), gt=0)

    def check(self) -> None:
        """Check that the least significant pair comes first."""
        from anajax import _check

        f = self.significance
        if _check.is_concrete(f) and not bool(jnp.all(jnp.diff(jnp.asarray(f)) >= 0)):
            raise ValueError(f"Differential.significance must ascend; got {f}")

    def cells(self, rows: int, cols: int) -> tuple[int, int, int]:
        """Return `(2 * pairs, rows, cols)`."""
        return 2 * jnp.shape(self.significance)[0], rows, cols

    def _shares(self, weights: Array) -> list[Array]:
        """Split weights in [-1, 1] into each pair's own weight in [-1, 1]."""
        f = jnp.asarray(self.significance) / jnp.sum(jnp.asarray(self.significance))
        if f.shape[0] == 1:
            return [weights]
        ends = jnp.cumsum(f)
        shares = [jnp.clip(weights, -ends[0], ends[0]) / f[0]]
        for k in range(1, f.shape[0]):
            beyond = jnp.clip(weights, -ends[k], ends[k]) - jnp.clip(weights, -ends[k - 1], ends[k - 1])
            shares.append(beyond / f[k])
        return shares

    def encode(self, device: Device, weights: Array) -> Array:
        """Return target conductances [S], shape `[2 * pairs, rows, cols]`: g+, g- of each pair in turn."""
        g = []
        for w in self._shares(weights):
            for sign in (1, -1):
                part = jnp.maximum(sign * w, 0.0) if self.scheme == "lowest" else 0.5 * (1 + sign * w)
                g.append(device.g_min + device.window * part)
        return jnp.stack(g)

    def route(self, counts: Array) -> Array:
        """Return pulses that only go up, `"lowest"`, or that go up on one cell and down on the other, `"midpoint"`.

        The least significant pair gets them, if there are several.
        """
        each = jnp.stack([jnp.maximum(counts, 0.0), jnp.maximum(-counts, 0.0)])
        if self.scheme == "midpoint":
            each = jnp.stack([counts, -counts])
        still = 2 * (jnp.shape(self.significance)[0] - 1)
        return jnp.concatenate([each, jnp.zeros((still, *counts.shape), counts.dtype)])

    def _factors(self, device: Device) -> Array:
        f = jnp.asarray(self.significance)
        return (f / f.sum() / device.window)[:, None, None]

    def decode(self, device: Device, g: Array) -> Array:
        """Return the weights `[rows, cols]`."""
        return jnp.sum(self._factors(device) * (g[0::2] - g[1::2]), axis=0)

    def decode_variance(self, device: Device, variance: Array) -> Array:
        """Return the variance of the weights `[rows, cols]`."""
        return jnp.sum(self._factors(device) ** 2 * (variance[0::2] + variance[1::2]), axis=0)


@record
class Offset(Mapping):
    """One cell for each weight, and one reference column at the middle of the window, subtracted from all.

    w = 2 (g - g_ref) / window. An error of a reference cell is common to its whole row.
    """

    def cells(self, rows: int, cols: int) -> tuple[int, int, int]:
        """Return `(1, rows, cols + 1)`; the last line is the reference column."""
        return 1, rows, cols + 1

    def encode(self, device: Device, weights: Array) -> Array:
        """Return target conductances [S], shape `[1, rows, cols + 1]`."""
        with_reference = jnp.concatenate([weights, jnp.zeros_like(weights[..., :1])], axis=-1)
        return (device.g_min + device.window * 0.5 * (1 + with_reference))[None]

    def decode(self, device: Device, g: Array) -> Array:
        """Return the weights `[rows, cols]`."""
        return 2 * (g[0, :, :-1] - g[0, :, -1:]) / device.window

    def route(self, counts: Array) -> Array:
        """Return the same pulses; the reference column gets none."""
        return counts[None]

    def decode_variance(self, device: Device, variance: Array) -> Array:
        """Return the variance of the weights `[rows, cols]`, ignoring what the reference makes common."""
        return 4 * (variance[0, :, :-1] + variance[0, :, -1:]) / device.window**2


@record
class Signed(Mapping):
    """One cell for each weight, for compound cells whose conductance has a sign: w = largest g / g_max.

    Attributes:
      largest: weight at the end of the window where `scale_by="none"`.
    """

    largest: Array | float = leaf(default=1.0, gt=0)

    def cells(self, rows: int, cols: int) -> tuple[int, int, int]:
        """Return `(1, rows, cols)`."""
        return 1, rows, cols

    def encode(self, device: Device, weights: Array) -> Array:
        """Return target conductances [S], shape `[1, rows, cols]`."""
        return device.g_max * weights[None]

    def decode(self, device: Device, g: Array) -> Array:
        """Return the weights `[rows, cols]`."""
        return g[0] / device.g_max

    def route(self, counts: Array) -> Array:
        """Return the same pulses."""
        return counts[None]

    def decode_variance(self, device: Device, variance: Array) -> Array:
        """Return the variance of the weights `[rows, cols]`."""
        return variance[0] / device.g_max**2


def grid(rows: int, cols: int, array_shape: tuple[int, int] | None) -> tuple[int, int, int, int]:
    """Return `(n_rows, n_cols, rows, cols)`: how many arrays a matrix needs, and how much of each it uses.

    The matrix is cut as evenly as whole rows allow: 784 rows on arrays of 512 use 392 of each of two.
    """
    most = (rows, cols) if array_shape is None else array_shape
    n_rows, n_cols = math.ceil(rows / most[0]), math.ceil(cols / most[1])
    return n_rows, n_cols, math.ceil(rows / n_rows), math.ceil(cols / n_cols)


def cut(matrix: Array, array_shape: tuple[int, int] | None) -> Array:
    """Cut a matrix `[rows, cols]` into arrays `[n_rows, n_cols, rows', cols']`, padded with zeros."""
    n_rows, n_cols, r, c = grid(matrix.shape[0], matrix.shape[1], array_shape)
    padded = jnp.pad(matrix, ((0, n_rows * r - matrix.shape[0]), (0, n_cols * c - matrix.shape[1])))
    return padded.reshape(n_rows, r, n_cols, c).swapaxes(1, 2)


def join(arrays: Array, rows: int, cols: int) -> Array:
    """Undo `cut`."""
    n_rows, n_cols, r, c = arrays.shape
    return arrays.swapaxes(1, 2).reshape(n_rows * r, n_cols * c)[:rows, :cols]
