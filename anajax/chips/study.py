"""Studies: a figure of merit over chips, times and swept hardware, as an `xarray.Dataset`."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from anajax import _check
from anajax._record import get, replaced
from anajax.arrays import Hardware
from anajax.chips import running
from anajax.chips._folder import digest
from anajax.chips._provenance import fields, fingerprint, provenance, versions
from anajax.chips.designs import Design, checked_size, grid
from anajax.chips.ensemble import accuracy
from anajax.nn import Apply


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What is asked: how a model fares on many chips, as they age, at several points of the hardware.

    Chip i depends on `(seed, i)` alone, so that all points, and all studies of one seed, see the same chips.

    Attributes:
      apply: from `anajax.nn.split`.
      params: parameters.
      hardware: one `Hardware`, or `{name: Hardware}`.
      x: test inputs, `[n, ...]`.
      y: what `metric` compares the outputs with, `[n, ...]`.
      chips: number of chips.
      times: seconds since programming, each >= 0.
      seed: of the chips.
      sweep: `{dotted path of a float field of the hardware: values}`, all combinations; or a design, such as `points`
        or `sobol`.
      metric: `metric(outputs, y) -> scalar`; its name becomes that of the variable.
      rest: Flax's other state (batch statistics), if not that of the model at `split`.
    """

    apply: Apply
    params: Any
    hardware: Any
    x: Any
    y: Any
    chips: int = 100
    times: Sequence[float] = (0.0,)
    seed: int = 0
    sweep: Mapping[str, Sequence[float]] | Design | None = None
    metric: Callable[[Array, Array], Array] = accuracy
    rest: Any = None

    def __post_init__(self) -> None:
        """Check everything that can be known before any work is done."""
        _check.integer(self.chips, "chips", ge=1)
        _checked_times(self.times)
        if not isinstance(self.apply, Apply):
            raise TypeError(f"apply must be from anajax.nn.split; got {type(self.apply).__name__}")
        if not callable(self.metric):
            raise TypeError(f"metric must be a function metric(outputs, y); got {self.metric!r}")
        if not isinstance(self.sweep, Mapping | Design | None):
            raise TypeError(f"sweep must be a dictionary of fields and values, or a design; got {self.sweep!r}")
        for name, spec in self.hardware.items() if isinstance(self.hardware, dict) else [("hardware", self.hardware)]:
            if not isinstance(spec, Hardware):
                raise TypeError(f"{name} must be a Hardware; got {spec!r}")
        _checked_data(self.x, self.y)
        for path in self.design.fields:
            now = get(self.hardware, path)
            if not isinstance(now, (jax.Array, np.ndarray)) or now.ndim:
                raise ValueError(f"sweep of {path!r} must name a number of the hardware; it is {now!r}")
        checked_size(len(self.design) * self.chips * len(self.times))
        for k in _ends(self.design.values):
            try:
                self.at(int(k))  # values that the hardware refuses are named before anything runs
            except ValueError as error:
                raise ValueError(f"sweep of {', '.join(self.design.fields)}: {error}") from error

    @functools.cached_property
    def design(self) -> Design:
        """The points, at least one."""
        return self.sweep if isinstance(self.sweep, Design) else grid(self.sweep or {})

    def at(self, k: int) -> Any:
        """Return the hardware at point `k`."""
        return replaced(self.hardware, self.design.point(k))

    def describe(self) -> dict[str, Any]:
        """Return what the results depend on, as text and fingerprints."""
        return {
            "seed": self.seed,
            "chips": self.chips,
            "times": [float(t) for t in self.times],
            "sweep": {path: self.design.values[:, k].tolist() for k, path in enumerate(self.design.fields)},
            "metric": _name(self.metric),
            # whatever is computed, by model, metric, settings of the hardware and of JAX
            "program": digest(running.lowered(self).as_text().encode()),
            "hardware": {name: _shown(leaf) for name, leaf in fields(self.hardware)},
            "params": fingerprint(self.params),
            "rest": fingerprint(self.rest),
            "x": fingerprint(self.x),
            "y": fingerprint(self.y),
            "versions": versions(),
            "platform": jax.devices()[0].device_kind,
        }

    def run(
        self,
        *,
        folder: str | Path | None = None,
        chunk: int | None = None,
        devices: int | Sequence[Any] | None = None,
        progress: bool | str = False,
    ) -> xr.Dataset:
        """Return the results; nothing of how it is run changes them.

        Several processes of `jax.distributed` share the work, chunk by chunk; all get the results.

        Args:
          folder: where whole chunks are kept, so that a study that was stopped goes on where it was; `None` keeps none.
            Processes on several machines need one that all can see, or none.
          chunk: chips of one call of the compiled program, and of one file.
          devices: of this process, or how many of them, over which the chips of a chunk are spread; all by default.
          progress: whether to show a bar, or its label.

        Returns:
          A dataset with the variable `accuracy` (or the metric's name) over `chip`, `time` and the swept fields (or
          `point`, with the fields as its coordinates), and the description in its attributes.
        """
        values = running.results(self, folder=folder, chunk=chunk, devices=devices, progress=progress)
        return self._dataset(values)

    def estimate(self, *, chunk: int | None = None, devices: int | Sequence[Any] | None = None) -> running.Estimate:
        """Return the memory and time that `run` will take, from one chip at the first point.

        Args:
          chunk: see `run`.
          devices: see `run`.
        """
        return running.estimate(self, chunk, devices)

    def _dataset(self, values: np.ndarray) -> xr.Dataset:
        design, n, times = self.design, self.chips, np.asarray(self.times, float)
        coords: dict[str, Any] = {"chip": np.arange(n), "time": ("time", times, {"units": "s"})}
        if design.shape is None:
            dims = ["point", "chip", "time"]
            coords |= {path: ("point", design.values[:, k]) for k, path in enumerate(design.fields)}
        else:
            dims = [*design.fields, "chip", "time"]
            values = values.reshape(*design.shape, n, len(times))
            coords |= {path: (path, _axis(design, k)) for k, path in enumerate(design.fields)}
        attrs = provenance(self.hardware) | {"seed": self.seed, "examples": int(jax.tree.leaves(self.y)[0].shape[0])}
        attrs |= {name: fingerprint(getattr(self, name)) for name in ("params", "rest", "x", "y")}
        return xr.Dataset({_name(self.metric): (dims, values, {"units": "1"})}, coords=coords, attrs=attrs)


