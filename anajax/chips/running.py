"""How studies run: chunk by chunk, over devices and processes, kept in a folder."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from anajax import _check
from anajax.chips._folder import Folder
from anajax.chips.ensemble import keys

if TYPE_CHECKING:
    from anajax.chips.study import Study


def results(
    study: Study,
    *,
    folder: str | Path | None,
    chunk: int | None,
    devices: int | Sequence[Any] | None,
    progress: bool | str,
) -> np.ndarray:
    """Return what every chip measures, `[points, chips, times]`."""
    mesh, size = mesh_of(devices), chunk_of(study, chunk)
    kept = None if folder is None else Folder(folder, study.describe() | {"chunk": size})
    run = program(study, mesh)
    found = np.full((len(study.design), study.chips, len(study.times)), np.nan, jnp.result_type(float))
    tasks = [(k, first) for k in range(len(study.design)) for first in range(0, study.chips, size)]
    for task in _shown(tasks[jax.process_index() :: jax.process_count()], found, size, progress):
        k, first = task
        last = min(first + size, study.chips)
        part = None if kept is None else kept.take(_named(task))
        if part is None or part.shape != (last - first, len(study.times)):
            index = np.minimum(np.arange(first, first + _up(size, mesh.size)), study.chips - 1)
            part = np.asarray(run(study.at(k), jnp.asarray(index, jnp.uint32)))[: last - first]
            if part.ndim != 2:
                raise ValueError(f"metric must return a scalar; got an array of shape {part.shape[2:]}")
            if kept is not None:
                kept.put(_named(task), part)
        found[k, first:last] = part
    return found if jax.process_count() == 1 else _gathered(found, tasks, size)


class Estimate(NamedTuple):
    """What a study will take, from one chip of it.

    Attributes:
      chips: to be measured.
      points: at each of which they are.
      memory: bytes of the compiled program, its arguments and the results, without those of Python and of compiling.
      compiling: seconds, once.
      running: seconds, if devices do not share their cores.
    """

    chips: int
    points: int
    memory: int
    compiling: float
    running: float

    def __str__(self) -> str:
        at = f" at {self.points:,} points" if self.points > 1 else ""
        return (
            f"{self.chips:,} chips{at} in about {_span(self.running)}, after {_span(self.compiling)} of compiling;"
            f" {self.memory / 1e6:,.0f} MB for the program and its results"
        )


def estimate(study: Study, chunk: int | None, devices: int | Sequence[Any] | None) -> Estimate:
    """Compile the program for one chip, and time it."""
    start = time.perf_counter()
    one, args = lowered(study).compile(), _arguments(study)
    compiling = time.perf_counter() - start
    jax.block_until_ready(one(*args))  # what is done but once is not counted
    start = time.perf_counter()
    jax.block_until_ready(one(*args))
    each = time.perf_counter() - start
    sizes = one.memory_analysis()
    program_size = sum(getattr(sizes, f"{part}_size_in_bytes") for part in ("temp", "argument", "generated_code"))
    workers, size = mesh_of(devices).size, chunk_of(study, chunk)
    rounds = sum(-(-min(size, study.chips - first) // workers) for first in range(0, study.chips, size))
    points = len(study.design)
    results_size = points * study.chips * len(study.times) * args[4].dtype.itemsize
    running = points * rounds * each
    return Estimate(study.chips, points, workers * program_size + results_size, compiling, running)


def lowered(study: Study) -> Any:
    """Return the program of one chip, before it is compiled."""
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)), _arguments(study))
    return measured.lower(study.apply, study.metric, *shapes)


def _arguments(study: Study) -> tuple[Any, ...]:
    x, y = jax.tree.map(jnp.asarray, (study.x, study.y))
    times = jnp.asarray(study.times, jnp.result_type(float))
    return study.params, study.at(0), x, y, times, jax.random.key(study.seed), study.rest, jnp.zeros(1, jnp.uint32)


def chunk_of(study: Study, chunk: int | None) -> int:
    """Return the chips of one call: by default a twentieth, but at least 64, so that devices are seldom idle."""
    if chunk is not None:
        _check.integer(chunk, "chunk", ge=1)
    return min(study.chips, chunk or _up(math.ceil(study.chips / 20), 64))


def _span(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def program(study: Study, mesh: Mesh) -> Any:
    """Return `run(hardware, indices)`, the chips of the indices spread over the mesh."""
    params, _, *others, _ = _arguments(study)
    if mesh.size == 1 and mesh.devices[0] == jax.local_devices()[0]:
        return lambda hardware, index: measured(study.apply, study.metric, params, hardware, *others, index)
    spread = NamedSharding(mesh, PartitionSpec("chips"))
    args = jax.device_put((params, *others), NamedSharding(mesh, PartitionSpec()))
    each = _spread(study.apply, study.metric, mesh)

    def run(hardware: Any, index: Array) -> Array:
        hardware = jax.device_put(hardware, NamedSharding(mesh, PartitionSpec()))
        return each(hardware, *args, jax.device_put(index, spread))

    return run


@functools.partial(jax.jit, static_argnames=("apply", "metric"))
def measured(apply, metric, params, hardware, x, y, times, seed, rest, index):
    """Evaluate the chips of `index` at all times: `[chips, times]`."""

    def chip_at_times(i: Array) -> Array:
        made, read = keys(seed, i)
        chip = apply.program(made, params, hardware)

        def at(part: tuple[Array, Array]) -> Array:
            k, seconds = part
            outputs = apply(
                params,
                hardware,
                x,
                key=jax.random.fold_in(read, k),
                time=seconds,
                chip=chip,
                rest=rest,
                train=False,
            )
            return metric(outputs, y)

        return jax.lax.map(at, (jnp.arange(times.shape[0]), times))

    return jax.lax.map(chip_at_times, index)


@functools.cache
def _spread(apply: Any, metric: Any, mesh: Mesh) -> Any:
    """Return `measured` for a chunk that is spread over devices, which have nothing to tell each other."""

    def one(hardware: Any, params: Any, x: Any, y: Any, times: Any, seed: Any, rest: Any, index: Any) -> Any:
        return measured(apply, metric, params, hardware, x, y, times, seed, rest, index)

    alike, chips = PartitionSpec(), PartitionSpec("chips")
    return jax.jit(jax.shard_map(one, mesh=mesh, in_specs=(*(alike,) * 7, chips), out_specs=chips, check_vma=False))


def mesh_of(devices: int | Sequence[Any] | None) -> Mesh:
    """Return a mesh of devices of this process."""
    own = jax.local_devices()
    if isinstance(devices, int):
        if not 1 <= devices <= len(own):
            raise ValueError(f"devices must be from 1 to {len(own)}, as many as this process has; got {devices}")
        own = own[:devices]
    elif devices is not None:
        own = list(devices)
        if not own:
            raise ValueError("devices must name at least one; got none")
    return Mesh(np.array(own), ("chips",), axis_types=(jax.sharding.AxisType.Auto,))


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _named(task: tuple[int, int]) -> str:
    return f"point{task[0]:06d}-chip{task[1]:08d}"


def _gathered(found: np.ndarray, tasks: list[tuple[int, int]], size: int) -> np.ndarray:
    """Return what all processes have found, each its own tasks."""
    from jax.experimental import multihost_utils

    every = np.asarray(multihost_utils.process_allgather(found))
    for i, (k, first) in enumerate(tasks):
        found[k, first : first + size] = every[i % len(every), k, first : first + size]
    return found


def _shown(tasks: list, found: np.ndarray, size: int, progress: bool | str) -> Iterator[Any]:
    """Yield the tasks, with a bar that says how fast it goes and what the chips so far have come to."""
    if not progress:
        yield from tasks
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[rate]}")) as bars:
        label = progress if isinstance(progress, str) else "chips"
        bar = bars.add_task(label, total=sum(min(size, found.shape[1] - first) for _, first in tasks), rate="")
        start, done, total = time.perf_counter(), 0, 0.0
        for k, first in tasks:
            yield k, first
            part = found[k, first : first + size]
            done += part.size
            total += float(part.sum())
            rate = done / found.shape[2] / (time.perf_counter() - start)
            bars.update(bar, advance=len(part), rate=f"{rate:.3g} chips/s, mean so far {total / done:.4f}")
