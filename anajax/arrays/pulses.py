"""Pulses: the parallel update of a crossbar, in which rows and columns fire and cells count coincidences.

The gradient of a matrix-vector product is an outer product of what its rows were given, x, and what its columns are
told, d. A crossbar takes it as it stands: every row and every column sends a train of pulses, with a probability in
proportion to x and to d, and a cell moves by one step where both meet. No cell is addressed, and none is read.

Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016); the rules of management as AIHWKit documents them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from anajax._random import fold_read, read_uniform, split_read
from anajax._record import Record, leaf, record, static
from anajax.devices import Cells
from anajax.devices.pulsed import safe_sqrt, with_derivatives_of

if TYPE_CHECKING:
    from anajax.arrays.hardware import Hardware


@record
class PulseTrain(Record):
    """How rows and columns turn numbers into pulses.

    With the learning rate lambda, the step of the mean cell delta, X = max |x|, D = max |d| of one example, and
    k = lambda X D / delta the pulses that the busiest cell is due,

        BL = min(ceil(k), length),   p = |x| B,   q = |d| A,   A B = lambda / (delta BL),   A / B = X / D

    A row fires with probability p in each of BL slots, a column with q; beyond 1 it always does. Where k > length,
    D counts as D length / k, so that columns saturate and rows do not.

    Attributes:
      length: longest train, static.
      kind: `"stochastic"`: rows and columns fire at random, all cells of a row by the same draws. `"mean-count"`:
        rows fire rint(BL p) times, columns rint(BL q) times, cells rint of the product over BL. `"deterministic"`:
        cells count rint(BL p q).
      update_management: whether A / B follows X / D; else A = B.
      length_management: whether trains are as short as k allows; else BL = length. It needs `update_management`.
      resolution: step of the probabilities p and q, or `None`.
    """

    length: int = static(default=31)
    kind: str = static(default="stochastic", choices=("stochastic", "mean-count", "deterministic"))
    update_management: bool = static(default=True, choices=(False, True))
    length_management: bool = static(default=True, choices=(False, True))
    resolution: Array | float | None = leaf(default=None, gt=0, le=1)

    def check(self) -> None:
        """Check the length, and that the rules of management fit together."""
        if not isinstance(self.length, int) or self.length < 1:
            raise ValueError(f"PulseTrain.length must be a positive integer; got {self.length!r}")
        if self.length_management and not self.update_management:
            raise ValueError("PulseTrain.length_management needs update_management=True; got False")

    def probabilities(self, x: Array, d: Array, rate: Array | float) -> tuple[Array, Array, Array]:
        """Return `(p, q, BL)`: probabilities of rows `[rows]` and of columns `[cols]`, and the length of the trains.

        Args:
          x: inputs of the rows, `[rows]`.
          d: errors of the columns, `[cols]`.
          rate: learning rate over the step of the mean cell, lambda / delta.
        """
        largest_x, largest_d = jnp.max(jnp.abs(x)), jnp.max(jnp.abs(d))
        due = rate * largest_x * largest_d
        slots = jnp.full_like(due, self.length)
        if self.length_management:
            slots = jnp.clip(jnp.ceil(due), 1, self.length)
        a = b = safe_sqrt(rate / slots)
        if self.update_management:
            busiest = jnp.where(due > self.length, largest_d * self.length / jnp.where(due > 0, due, 1.0), largest_d)
            both = (largest_x > 0) & (busiest > 0)
            ratio = jnp.sqrt(jnp.where(both, largest_x, 1.0) / jnp.where(both, busiest, 1.0))
            a, b = a * ratio, b / ratio
        p, q = jnp.abs(x) * b, jnp.abs(d) * a
        if self.resolution is not None:
            p, q = (with_derivatives_of(c, jnp.round(c / self.resolution) * self.resolution) for c in (p, q))
        return jnp.minimum(p, 1.0), jnp.minimum(q, 1.0), slots


def coincidences(key: Array | None, train: PulseTrain, x: Array, d: Array, rate: Array | float) -> Array:
    """Return the pulses of every cell for one example, `[rows, cols]`: whole numbers with the sign of `-x d`.

    Their mean is that of `-rate x d` where nothing saturates. They have the derivatives of their means.

    Args:
      key: random key; may be `None` where the kind is not stochastic.
      train: the kind of pulse trains.
      x: inputs of the rows, `[rows]`.
      d: errors of the columns, `[cols]`: the gradient is `x d`, and pulses descend it.
      rate: learning rate over the step of the mean cell.
    """
    p, q, slots = train.probabilities(x, d, rate)
    up_x, up_d = jnp.sign(x), -jnp.sign(d)
    mean = (slots * up_x * p)[:, None] * (up_d * q)
    if train.kind == "deterministic":
        whole = jnp.round(mean)
    elif train.kind == "mean-count":
        whole = jnp.round((up_x * jnp.round(slots * p))[:, None] * (up_d * jnp.round(slots * q)) / slots)
    else:
        if key is None:
            raise ValueError("pulses of PulseTrain(kind='stochastic') need a key; got None")
        on = (jnp.arange(train.length) < slots)[:, None]
        rows, cols = (
            jnp.where(on & (read_uniform(fold_read(key, i), (train.length, len(c)), c.dtype) < c), sign, 0.0)
            for i, (c, sign) in enumerate(((p, up_x), (q, up_d)))
        )
        whole = jnp.einsum("ki,kj->ij", rows, cols)
    whole = jnp.copysign(whole, mean)  # no pulse has the derivatives of the one that was likely
    finite = jnp.isfinite(jnp.sum(p) + jnp.sum(q))  # what is not a number must not pass for no pulse
    return with_derivatives_of(mean, jnp.where(finite, whole, jnp.nan))


class Pulsed(NamedTuple):
    """Cells after an update, and the pulses `[rows, cols]` that each of them has got."""

    cells: Cells
    pulses: Array


def granularity(hardware: Hardware) -> Array:
    """Return the change of a weight of the mean virgin cell by one pulse, the mean of up and down."""
    device, mapping = hardware.device.at_once(), hardware.mapping
    virgin = device.fabricate(None, mapping.cells(1, 1))
    before = mapping.decode(device, device.conductance(virgin))

    def change(count: float) -> Array:
        after = device.pulse(None, _of_weights(virgin, 1), mapping.route(jnp.full((1, 1), count)))
        return jnp.abs(mapping.decode(device, device.conductance(_with_others(after, virgin))) - before)

    return ((change(1.0) + change(-1.0)) / 2)[0, 0]


def sequential_update(
    key: Array | None, hardware: Hardware, cells: Cells, x: Array, d: Array, learning_rate: Array | float
) -> Pulsed:
    """Descend the gradients of examples one after the other, each by the pulses that it makes coincide.

    A later example meets the cells as the earlier ones left them.

    Args:
      key: random key for trains and cycle-to-cycle noise; `None` for the mean response to trains that are not random.
      hardware: the spec: device, mapping and trains of pulses.
      cells: those of one array, `[cells, rows, lines]`.
      x: inputs, `[n, rows]`.
      d: errors, `[n, cols]`: the gradient of example k is the outer product of `x[k]` and `d[k]`.
      learning_rate: change of a weight, as a fraction of the window, for a gradient of 1.
    """
    rate = learning_rate / granularity(hardware)

    def one(carry: Pulsed, example: tuple[Array, Array, Array]) -> tuple[Pulsed, None]:
        k, x, d = example
        firing, pulsing = (None, None) if key is None else (fold_read(key, k, 0), fold_read(key, k, 1))
        counts = coincidences(firing, hardware.pulses, x, d, rate)
        cells = hardware.device.pulse(pulsing, carry.cells, hardware.mapping.route(counts))
        return Pulsed(cells, carry.pulses + jnp.abs(counts)), None

    start = Pulsed(_of_weights(cells, d.shape[1]), jnp.zeros((x.shape[1], d.shape[1]), x.dtype))
    after = jax.lax.scan(one, start, (jnp.arange(x.shape[0], dtype=jnp.uint32), x, d))[0]
    return after._replace(cells=_with_others(after.cells, cells))


@record
class Sums(Record):
    """What the examples of a mini-batch sum up to: all that `aggregate_update` knows of them.

    With the gradient x d of each example and its largest magnitude, max |x| max |d|:

    Attributes:
      gradient: sum of x d, `[rows, cols]`.
      magnitude: sum of |x d|.
      square: sum of (x d)**2 over the largest magnitude.
      largest: sum of the largest magnitudes, a scalar.
      count: number of examples, a scalar.
    """

    gradient: Array = leaf()
    magnitude: Array = leaf()
    square: Array = leaf()
    largest: Array = leaf()
    count: Array = leaf()

    @property
    def mean_largest(self) -> Array:
        """The mean of the largest magnitudes."""
        return self.largest / jnp.maximum(self.count, 1.0)


@jax.jit  # where NaN passes, for those who look at gradients to find
def sums(x: Array, d: Array) -> Sums:
    """Return the sums of examples `x [n, rows]`, `d [n, cols]`."""
    size_x, size_d = (jnp.max(jnp.abs(a), axis=1, keepdims=True) for a in (x, d))
    square_x, square_d = (a**2 / jnp.where(s > 0, s, 1.0) for a, s in ((x, size_x), (d, size_d)))
    return Sums(
        gradient=x.T @ d,
        magnitude=jnp.abs(x).T @ jnp.abs(d),
        square=square_x.T @ square_d,
        largest=jnp.sum(size_x * size_d),
        count=jnp.full((), x.shape[0], x.dtype),
    )


def aggregate_update(
    key: Array | None, hardware: Hardware, cells: Cells, total: Sums, learning_rate: Array | float
) -> Pulsed:
    """Descend the gradients of a mini-batch at once, by the pulses up and the pulses down that its examples sum up to.

    Each cell gets random numbers of pulses, real ones, of the mean and variance that trains would give; half of those
    down, all those up, and the other half. All examples meet the cells as they are before the mini-batch, and trains do
    not saturate, and are as long as the mean example's: fast, and wrong by what cells move within a mini-batch. Cells
    draw apart, while a line's pulses go to all its cells: sums along lines vary less than by trains. Trains that are
    not random round nothing here, and `resolution` is not looked at. Devices that take turns share the pulses.
    Derivatives are those of the mean of each number, and by the learning rate and the device those of its standard
    deviation too, its standard score held fixed. How chance grows with a gradient has none: rare pulses would make
    the derivatives of many updates explode.

    Args:
      key: random key for numbers of pulses and cycle-to-cycle noise, or `None` for the means.
      hardware: the spec: device, mapping and trains of pulses, of which only "stochastic" ones vary.
      cells: those of one array, `[cells, rows, lines]`.
      total: from `sums`.
      learning_rate: change of a weight, as a fraction of the window, for a gradient of 1.
    """
    rate, train = learning_rate / granularity(hardware), hardware.pulses
    up, down = rate * (total.magnitude - total.gradient) / 2, rate * (total.magnitude + total.gradient) / 2
    keys = (None,) * 3
    if key is not None:
        keys = tuple(split_read(fold_read(key, 0), (3,)))
    if key is not None and train.kind == "stochastic":
        fixed = jax.lax.stop_gradient(total)
        slots: Array | float = train.length
        if train.length_management:
            slots = jnp.clip(jnp.ceil(rate * fixed.mean_largest), 1, train.length)
        # a train of n slots and mean m has the variance m (1 - m / n)
        busy = rate * fixed.mean_largest / slots
        sure = busy * fixed.square / jnp.where(fixed.magnitude > 0, fixed.magnitude, 1.0)
        left = rate * jnp.maximum(1 - sure, 0.0) / 2
        variances = left * (fixed.magnitude - fixed.gradient), left * (fixed.magnitude + fixed.gradient)
        draws = (fold_read(key, 1, i) for i in range(2))
        up, down = (_numbers(*given) for given in zip(draws, (up, down), variances, strict=True))
    after, device = _of_weights(cells, up.shape[1]), hardware.device.at_once()
    for k, counts in zip(keys, (-down / 2, up, -down / 2), strict=True):
        after = device.pulse(k, after, hardware.mapping.route(counts))
    return Pulsed(_with_others(after, cells), up + down)


def whole_update(
    key: Array | None, hardware: Hardware, cells: Cells, wanted: Array, due: Array | bool = True
) -> tuple[Pulsed, Array]:
    """Change weights by what is wanted of whole pulses; return also what is left of it, less than a pulse each.

    Pulses have the derivatives of what is wanted.

    Args:
      key: random key for cycle-to-cycle noise, or `None` for its mean.
      hardware: the spec: device and mapping.
      cells: those of one array, `[cells, rows, lines]`.
      wanted: changes of the weights, as fractions of the window, `[rows, cols]`.
      due: whether there are to be any pulses yet.
    """
    step = granularity(hardware)
    counts = with_derivatives_of(jnp.where(due, wanted / step, 0.0), jnp.where(due, jnp.trunc(wanted / step), 0.0))
    after = hardware.device.pulse(key, _of_weights(cells, wanted.shape[1]), hardware.mapping.route(counts))
    return Pulsed(_with_others(after, cells), counts), wanted - counts * step


def _of_weights(cells: Cells, cols: int) -> Cells:
    """Return the cells on lines of weights, which come first; reference columns get no pulses."""
    return jax.tree.map(lambda a: a[..., :cols], cells)


def _with_others(after: Cells, before: Cells) -> Cells:
    """Return the cells of weights `after` pulses, with those of other lines as they were."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[..., a.shape[-1] :]], axis=-1), after, before)


def _numbers(key: Array, mean: Array, variance: Array) -> Array:
    """Draw numbers >= 0 of this mean and variance, from two values each: over a few mini-batches no more is seen."""
    std = safe_sqrt(variance)
    below = jnp.minimum(std, mean)  # of the lower value from the mean; the upper one is variance / below above it
    some = below > 0
    above = jnp.where(some, variance / jnp.where(some, below, 1.0), 0.0)
    upper = read_uniform(key, mean.shape, mean.dtype) * (below + above) < below
    off = jax.lax.stop_gradient(jnp.where(upper, above, -below) / jnp.where(std > 0, std, 1.0))
    drawn = mean + std * off
    # no pulse is exactly none: noise that grows as the root of their number has no derivative next to zero
    none = ~upper & (std >= mean)
    return with_derivatives_of(drawn, jnp.where(none, 0.0, jnp.maximum(drawn, 0.0)))
