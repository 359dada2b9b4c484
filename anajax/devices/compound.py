"""Compound cells: several devices that act as one cell under pulses.

Their conductance is a weighted sum over the parts, and has a sign where parts are subtracted: `g_min` is then
negative. A compound is a device like any other; its `Cells` hold the cells of its `parts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._record import Numbers, leaf, record, static
from anajax.devices.device import Cells, Device
from anajax.devices.pulsed import StepResponse, safe_sqrt


@record
class Compound(Device):
    """Base of compound cells: a subclass names its `parts`, `split`s a target among them, and `route`s pulses."""

    g_max: ClassVar[Any] = property(lambda self: self._window()[1])
    g_min: ClassVar[Any] = property(lambda self: self._window()[0])

    def parts(self, cells: Cells | None = None) -> dict[str, tuple[Device, Any]]:
        """Return the devices by name, with the weights of their conductances in the sum."""
        self._lacks("parts")

    def split(self, cells: Cells, target: Array) -> dict[str, Array]:
        """Return the targets [S] by which the parts make up `target` [S]; parts left out stay as they are."""
        self._lacks("split")

    def route(self, key: Array | None, cells: Cells, counts: Array) -> dict[str, Array]:
        """Return the signed numbers of pulses that reach each part, of `counts` to the cell."""
        self._lacks("route")

    def check(self) -> None:
        """Nothing: the window follows from the parts."""

    def fabricate(self, key: Array | None, shape: tuple[int, ...]) -> Cells:
        """Manufacture the cells of all parts; see `Device.fabricate`."""
        return Cells(parts=self._each(key, lambda name, part, k: part.fabricate(k, shape)))

    def program(self, key: Array | None, cells: Cells, target: Array) -> Cells:
        """Program the parts so that they add up to `target` [S], which has a sign where parts are subtracted."""
        old, wanted = self._parts_of(cells), self.split(cells, target)

        def program(name: str, part: Device, key: Array | None) -> Cells:
            # a share of the target is computed from the compound's at each look; the part keeps scores only
            return part.program(key, old[name], wanted[name]).replace(target=None) if name in wanted else old[name]

        return cells.replace(parts=self._each(key, program), target=target)

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] of programming to `target` [S]."""
        parts, wanted = self.parts(), self.split(self.fabricate(None, jnp.shape(target)), target)
        return _root_of_squares(parts[n][1] * parts[n][0].programming_noise(g) for n, g in wanted.items())

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the weighted sum of the conductances of the parts [S], with its sign."""
        return sum(self._seen(cells, lambda name, part, c: part.conductance(c, time)), start=jnp.zeros(()))

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read of all parts."""
        return _root_of_squares(self._seen(cells, lambda name, part, c: part.read_noise(c, time)))

    def read(self, key: Array | None, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the weighted sum of one read of each part [S]."""
        keys = self._each(key, lambda name, part, k: k)
        return sum(self._seen(cells, lambda name, part, c: part.read(keys[name], c, time)), start=jnp.zeros(()))

    def pulse(self, key: Array | None, cells: Cells, counts: Array) -> Cells:
        """Apply `counts` pulses to the cell, each to the parts that `route` names; see `Device.pulse`."""
        routing, pulsing = (None, None) if key is None else jax.random.split(key)
        old = self._parts_of(cells)
        routed = self.route(routing, cells, _check.floating(counts, "counts"))

        def pulse(name: str, part: Device, key: Array | None) -> Cells:
            return part.pulse(key, old[name], routed[name]) if name in routed else old[name]

        return cells.replace(parts=self._each(pulsing, pulse), target=None)

    def at_once(self) -> Device:
        """Return this compound of parts that take the pulses of many examples at once; see `Device.at_once`."""
        return self.replace(
            **{
                f.name: inner.at_once()
                for f in dataclasses.fields(self)
                if isinstance(inner := getattr(self, f.name), Device)
            }
        )

    def step(self, cells: Cells, direction: Array | float) -> Array:
        """Return the mean change of the conductance [S] by one pulse."""
        after = self.pulse(None, cells, jnp.sign(jnp.asarray(direction, float)))
        return self.conductance(after) - self.conductance(cells)

    def reset(self, key: Array | None, cells: Cells, where: Array | bool = True) -> Cells:
        """Return the cells with all parts erased `where` this is true."""
        old = self._parts_of(cells)
        return cells.replace(parts=self._each(key, lambda n, part, k: part.reset(k, old[n], where)), target=None)

    def wait(self, key: Array | None, cells: Cells, seconds: Array | float) -> Cells:
        """Return the cells `seconds` later, each part by its own physics."""
        old = self._parts_of(cells)
        return cells.replace(parts=self._each(key, lambda n, part, k: part.wait(k, old[n], seconds)), target=None)

    def _window(self) -> tuple[Any, Any]:
        ends = [(w * part.g_min, w * part.g_max) for part, w in self.parts().values()]
        low, high = (sum(jnp.sum(pick(a, b)) for a, b in ends) for pick in (jnp.minimum, jnp.maximum))
        return low, high

    def _parts_of(self, cells: Cells) -> dict[str, Cells]:
        """Return the cells of the parts; those that were programmed with their share of the target."""
        parts = {name: _of(cells, name) for name in self.parts()}
        if cells.target is None:
            return parts
        return parts | {name: parts[name].aimed(g) for name, g in self.split(cells, cells.target).items()}

    def _seen(self, cells: Cells, f: Callable[[str, Device, Cells], Array]) -> list[Array]:
        """Return `f(name, device, cells)` of every part, by its weight."""
        each = self._parts_of(cells)
        return [w * f(name, part, each[name]) for name, (part, w) in self.parts(cells).items()]

    def _each(self, key: Array | None, f: Callable[[str, Device, Array | None], Any]) -> dict[str, Any]:
        """Return `f(name, device, key)` of every part, each with a key of its own."""
        parts = self.parts()
        keys = [None] * len(parts) if key is None else jax.random.split(key, len(parts))
        return {name: f(name, part, k) for k, (name, (part, _)) in zip(keys, parts.items(), strict=True)}


def _of(cells: Cells, name: str) -> Cells:
    if cells.parts is None:
        raise ValueError("these cells are those of a single device; make them with the compound's fabricate")
    return cells.parts[name]


def _where(mask: Array | bool, new: Cells, old: Cells) -> Cells:
    """Return the `new` cells where `mask` is true, else the `old`; scores that these lack are those of mean cells."""
    scores = {n: jnp.where(mask, new.score(n), old.score(n)) for n in new.scores | old.scores}
    state = {n: jnp.where(mask, x, (old.state or {}).get(n, 0.0)) for n, x in (new.state or {}).items()}
    parts = {n: _where(mask, part, _of(old, n)) for n, part in (new.parts or {}).items()}
    return Cells(scores=scores, state=state or None, parts=parts or None)


def _root_of_squares(terms: Iterable[Array]) -> Array:
    return safe_sqrt(sum((x**2 for x in terms), start=jnp.zeros(())))


@record
class Vector(Compound):
    """Several devices of one kind in the place of one: the conductance is the weighted sum of theirs.

    Source: Boybat et al., Nat. Commun. 9:2514 (2018), multi-memristive synapses.

    Attributes:
      device: the kind.
      weights: of the conductances, one number for each device; `None` for 1 / n each.
      n: how many devices.
      policy: which device the pulses of one call reach: all of them ("all"), the first ("fixed"), one after the
        other ("sequential"), or one at random, the same in all cells ("random"; in turn, without a key); or "even",
        which gives each device its share of the pulses, as turns do in the long run.
    """

    device: Device = leaf()
    weights: Numbers = leaf(default=None)
    n: int = static(default=2)
    policy: str = static(default="all", choices=("all", "fixed", "sequential", "random", "even"))

    def check(self) -> None:
        """Check that there are devices, and a weight for each."""
        if not isinstance(self.n, int) or self.n < 1:
            raise ValueError(f"Vector.n must be an integer of at least 1; got {self.n!r}")
        if self.weights is not None and jnp.shape(self.weights) != (self.n,):
            raise ValueError(f"Vector.weights must have shape ({self.n},); got {jnp.shape(self.weights)}")
        known = self.weights is not None and _check.is_concrete(self.weights)
        if known and not np.sum(np.asarray(self.weights)) > 0:
            raise ValueError(f"Vector.weights must have a sum greater than 0; got {self.weights}")

    def parts(self, cells: Cells | None = None) -> dict[str, tuple[Device, Any]]:
        """Return the devices, called "0", "1", ..."""
        weights = [1 / self.n] * self.n if self.weights is None else self.weights
        return {str(k): (self.device, weights[k]) for k in range(self.n)}

    def split(self, cells: Cells, target: Array) -> dict[str, Array]:
        """Return the same target [S] for every device."""
        each = target / sum(w for _, w in self.parts().values())
        return {name: each for name in self.parts()}

    def fabricate(self, key: Array | None, shape: tuple[int, ...]) -> Cells:
        """Manufacture the cells of all devices; the first has the first turn."""
        return super().fabricate(key, shape).replace(state={"turn": jnp.zeros(shape)})

    def at_once(self) -> Device:
        """Return these devices as they share the pulses of many examples: turns even out."""
        turns = self.policy in ("sequential", "random")
        return super().at_once().replace(policy="even" if turns else self.policy)

    def pulse(self, key: Array | None, cells: Cells, counts: Array) -> Cells:
        """Apply `counts` pulses to the devices whose turn it is; see `Device.pulse`."""
        pulsed = super().pulse(key, cells, counts)
        turn = (cells.state or {}).get("turn", jnp.zeros(()))
        return pulsed.replace(state={"turn": jnp.mod(turn + 1, self.n)})

    def route(self, key: Array | None, cells: Cells, counts: Array) -> dict[str, Array]:
        """Return `counts` for the devices that the policy names, 0 for the others."""
        if self.policy == "even":
            return dict.fromkeys(self.parts(), counts / self.n)
        if self.policy in ("all", "fixed"):
            return {name: counts for name in self.parts() if self.policy == "all" or name == "0"}
        turn = (cells.state or {}).get("turn", jnp.zeros(()))
        if self.policy == "random" and key is not None:
            turn = jax.random.randint(key, (), 0, self.n)
        return {name: jnp.where(turn == int(name), counts, 0.0) for name in self.parts()}


@record
class ReferencePair(Compound):
    """A device against a reference cell that pulses do not reach: g - g_reference.

    Attributes:
      device: that pulses reach.
      reference: the reference cell, virgin until `zero` or its own programming sets it; `None` for another cell of
        `device`. A spec without spread makes a column of equal cells, as a shared reference is.
    """

    device: Device = leaf()
    reference: Device | None = leaf(default=None)

    def parts(self, cells: Cells | None = None) -> dict[str, tuple[Device, Any]]:
        """Return the device and, subtracted, the reference."""
        reference = self.device if self.reference is None else self.reference
        return {"device": (self.device, 1.0), "reference": (reference, -1.0)}

    def split(self, cells: Cells, target: Array) -> dict[str, Array]:
        """Return the target of the device [S], above its reference."""
        reference = self.parts()["reference"][0]
        return {"device": target + reference.conductance(_of(cells, "reference"))}

    def route(self, key: Array | None, cells: Cells, counts: Array) -> dict[str, Array]:
        """Return all pulses for the device."""
        return {"device": counts}

    def reset(self, key: Array | None, cells: Cells, where: Array | bool = True) -> Cells:
        """Return the cells with their devices erased `where` this is true; references stay."""
        parts = self._parts_of(cells)
        return cells.replace(parts=parts | {"device": self.device.reset(key, parts["device"], where)}, target=None)

    def _window(self) -> tuple[Any, Any]:
        # against the reference as it is made
        reference = self.parts()["reference"][0]
        level = reference.conductance(reference.fabricate(None, ()))
        return self.device.g_min - level, self.device.g_max - level

    def zero(self, key: Array | None, cells: Cells) -> Cells:
        """Return cells whose references are programmed to what the devices read at their symmetry points.

        Source: zero-shifting, Kim et al., arXiv:1907.10228 (2019).
        """
        device, parts = self.device, self._parts_of(cells)
        if not isinstance(device, StepResponse):
            device.symmetry_point(parts["device"])  # says which devices have one
            raise TypeError(f"ReferencePair.zero needs a step-response device; got {type(device).__name__}")
        return self.level(key, cells, device.at(parts["device"], device.symmetry_point(parts["device"])))

    def level(self, key: Array | None, cells: Cells, at: Cells | None = None) -> Cells:
        """Return cells whose references are programmed to what the devices read now, or would read `at` cells given."""
        parts = self._parts_of(cells)
        wanted = self.device.conductance(parts["device"] if at is None else at)
        reference = self.parts()["reference"][0]
        return cells.replace(
            parts=parts | {"reference": reference.program(key, parts["reference"], wanted)}, target=None
        )


@record
class OneSidedPair(Compound):
    """Two devices of one kind that are only ever pulsed up, for cells that cannot be pulsed down: g_plus - g_minus.

    Pulses up go to `plus`, pulses down go up on `minus`. Both fill in time; `refresh` erases pairs that are full and
    writes their difference anew, to what `program` can do.
    Source: Burr et al., IEDM 2014; Nandakumar et al., Front. Neurosci. 14:406 (2020).

    Attributes:
      device: the kind.
      upper: share of the window above which the larger of the two counts as full.
      lower: share of the window that the smaller must exceed for a refresh to make room.
    """

    device: Device = leaf()
    upper: Array | float = leaf(default=0.75, ge=0)
    lower: Array | float = leaf(default=0.25, ge=0)

    def check(self) -> None:
        """Check that erasing a device makes room."""
        spec = self.device
        if isinstance(spec, StepResponse) and all(_check.is_concrete(x) for x in jax.tree.leaves(self)):
            rest, low, high = (np.asarray(x) for x in (spec.rest, spec.x_min, spec.x_max))
            if not np.all((rest - low) / (high - low) < np.asarray(self.lower)):
                raise ValueError(
                    f"OneSidedPair.device must be erased to less than lower={self.lower} of its window, for a refresh"
                    f" to make room; got rest={spec.rest} between x_min={spec.x_min} and x_max={spec.x_max}"
                )

    def parts(self, cells: Cells | None = None) -> dict[str, tuple[Device, Any]]:
        """Return the two devices, the second subtracted."""
        return {"plus": (self.device, 1.0), "minus": (self.device, -1.0)}

    def split(self, cells: Cells, target: Array) -> dict[str, Array]:
        """Return the targets [S]: one device carries the magnitude, the other is at the bottom of its window."""
        low = self.device.g_min
        return {"plus": low + jnp.maximum(target, 0.0), "minus": low + jnp.maximum(-target, 0.0)}

    def route(self, key: Array | None, cells: Cells, counts: Array) -> dict[str, Array]:
        """Return pulses up for either device, by the sign."""
        return {"plus": jnp.maximum(counts, 0.0), "minus": jnp.maximum(-counts, 0.0)}

    def full(self, cells: Cells) -> Array:
        """Return which pairs are due for a refresh."""
        parts = self._parts_of(cells)
        shares = [(self.device.conductance(parts[n]) - self.device.g_min) / self.device.window for n in parts]
        return (jnp.maximum(*shares) > self.upper) & (jnp.minimum(*shares) > self.lower)

    def refresh(self, key: Array | None, cells: Cells, where: Array | None = None) -> Cells:
        """Return the cells with full pairs erased and their differences programmed anew.

        Args:
          key: random key, or `None` for the mean.
          cells: the cells.
          where: the pairs to refresh; `None` for those that are `full`.
        """
        erasing, writing = (None, None) if key is None else jax.random.split(key)
        where = self.full(cells) if where is None else where
        before = self._parts_of(cells)
        difference = self.conductance(cells)
        erased = self._each(erasing, lambda n, part, k: part.reset(k, before[n], where))
        bottom = {n: self.device.conductance(erased[n]) for n in erased}
        wanted = {
            "plus": jnp.where(difference > 0, bottom["minus"] + difference, bottom["plus"]),
            "minus": jnp.where(difference < 0, bottom["plus"] - difference, bottom["minus"]),
        }

        def write(name: str, part: Device, key: Array | None) -> Cells:
            # waiting realises the state
            written = part.wait(None, part.program(key, erased[name], wanted[name]), 0.0)
            writes = where & ((difference > 0) if name == "plus" else (difference < 0))
            return _where(writes, written, erased[name])

        return cells.replace(parts=self._each(writing, write), target=None)


@record
class Significance(Compound):
    """Two cells of different significance: `factor` g_high + polarity g_low.

    Pulses reach the low cell only, which is fast and even but may leak; from time to time `transfer` moves what it
    holds to the high cell. With `invert` the low cell enters with the other sign after each transfer: pulses are then
    sent with the other sign too, so that an asymmetry of the low cell pushes the sum the other way and cancels.
    What the low cell cannot hold of a transfer is lost: choose windows with room for the programming noise of the high
    cell, F times. Cells of three and more significances are nested.
    Source: Ambrogio et al., Nature 558:60 (2018), 2 PCM + 3T1C.

    Attributes:
      high: the more significant cell, such as a `OneSidedPair` of phase-change memory.
      low: the less significant cell, such as a `ReferencePair` of capacitors; with a window on both sides of zero.
      factor: significance F of the high cell.
      invert: whether the polarity of the low cell changes at each transfer.
    """

    high: Device = leaf()
    low: Device = leaf()
    factor: Array | float = leaf(default=3.0, gt=0)
    invert: bool = static(default=True, choices=(False, True))

    def fabricate(self, key: Array | None, shape: tuple[int, ...]) -> Cells:
        """Manufacture the cells of both significances; the low ones enter with a plus."""
        return super().fabricate(key, shape).replace(state={"polarity": jnp.ones(shape)})

    def polarity(self, cells: Cells | None) -> Any:
        """Return the sign with which the low cell enters."""
        return 1.0 if cells is None else (cells.state or {}).get("polarity", 1.0)

    def parts(self, cells: Cells | None = None) -> dict[str, tuple[Device, Any]]:
        """Return the cells, the high one by its factor, the low one by its polarity."""
        return {"high": (self.high, self.factor), "low": (self.low, self.polarity(cells))}

    def split(self, cells: Cells, target: Array) -> dict[str, Array]:
        """Return the targets [S]: the high cell takes what it can hold, the low one what is then found missing."""
        most = jnp.clip(target / self.factor, self.high.g_min, self.high.g_max)
        held = self.high.conductance(_of(cells, "high").aimed(most))
        return {"high": most, "low": self.polarity(cells) * (target - self.factor * held)}

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] of programming: that of the low cell, which takes up the high one's."""
        return self.low.programming_noise(jnp.zeros_like(target))

    def route(self, key: Array | None, cells: Cells, counts: Array) -> dict[str, Array]:
        """Return all pulses for the low cell, by its polarity."""
        return {"low": self.polarity(cells) * counts}

    def transfer(self, key: Array | None, cells: Cells, time: Array | float = 0.0, where: Array | bool = True) -> Cells:
        """Read the cells and write what they hold to the high part, closed loop: the low part keeps what is missing.

        Args:
          key: random key, or `None` for the mean.
          cells: the cells.
          time: seconds since the last touch, at which they are read.
          where: the cells to transfer.
        """
        reading, writing = (None, None) if key is None else jax.random.split(key)
        held = self.read(reading, cells, time)
        sign = self.polarity(cells)
        turned = cells.replace(state={"polarity": jnp.broadcast_to(-sign if self.invert else sign, held.shape)})
        written = self.wait(None, self.program(writing, turned, held), 0.0)  # waiting realises the states
        return _where(where, written, self.wait(None, cells, 0.0))


@record
class Residual(Compound):
    """Two cells for one weight, a fast one that pulses reach and a slow one to which an optimiser carries it over.

    With both counted in shares of their windows the weight is slow + gamma c fast. Where gamma = 0 the fast cell is
    hidden, and only gathers gradients. Its chopper c = +-1 is the sign with which it enters, and with which pulses
    reach it. Optimisers of `anajax.optim` read the fast cells and pulse the slow ones. Nested, `fast` being a
    `Residual` too, each cell learns what those before it leave over.
    Source: Gokmen & Haensch, Front. Neurosci. 14:103 (2020); Rasch et al., Nat. Commun. 15:7133 (2024), choppers;
    Wu et al., arXiv:2502.06309 (2025), residual learning.

    Attributes:
      slow: cell of the weight; with a window on both sides of zero, such as a `ReferencePair`.
      fast: cell of the gradient; with a window on both sides of zero.
      gamma: share of the fast cell in the weight.
    """

    slow: Device = leaf()
    fast: Device = leaf()
    gamma: Array | float = leaf(default=0.0, ge=0)

    def check(self) -> None:
        """Check that both cells have a sign."""
        for name in ("slow", "fast"):
            low = getattr(self, name).g_min
            if _check.is_concrete(low) and not np.all(np.asarray(low) < 0):
                raise ValueError(
                    f"Residual.{name} must be a cell whose conductance has a sign, such as ReferencePair(device=...);"
                    f" got {type(getattr(self, name)).__name__} with g_min={low} S"
                )

    def fabricate(self, key: Array | None, shape: tuple[int, ...]) -> Cells:
        """Manufacture both cells; the fast ones enter with a plus."""
        return super().fabricate(key, shape).replace(state={"chopper": jnp.ones(shape)})

    def chopper(self, cells: Cells | None) -> Any:
        """Return the sign with which the fast cell enters."""
        return 1.0 if cells is None else (cells.state or {}).get("chopper", 1.0)

    def parts(self, cells: Cells | None = None) -> dict[str, tuple[Device, Any]]:
        """Return the cells, the fast one by its share and its chopper."""
        share = self.gamma * self.slow.g_max / self.fast.g_max
        return {"slow": (self.slow, 1.0), "fast": (self.fast, share * self.chopper(cells))}

    def split(self, cells: Cells, target: Array) -> dict[str, Array]:
        """Return the targets [S]: the slow cell takes it all, the fast one is zeroed."""
        return {"slow": target, "fast": jnp.zeros_like(target)}

    def route(self, key: Array | None, cells: Cells, counts: Array) -> dict[str, Array]:
        """Return all pulses for the fast cell, by its chopper."""
        return {"fast": self.chopper(cells) * counts}

    def _window(self) -> tuple[Any, Any]:
        return self.slow.g_min, self.slow.g_max  # in which weights are written
