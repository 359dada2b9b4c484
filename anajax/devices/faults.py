"""Faulty cells: a device around another one, some of whose cells are stuck for life."""

from __future__ import annotations

import zlib
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri

from anajax import _check
from anajax._record import Numbers, Record, leaf, record
from anajax.devices.curves import Curve, Table
from anajax.devices.device import Cells, Device, Shape


def straight_through(
    event: Array, probability: Array | float, other: Array | None = None, rest: Array | float | None = None
) -> Array:
    """Return `event` as 0 or 1, with a declared derivative with respect to its `probability` p.

    The straight-through estimator of an expectation, by the trapezoidal rule: a jump from a to b changes f by
    f(b) - f(a) = (f'(a) + f'(b)) (b - a) / 2, up to third order. In `g = a + straight_through(event, p) (b - a)` each
    end is met in its own share of the cells, and counts by the inverse of it: the derivative is 1 / (2 p) where the
    event happened, 1 / (2 rest) where the `other` did, of probability `rest` (`None`: all else), and 0 elsewhere.
    Where one end is never met, the other stands for both. Compare Liu et al., NeurIPS 2023.
    """
    p = jax.lax.stop_gradient(probability)
    other = ~event if other is None else other
    rest = 1 - p if rest is None else jax.lax.stop_gradient(rest)
    ends = jnp.where((p > 0) & (rest > 0), 2.0, 1.0)
    own, others = (1 / (ends * jnp.where(share > 0, share, 1.0)) for share in (p, rest))
    return event + jnp.where(event, own, jnp.where(other, others, 0.0)) * (probability - p)


@record
class Wrapper(Device):
    """Base of devices around another device: whatever a subclass does not change, the inner device does.

    Both share one `Cells`, which `wrapper.device` understands too. It gets the scores that it would get on its own.

    Attributes:
      device: the inner device.
    """

    wraps = True

    device: Device = leaf()
    # the window is the inner device's
    g_max: ClassVar[Any] = property(lambda self: self.device.g_max)
    g_min: ClassVar[Any] = property(lambda self: self.device.g_min)

    def check(self) -> None:
        """Check that there is a device, and that no other wrapper around it uses the same scores."""
        name = type(self).__name__
        if not isinstance(self.device, Device):
            raise TypeError(f"{name}.device must be a Device; got {self.device!r}")
        if _check.is_concrete(self.device.g_min) and not np.all(np.asarray(self.device.g_min) >= 0):
            raise ValueError(
                f"{name}.device must be a single cell, whose conductance has no sign; got {type(self.device).__name__}."
                f" Put {name} around its parts"
            )
        taken = set(self._scores()) & {*self.device.life_scores, *self.device.program_scores}
        if taken:
            inner = f"{type(self.device).__name__} with {', '.join(map(repr, sorted(taken)))}"
            raise ValueError(f"{name}.device must have none of the scores of {name} itself; got {inner}")

    def _scores(self) -> tuple[str, ...]:
        """Return the names of the scores that the wrapper adds to those a cell keeps for life."""
        return ()

    @property
    def life_scores(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the scores a cell keeps for its life: the wrapper's and the inner device's."""
        return (*self._scores(), *self.device.life_scores)

    @property
    def program_scores(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the scores drawn at each programming: the inner device's."""
        return tuple(self.device.program_scores)

    def fabricate(self, key: Array | None, shape: Shape) -> Cells:
        """Manufacture cells; see `Device.fabricate`."""
        cells = self.device.fabricate(key, shape)
        if key is None:
            return cells
        # a key for each name: one more score changes none of the others
        own = {n: jax.random.normal(jax.random.fold_in(key, zlib.crc32(n.encode())), shape) for n in self._scores()}
        return cells.replace(scores=cells.scores | own)

    def _kept(self, old: Cells, new: Cells) -> Cells:
        """Return `new` with the wrapper's scores, which an inner device may have dropped."""
        return new.replace(scores=new.scores | {n: old.scores[n] for n in self._scores() if n in old.scores})

    def program(self, key: Array | None, cells: Cells, target: Array) -> Cells:
        """Program the inner device; see `Device.program`."""
        return self._kept(cells, self.device.program(key, cells, target))

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] of programming the inner device to `target` [S]."""
        return self.device.programming_noise(target)

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the mean conductance [S] of each cell, `time` seconds after programming."""
        return self.device.conductance(cells, time)

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read of each cell."""
        return self.device.read_noise(cells, time)

    def read(self, key: Array | None, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return one read of each cell [S]; see `Device.read`."""
        return self.device.read(key, cells, time)

    def pulse(self, key: Array | None, cells: Cells, counts: Array) -> Cells:
        """Pulse the inner device; see `Device.pulse`."""
        return self._kept(cells, self.device.pulse(key, cells, counts))

    def step(self, cells: Cells, direction: Array | float) -> Array:
        """Return the mean response to one pulse, up where `direction` > 0, else down."""
        return self.device.step(cells, direction)

    def reset(self, key: Array | None, cells: Cells, where: Array | bool = True) -> Cells:
        """Reset the inner device; see `Device.reset`."""
        return self._kept(cells, self.device.reset(key, cells, where))

    def wait(self, key: Array | None, cells: Cells, seconds: Array | float) -> Cells:
        """Return the cells `seconds` later; see `Device.wait`."""
        return self._kept(cells, self.device.wait(key, cells, seconds))

    def symmetry_point(self, cells: Cells) -> Array:
        """Return the inner device's state at which a pulse up and a pulse down cancel."""
        return self.device.symmetry_point(cells)