def evaluate(
    apply: Apply,
    params: Any,
    hardware: Any,
    x: Any,
    y: Any,
    *,
    chips: int = 100,
    times: Sequence[float] = (0.0,),
    seed: int = 0,
    sweep: Mapping[str, Sequence[float]] | Design | None = None,
    metric: Callable[[Array, Array], Array] = accuracy,
    rest: Any = None,
    folder: str | Path | None = None,
    chunk: int | None = None,
    devices: int | Sequence[Any] | None = None,
    progress: bool | str = False,
) -> xr.Dataset:
    """Program a model onto many chips, let them age, and measure each: a `Study`, run at once.

    Chips are made one after the other inside the compiled program, so memory does not grow with their
    number. All points of a sweep, and all calls with one seed, see the same chips.

    Args:
      apply: from `anajax.nn.split`.
      params: parameters.
      hardware: one `Hardware`, or `{name: Hardware}`.
      x: test inputs, `[n, ...]`.
      y: what `metric` compares the outputs with, `[n, ...]`.
      chips: number of chips.
      times: seconds since programming, each >= 0.
      seed: chip i depends on (seed, i) alone.
      sweep: dotted path of a float field of the hardware -> its values; several fields make a grid; or a design.
      metric: `metric(outputs, y) -> scalar`; its name becomes that of the variable.
      rest: Flax's other state (batch statistics), if not that of the model at `split`.
      folder: where to keep what is done, to go on with after a stop; see `Study.run`.
      chunk: chips of one call of the compiled program; changes no result.
      devices: over which chips are spread; all of this process by default.
      progress: whether to show a bar, or its label.

    Returns:
      A dataset with the variable `accuracy` (or the metric's name) over `chip`, `time` and the swept
      fields, and the description in its attributes.
    """
    study = Study(
        apply=apply,
        params=params,
        hardware=hardware,
        x=x,
        y=y,
        chips=chips,
        times=times,
        seed=seed,
        sweep=sweep,
        metric=metric,
        rest=rest,
    )
    return study.run(folder=folder, chunk=chunk, devices=devices, progress=progress)


def _checked_times(times: Any) -> None:
    try:
        seconds = np.asarray(times, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"times must be numbers of seconds; got {times!r}") from error
    if seconds.ndim != 1 or not seconds.size:
        raise ValueError(f"times must be a list of at least one number of seconds; got {times!r}")
    _check.in_range(seconds, "times", ge=0)
    _check.finite(seconds, "times")
    if len(np.unique(seconds)) < seconds.size:
        raise ValueError(f"times must not repeat a value; got {times!r}")


def _checked_data(x: Any, y: Any) -> None:
    sizes = {}
    for name, tree in (("x", x), ("y", y)):
        leaves = jax.tree.leaves(tree)
        if not leaves or any(not np.ndim(leaf) for leaf in leaves):
            raise ValueError(f"{name} must be arrays [n, ...]; got {tree!r}")
        sizes |= {f"{name}{k or ''}": np.shape(leaf)[0] for k, leaf in enumerate(leaves)}
        for leaf in leaves:
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                _check.finite(leaf, name)
    if len(set(sizes.values())) > 1:
        raise ValueError(f"x and y must have as many examples; got {', '.join(f'{n}: {k}' for n, k in sizes.items())}")


def _ends(values: np.ndarray) -> np.ndarray:
    """Return the points at which some field is least or largest; all of a short list."""
    if len(values) <= 1000 or not values.shape[1]:
        return np.arange(min(len(values), 1000))
    return np.unique([values.argmin(axis=0), values.argmax(axis=0)])


def _name(metric: Any) -> str:
    return getattr(metric, "__name__", "metric")


def _axis(design: Design, k: int) -> np.ndarray:
    """Return the values of field `k` of a grid, in its order."""
    shape = design.shape or ()
    return design.values[:: math.prod(shape[k + 1 :]), k][: shape[k]]


def _shown(leaf: Any) -> Any:
    return float(leaf) if np.ndim(leaf) == 0 else fingerprint(leaf)
