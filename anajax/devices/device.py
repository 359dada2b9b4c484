"""The contract of a device: what one memory cell does, elementwise, for arrays of cells of any shape.

A device is a frozen spec: a law of physics with its parameters. The cells that obey it are another value,
`Cells`, which holds *standard scores* (unit draws) rather than realised parameters, so that the same cells
can be simulated again under another spec, swept, and differentiated through.
"""

from __future__ import annotations

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._random import read_normal
from anajax._record import Record, leaf, record

Shape = tuple[int, ...]


@record
class Cells(Record):
    """An array of manufactured cells.

    Attributes:
      scores: standard score of each cell by name, such as `"program"` or `"drift"`; unit normal draws. A
        score that is absent counts as zero: the mean cell.
      target: conductance each cell was last programmed to [S], or `None` for virgin or pulsed cells.
      state: what pulses made of each cell, by name, such as `"x"`; `None` before the first pulse. It is realised:
        another spec reads it as it is, and gets its own only by running the pulses again.
      parts: cells of the devices that a compound cell is made of, by name; `None` for a single device.
    """

    scores: dict[str, Array] = leaf(default=None)
    target: Array | None = leaf(default=None)
    state: dict[str, Array] | None = leaf(default=None)
    parts: dict[str, Cells] | None = leaf(default=None)

    def __post_init__(self) -> None:
        if self.scores is None:
            object.__setattr__(self, "scores", {})
        super().__post_init__()

    def score(self, name: str) -> Array | float:
        """Return the scores called `name`, or 0 where they were never drawn."""
        return self.scores.get(name, 0.0)

    def aimed(self, target: Array) -> Cells:
        """Return the cells with a new target in the place of their state; what counts pulses goes on counting."""
        kept = {name: x for name, x in (self.state or {}).items() if name in ("cycles", "turn", "polarity")}
        return self.replace(target=target, state=kept or None)