@record
class Faulty(Wrapper):
    """A device some of whose cells are stuck: manufactured so, each by chance, for life.

        g = g_stuck in a faulty cell, the inner device's conductance in the others
        read noise and response to pulses: 0 in a faulty cell

    A stuck cell is a plain resistor: it neither drifts nor fluctuates; programming and pulses do not show. A cell is
    faulty where its standard score `"fault"` lies below the normal quantile of the summed probabilities: those faulty
    at one probability stay so at a higher one. Cells without that score, as made without a key, are all healthy.

    The derivative with respect to a probability p is declared: the trapezoidal straight-through estimator of an
    expectation. It counts df/dg (g_stuck - g_healthy) 1 / (2 p) times in the cells stuck so, 1 / (2 (1 - all p)) times
    in healthy ones. It is right in the mean over chips where f is at most quadratic in each cell's conductance, such
    as a squared error of a matrix-vector product; elsewhere biased in the third order of the jump, and at p = 0 in the
    second (numbers in the guide on faulty cells). Cells without scores have none.
    Source: Mehonic et al., Front. Neurosci. 13:593 (2019), the first three kinds; Joksas et al., Adv. Sci. 9:2105784
    (2022), stuck at drawn values. Not modelled: faults that come in clusters; broken or shorted lines. Faults that
    come with use: see `Endurance`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from anajax.devices import presets
      >>> device = Faulty(device=presets.ideal(), low=0.02, high=0.01)
      >>> cells = device.fabricate(jax.random.key(0), (1000, 100))
      >>> {kind: round(float(mask.mean()), 3) for kind, mask in device.fault(cells).items()}
      {'low': 0.02, 'high': 0.01}

    Attributes:
      device: the device that healthy cells are.
      unformed: probability that electroforming failed: no conductance at all. `None` where there is no such fault, as
        below; cells made without any have no score, and stay healthy under another spec.
      low: probability of being stuck at `g_min`.
      high: probability of being stuck at `g_max`.
      drawn: probability of being stuck at a value drawn from `values`.
      values: quantiles [S] of stuck conductances over [0, 1], such as `Uniform` or what `stuck_values` returns.
    """

    unformed: Array | float | None = leaf(default=None, ge=0, le=1)
    low: Array | float | None = leaf(default=None, ge=0, le=1)
    high: Array | float | None = leaf(default=None, ge=0, le=1)
    drawn: Array | float | None = leaf(default=None, ge=0, le=1)
    values: Curve | None = leaf(default=None)

    def check(self) -> None:
        """Check that probabilities add up to no more than 1, and that drawn values have a distribution."""
        super().check()
        present = self._probabilities()
        if all(_check.is_concrete(p) for p in present.values()):
            total = np.max(sum(np.asarray(p) for p in present.values()))
            if total > 1 + 1e-6:
                raise ValueError(f"Faulty.{' + '.join(present)} must be at most 1; got {total:g}")
        if (self.drawn is None) != (self.values is None):
            got = f"drawn={self.drawn!r}, values={self.values!r}"
            raise ValueError(f"Faulty.drawn and Faulty.values must be given together; got {got}")
        if self.values is not None and not callable(self.values):
            raise TypeError(f"Faulty.values must be a curve of quantiles, such as Uniform; got {self.values!r}")

    def _probabilities(self) -> dict[str, Array | float]:
        kinds = {"unformed": self.unformed, "low": self.low, "high": self.high, "drawn": self.drawn}
        return {kind: p for kind, p in kinds.items() if p is not None}

    def _scores(self) -> tuple[str, ...]:
        present = self._probabilities()
        return ("fault",) * bool(present) + ("fault_value",) * ("drawn" in present)

    def fault(self, cells: Cells) -> dict[str, Array]:
        """Return which cells are faulty: a mask, of the shape of the cells, for each kind that is not `None`."""
        score = cells.scores.get("fault", jnp.inf)
        masks, below, total = {}, jnp.zeros((), bool), 0.0
        for kind, p in self._probabilities().items():
            total = total + jax.lax.stop_gradient(p)
            reached = score < ndtri(jnp.minimum(total, 1.0))
            masks[kind] = reached & ~below
            below = reached
        return masks

    def stuck(self, cells: Cells) -> dict[str, Array | float]:
        """Return the conductance [S] at which each cell would be stuck, for each kind that is not `None`."""
        levels = {"unformed": 0.0, "low": self.g_min, "high": self.g_max}
        if self.values is not None:
            levels["drawn"] = self.values(ndtr(jnp.asarray(cells.score("fault_value"))))
        return {kind: levels[kind] for kind in self._probabilities()}

    def _shares(self, cells: Cells) -> tuple[dict[str, Array], Array | float]:
        """Return 1 where a cell is of a kind, by kind, and 1 where it is healthy."""
        if "fault" not in cells.scores:
            return {}, 1.0
        masks, chance = self.fault(cells), self._probabilities()
        sound, rest = ~sum(masks.values(), jnp.zeros((), bool)), 1 - sum(chance.values())
        stuck = {kind: straight_through(mask, chance[kind], sound, rest) for kind, mask in masks.items()}
        return stuck, 1 - sum(stuck.values())

    def _seen(self, cells: Cells, g: Array) -> Array:
        # a combination of 0s and 1s: exact to the bit, and linear in each share
        shares, healthy = self._shares(cells)
        levels = self.stuck(cells)
        return sum((share * levels[kind] for kind, share in shares.items()), healthy * g)

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the mean conductance [S] of each cell: that of the inner device, or the value it is stuck at."""
        return self._seen(cells, self.device.conductance(cells, time))

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read of each cell: that of the inner device, or zero."""
        return self._shares(cells)[1] * self.device.read_noise(cells, time)

    def read(self, key: Array | None, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return one read of each cell [S]: of the inner device, or the value it is stuck at."""
        return self._seen(cells, self.device.read(key, cells, time))

    def step(self, cells: Cells, direction: Array | float) -> Array:
        """Return the mean response to one pulse: that of the inner device, or zero."""
        return self._shares(cells)[1] * self.device.step(cells, direction)


@record
class Uniform(Record):
    """Quantiles of the uniform distribution from `low` to `high`."""

    low: Array | float = leaf(default=0.0)
    high: Array | float = leaf()

    def __call__(self, u: Array) -> Array:
        """Return the value below which a share `u` lies."""
        return self.low + (self.high - self.low) * u


def stuck_values(samples: Numbers, low: float = 0.0, high: float | None = None, n: int = 129) -> Table:
    """Return the quantiles of a smooth distribution through measured stuck conductances.

    The distribution is a kernel density estimate: a normal of Scott's bandwidth, `std(samples) m**(-1/5)`,
    around each of the m samples, reflected at `low` and `high`.
    Source: the method of Joksas et al., Adv. Sci. 9:2105784 (2022), who reflect at zero only.

    Args:
      samples: measured conductances [S], at least two that differ, within `low` and `high`.
      low: smallest conductance possible [S].
      high: largest conductance possible [S], or `None` for no limit.
      n: number of quantiles kept, at -4 to 4 standard scores.

    Example:
      >>> values = stuck_values([2e-6, 3e-6, 8e-6], high=10e-6)
      >>> 2e-6 < float(values(0.5)) < 8e-6
      True
    """
    x = _check.floating(samples, "samples").ravel()
    _check.in_range(low, "low", ge=0)
    _check.in_range(n, "n", ge=2)
    if high is not None:
        _check.in_range(high, "high", gt=low)
    _check.in_range(x, "samples", ge=low, **({} if high is None else {"le": high}))
    _check.finite(x, "samples")
    if np.unique(x).size < 2:
        raise ValueError(f"samples must hold at least two values that differ; got {np.asarray(x)}")
    width = float(jnp.std(x, ddof=1)) * x.size**-0.2
    images = [x, 2 * low - x]
    if high is not None:  # between two mirrors images repeat; those farther away have no weight
        images = [image + 2 * k * (high - low) for image in images for k in (-1, 0, 1)]
    centres = jnp.concatenate(images)
    top = float(jnp.max(x)) + 6 * width
    grid = jnp.linspace(low, top if high is None else min(high, top), 4097)
    mass = jax.lax.map(lambda y: jnp.sum(ndtr((y - centres) / width) - ndtr((low - centres) / width)), grid)
    u = ndtr(jnp.linspace(-4.0, 4.0, n))
    return Table(u=u, values=jnp.interp(u, mass / mass[-1], grid))
