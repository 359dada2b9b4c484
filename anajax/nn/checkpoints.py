"""Trained parameters, and any other pytree of arrays, as orbax checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def save(tree: Any, folder: str | Path) -> Path:
    """Write a pytree of arrays as an orbax checkpoint, whole or not at all; return its folder.

    Args:
      tree: parameters, in-situ cells, states of optimisers, random keys, or a dictionary of several of them.
      folder: new; one that exists is refused.
    """
    import orbax.checkpoint as ocp

    folder = Path(folder).resolve()
    if folder.exists():
        raise FileExistsError(f"folder {folder} exists already; take a new one")
    with ocp.StandardCheckpointer() as writer:
        writer.save(folder, {name: _data(leaf) for name, leaf in _named(tree).items()})
    return folder


def load(folder: str | Path, like: Any) -> Any:
    """Read what `save` has written, into the structure of `like`.

    Args:
      folder: of the checkpoint.
      like: a pytree with the structure, shapes and kinds of what was saved, such as the parameters before training.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: it is not whole, or of something else than `like`; the error names what differs.
    """
    import orbax.checkpoint as ocp

    folder, wanted = Path(folder).resolve(), _named(like)
    if not folder.exists():
        raise FileNotFoundError(f"no checkpoint at {folder}")
    with ocp.StandardCheckpointer() as reader:
        try:
            there = {name: _kind(m) for name, m in reader.metadata(folder).item_metadata.items()}
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{folder} is not a whole checkpoint: {error}") from error
        here = {name: _kind(_data(leaf)) for name, leaf in wanted.items()}
        differ = [n for n in dict.fromkeys([*there, *here]) if there.get(n) != here.get(n)]
        if differ:
            shown = "; ".join(f"{n}: {there.get(n, 'absent')} there, {here.get(n, 'absent')} here" for n in differ[:5])
            raise ValueError(f"checkpoint {folder} is of something else ({shown})")
        shapes = {n: jax.ShapeDtypeStruct(_data(a).shape, _data(a).dtype) for n, a in wanted.items()}
        try:
            read = reader.restore(folder, shapes)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder} is not a whole checkpoint: {error}") from error
    leaves = [_like(read[name], leaf) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype)}[{','.join(map(str, leaf.shape))}]"


def is_key(leaf: Any) -> bool:
    """Return whether a leaf is a random key."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _like(read: Array, leaf: Any) -> Any:
    return jax.random.wrap_key_data(read, impl=jax.random.key_impl(leaf)) if is_key(leaf) else read