@record
class Device(Record):
    """Base of all devices. A device implements the methods that its physics has.

    Attributes:
      g_max: highest conductance that programming aims at [S].
      g_min: lowest conductance that programming aims at [S].
    """

    g_max: Array | float = leaf(default=25e-6, gt=0)
    g_min: Array | float = leaf(default=0.0, ge=0)

    #: whether the device stands around another one, whose methods it passes on
    wraps = False
    #: names of the scores a cell keeps for its life, and of those drawn at each programming
    life_scores = ()
    program_scores = ()

    def check(self) -> None:
        """Check that the window is not empty."""
        known = _check.is_concrete(self.g_min) and _check.is_concrete(self.g_max)
        if known and not np.all(np.asarray(self.g_min) < np.asarray(self.g_max)):
            raise ValueError(
                f"{type(self).__name__}.g_min must be less than g_max; got g_min={self.g_min} S, g_max={self.g_max} S"
            )

    @property
    def window(self) -> Array | float:
        """Width of the conductance window, `g_max - g_min` [S]."""
        return self.g_max - self.g_min

    def fabricate(self, key: Array | None, shape: Shape) -> Cells:
        """Manufacture cells: draw the scores that they keep for life.

        Args:
          key: random key, or `None` for mean cells.
          shape: shape of the array of cells.

        Returns:
          Virgin cells.
        """
        return Cells(scores=_draw(key, self.life_scores, shape))

    def program(self, key: Array | None, cells: Cells, target: Array) -> Cells:
        """Program every cell once, open loop, to `target`.

        Args:
          key: random key, or `None` for noise-free programming.
          cells: cells of shape `target.shape`.
          target: wanted conductance [S].

        Returns:
          Cells that hold `target` and fresh programming scores.
        """
        kept = {name: score for name, score in cells.scores.items() if name not in self.program_scores}
        return cells.aimed(target).replace(scores=kept | _draw(key, self.program_scores, target.shape))

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation of the conductance [S] after programming to `target` [S]."""
        self._lacks("programming_noise")

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the mean conductance [S] of each cell, `time` seconds after programming."""
        self._lacks("conductance")

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read of each cell, `time` seconds after programming."""
        self._lacks("read_noise")

    def read(self, key: Array | None, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return one read of each cell [S]: the mean with its read noise, never below zero.

        Args:
          key: random key, or `None` for the mean.
          cells: the cells.
          time: seconds since programming or since the last pulse.
        """
        g = self.conductance(cells, time)
        if key is None:
            return g
        return jnp.maximum(g + self.read_noise(cells, time) * read_normal(key, g.shape, g.dtype), 0.0)

    def pulse(self, key: Array | None, cells: Cells, counts: Array) -> Cells:
        """Apply `counts` identical pulses to each cell, with cycle-to-cycle noise.

        Args:
          key: random key, or `None` for the mean.
          cells: the cells.
          counts: signed numbers of pulses, broadcast to the cells: > 0 potentiates, < 0 depresses. A fraction of a
            pulse has that fraction of its effect, so that aggregate updates are differentiable.
        """
        self._lacks("pulse")

    def at_once(self) -> Device:
        """Return the device as it takes the pulses of many examples in one call: no part of it waits for its turn."""
        return self

    def symmetry_point(self, cells: Cells) -> Array:
        """Return the state at which a pulse up and a pulse down cancel."""
        self._lacks("symmetry_point")

    def step(self, cells: Cells, direction: Array | float) -> Array:
        """Return the mean response of the state to one pulse, up where `direction` > 0, else down."""
        self._lacks("step")

    def reset(self, key: Array | None, cells: Cells, where: Array | bool = True) -> Cells:
        """Return the cells, erased `where` this is true."""
        self._lacks("reset")

    def wait(self, key: Array | None, cells: Cells, seconds: Array | float) -> Cells:
        """Return pulsed cells `seconds` later: leaked, diffused, aged."""
        self._lacks("wait")

    def _lacks(self, method: str) -> NoReturn:
        able = sorted(c.__name__ for c in _subclasses(Device) if _implements(c, method))
        raise NotImplementedError(
            f"{type(self).__name__} has no {method}(); "
            + (f"devices that have it: {', '.join(able)}" if able else "no device has it yet")
        )


def _implements(cls: Any, method: str) -> bool:
    own = getattr(cls, method, None)
    return own is not getattr(Device, method, None) and not cls.wraps


def _subclasses(cls: type) -> list[Any]:
    return [s for c in cls.__subclasses__() for s in (c, *_subclasses(c))]


def _draw(key: Array | None, names: tuple[str, ...], shape: Shape) -> dict[str, Array]:
    if key is None:
        return {}
    keys = jax.random.split(key, max(len(names), 1))
    return {name: jax.random.normal(k, shape) for name, k in zip(names, keys, strict=False)}


@record
class Ideal(Device):
    """A cell that takes exactly the conductance it is given, and keeps it."""

    def programming_noise(self, target: Array) -> Array:
        """Return zero [S]."""
        return jnp.zeros_like(target)

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the programmed conductance [S], whatever the `time` [s]."""
        return _programmed(cells)

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return zero [S]."""
        return jnp.zeros_like(_programmed(cells))


def checked_counts(counts: Any, shape: Shape) -> Array:
    """Return numbers of pulses as floats in the shape of the cells; raise for what does not fit them."""
    counts = _check.floating(counts, "counts")
    _check.finite(counts, "counts")
    if jnp.broadcast_shapes(counts.shape, shape) != tuple(shape):
        raise ValueError(f"counts must broadcast to the cells, of shape {tuple(shape)}; got {counts.shape}")
    return jnp.broadcast_to(counts, shape)


def _programmed(cells: Cells) -> Array:
    if cells.target is None:
        raise ValueError("cells.target is None: these cells were never programmed; call device.program first")
    return cells.target
