"""What all in-situ optimisers share: to find the crossbars of a model, and to return updates that lead to new ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._random import fold_read
from anajax.arrays import Crossbar, Hardware
from anajax.devices import Device, Residual
from anajax.nn.analog import Conductance


def by_name(hardware: Hardware | dict[str, Hardware], name: str) -> Hardware:
    """Return the hardware of a layer."""
    if not isinstance(hardware, dict):
        return hardware
    if name not in hardware:
        raise ValueError(f"hardware must have an entry for layer {name!r}; got {', '.join(hardware)}")
    return hardware[name]


def key_of(key: Array | None, name: str) -> Array | None:
    """Return the key of a layer for one update."""
    return None if key is None else fold_read(key, zlib.crc32(name.encode()))


def checked_params(params: Any, name: str) -> Any:
    """Return the parameters, which an optimiser of pulses needs; raise where there are none."""
    if params is None:
        raise ValueError(f"{name} needs params: call update(grads, state, params)")
    return params


def is_hidden(device: Device) -> bool:
    """Return whether the fastest cells of a weight are known to have no share in it."""
    # by NumPy: under jit, jnp would make a tracer even of a number that is known
    return isinstance(device, Residual) and _check.is_concrete(device.gamma) and not np.any(np.asarray(device.gamma))


def seen_by_pulses(hardware: Hardware | dict[str, Hardware], params: Any, optimiser: str) -> None:
    """Raise where the cells that pulses reach have no share in the weights: no rate would move these."""
    for name, _ in flat(params)[0]:
        device = by_name(hardware, name).device
        if is_hidden(device):
            raise ValueError(
                f"{optimiser} pulses cells that are part of the weight, and those of layer {name!r} are hidden:"
                " Residual.gamma must be greater than 0; got 0. Optimisers that transfer, such as tiki_taka_v2, take it"
            )


def _is_conductance(x: Any) -> bool:
    return isinstance(x, Conductance)


def flat(params: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Return `(name, Conductance)` of all parameters, and the structure to put them back; raise for others."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_conductance)
    named = []
    for path, leaf in leaves:
        if not _is_conductance(leaf):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} does not live in conductances: optimisers of pulses take models of"
                " anajax.nn.in_situ; route other parameters elsewhere, by anajax.optim.partition"
            )
        named.append((_name(path), leaf))
    if not named:
        raise ValueError("params has no conductances: make the model one that lives in them, by anajax.nn.in_situ")
    return named, treedef


def _name(path: Any) -> str:
    return ".".join(str(getattr(k, "key", k)) for k in path[:-1]) or "self"


def on_crossbars(f: Callable[[str, Crossbar], Crossbar], params: Any) -> Any:
    """Return parameters with every crossbar replaced by `f(name, crossbar)`, and all else as it is."""

    def one(path: Any, leaf: Any) -> Any:
        return leaf.replace(f(_name(path), leaf.get_value())) if _is_conductance(leaf) else leaf

    return jax.tree_util.tree_map_with_path(one, params, is_leaf=_is_conductance)


def by_crossbar(f: Callable[[str, Crossbar, Any], Crossbar], params: Any, grads: Any) -> Any:
    """Return the updates that lead from every crossbar to `f(name, crossbar, what it was told)`."""
    now, treedef = flat(params)
    told = [leaf.get_value() for _, leaf in flat(grads)[0]]
    updates = []
    for (name, leaf), gradient in zip(now, told, strict=True):
        before = leaf.get_value()
        after = f(name, before, gradient.seen)
        updates.append(leaf.replace(jax.tree.map(jnp.subtract, after, before)))
    return treedef.unflatten(updates)
