"""Ensembles of chips: describe them, make them one at a time, map over them.

Chip `i` depends on `(seed, i)` alone: not on how many there are, in which chunks they run, or on its
neighbours. A thousand chips are a description; nobody holds them.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from anajax.nn import ChipState, program


def keys(seed: int | Array, i: int | Array) -> tuple[Array, Array]:
    """Return the two keys of chip `i`: one to make it with, one for the noise of its reads."""
    key = jax.random.fold_in(seed if isinstance(seed, jax.Array) else jax.random.key(seed), i)
    made, read = jax.random.split(key)
    return made, read


def one(seed: int | Array, i: int | Array, model: nnx.Module) -> ChipState:
    """Make chip `i` of a seed.

    Args:
      seed: integer, or a random key.
      i: index of the chip, >= 0; may be traced.
      model: a model with analog layers, for the shapes and the kind of device.

    Returns:
      `{name: Tile}`, to be passed to `apply(..., chip=...)`.
    """
    return program(keys(seed, i)[0], model)


@dataclasses.dataclass(frozen=True)
class Chips:
    """A description of `n` chips; see `fabricate`."""

    seed: int
    model: nnx.Module
    n: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> ChipState:
        if not -self.n <= i < self.n:
            raise IndexError(f"chip index must be from 0 to {self.n - 1}; got {i}")
        return one(self.seed, i % self.n, self.model)

    def __repr__(self) -> str:
        return f"Chips(n={self.n}, seed={self.seed}, model={type(self.model).__name__})"


def fabricate(seed: int, model: nnx.Module, n: int) -> Chips:
    """Describe `n` chips of a model; each is made where it is used.

    Args:
      seed: integer seed.
      model: a model with analog layers.
      n: number of chips, >= 1.

    Example:
      >>> import anajax
      >>> from flax import nnx
      >>> layer = anajax.nn.Linear(3, 2, hardware=anajax.presets.standard_aimc(), rngs=nnx.Rngs(0))
      >>> chips = anajax.chips.fabricate(0, layer, 1000)
      >>> anajax.chips.map(lambda chip, key: chip["self"].cells.scores["drift"].mean(), chips).shape
      (1000,)
    """
    if n < 1:
        raise ValueError(f"n must be at least 1 chip; got {n}")
    return Chips(seed, model, n)


def map(
    f: Callable[[ChipState, Array], Any],
    chips: Chips,
    *,
    chunk: int | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Any:
    """Return `f(chip, key)` of every chip, stacked.

    Args:
      f: a function that can be compiled, of a chip and the key for its reads.
      chips: from `fabricate`.
      chunk: how many chips run in one call of the compiled program; what is in memory is the results of
        a chunk. Changes no result.
      batch_size: how many chips run side by side (`vmap`); one after the other by default, which on a CPU
        is as fast, and keeps every bit the same whatever the chunk.
      progress: whether to show a bar.

    Returns:
      What `f` returns, NumPy arrays with a leading axis of chips.
    """
    run = jax.jit(
        lambda index: jax.lax.map(
            lambda i: f(one(chips.seed, i, chips.model), keys(chips.seed, i)[1]), index, batch_size=batch_size
        )
    )
    return run_chunks(run, chips.n, chunk=chunk, progress="chips" if progress else None)


def run_chunks(run: Callable[[Array], Any], n: int, *, chunk: int | None, progress: str | None) -> Any:
    """Return `run(indices)` for the indices up to `n`, chunk by chunk; all chunks are of one size."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1; got {chunk}")
    size = min(n, chunk or max(1, math.ceil(n / 20)))
    results = []
    for start in _track(range(0, n, size), progress):
        index = np.minimum(np.arange(start, start + size), n - 1)  # the last chunk repeats the last chip
        part = jax.tree.map(np.asarray, run(jnp.asarray(index, jnp.uint32)))
        keep = slice(min(size, n - start))
        results.append(jax.tree.map(operator.itemgetter(keep), part))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def _track(steps: range, progress: str | None) -> Any:
    if progress is None:
        return steps
    from rich.progress import track

    return track(steps, description=progress)


def accuracy(outputs: Array, labels: Array) -> Array:
    """Return the fraction of examples whose largest output, `[n, classes]`, is at the label, `[n]`."""
    return jnp.mean((jnp.argmax(outputs, axis=-1) == labels).astype(jnp.float32))
