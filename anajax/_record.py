"""The pytree record: what every spec in anajax is made of.

A record is a frozen, keyword-only dataclass registered with JAX. Its *leaves* are floating-point arrays, so
that any of them can be swept with `jax.vmap` and differentiated with `jax.grad`; its *static* fields select
code paths and shapes. `None` stands for an absent nonideality and costs nothing in the compiled program.

Numbers become float arrays, and settings are checked, when a person constructs or replaces a record; never
when JAX rebuilds one, because then the leaves may be tracers, `None`, or the integers of an `in_axes`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from anajax import _check

T = TypeVar("T")
R = TypeVar("R", bound="Record")

#: an array, or a sequence of numbers that becomes one
Numbers: TypeAlias = Any


def leaf(default: Any = dataclasses.MISSING, **allowed: float) -> Any:
    """Declare a float field. `allowed` bounds its values: `ge`, `gt`, `le`, `lt`."""
    return dataclasses.field(default=default, metadata={"allowed": allowed})


def static(default: Any = dataclasses.MISSING, *, choices: tuple[Any, ...] | None = None) -> Any:
    """Declare a static field: part of the program, not of its data. `choices` lists what is allowed."""
    return dataclasses.field(default=default, metadata={"static": True, "choices": choices})


class Record:
    """Base of all specs: a frozen keyword-only dataclass that is a pytree."""

    def replace(self: R, **changes: Any) -> R:
        """Return a copy with `changes` to its own fields, or, by dotted path, to those of its parts.

        Example:
          >>> import anajax
          >>> hw = anajax.presets.standard_aimc()
          >>> hw.replace(adc=None).adc is None
          True
          >>> float(hw.replace(**{"adc.bits": 6}).adc.bits)
          6.0
        """
        return _replace(self, changes)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            name = f"{type(self).__name__}.{f.name}"
            if f.metadata.get("static"):
                _check.is_static(value, name, f.metadata.get("choices"))
            else:
                object.__setattr__(self, f.name, as_leaf(value, name, f.metadata.get("allowed", {})))
        self.check()

    def check(self) -> None:
        """Check settings against each other; overridden where a record has such rules."""


def as_leaf(value: Any, name: str, allowed: Mapping[str, float]) -> Any:
    """Return `value` with its numbers as float arrays, checked against `allowed` where they are concrete."""
    if value is None or isinstance(value, Record):
        return value
    if isinstance(value, dict):
        return {k: as_leaf(v, f"{name}[{k!r}]", allowed) for k, v in value.items()}
    if isinstance(value, (tuple, list)) and all(isinstance(v, Record) for v in value):
        return tuple(value)
    _check.is_numeric(value, name)
    kept = isinstance(value, (jax.Array, np.ndarray)) and jnp.issubdtype(value.dtype, jnp.floating)
    # Python numbers and integers take the session's own precision; stating it avoids weakly typed leaves
    array = jnp.asarray(value, jnp.result_type(value) if kept else jnp.result_type(float))
    _check.in_range(array, name, **allowed)
    return array


def _replace(record: Any, changes: Mapping[str, Any]) -> Any:
    names = {f.name for f in dataclasses.fields(record)}
    own: dict[str, Any] = {}
    deep: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        if head not in names:
            raise TypeError(f"{type(record).__name__} has no field {head!r}; it has {', '.join(sorted(names))}")
        if rest:
            deep.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    for head, sub in deep.items():
        part = own.get(head, getattr(record, head))
        if not isinstance(part, Record):
            raise TypeError(f"{type(record).__name__}.{head} is {part!r}, which has no field {next(iter(sub))!r}")
        own[head] = _replace(part, sub)
    return dataclasses.replace(record, **own)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(leaf, static))
def record(cls: type[T]) -> type[T]:
    """Make `cls`, a subclass of `Record`, a frozen keyword-only dataclass and a pytree with named leaves."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)(cls)
    fields = dataclasses.fields(cast(Any, cls))
    data = tuple(f.name for f in fields if not f.metadata.get("static"))
    meta = tuple(f.name for f in fields if f.metadata.get("static"))

    def flatten_with_keys(self: Any) -> tuple[Any, Any]:
        keys = jax.tree_util.GetAttrKey
        return [(keys(n), getattr(self, n)) for n in data], tuple(getattr(self, n) for n in meta)

    def flatten(self: Any) -> tuple[Any, Any]:
        return [getattr(self, n) for n in data], tuple(getattr(self, n) for n in meta)

    def unflatten(aux: Any, children: Any) -> Any:
        self = object.__new__(cls)
        for names, values in ((data, children), (meta, aux)):
            for n, v in zip(names, values, strict=True):
                object.__setattr__(self, n, v)
        return self

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    setattr(cls, "__repr__", _repr)  # noqa: B010  (the type checker knows no better)
    setattr(cls, "__init__", _named(cls, tuple(f.name for f in fields)))  # noqa: B010
    return cls


def _named(cls: type, names: tuple[str, ...]) -> Callable[..., None]:
    """Return the constructor of `cls`, with an error for unknown fields that says which there are."""
    construct = cls.__init__

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **fields: Any) -> None:
        if args:
            raise TypeError(f"{cls.__name__} takes its fields by name: {', '.join(names)}; got {args[0]!r} without one")
        for name in fields:
            if name not in names:
                raise TypeError(f"{cls.__name__} has no field {name!r}; it has {', '.join(names)}")
        construct(self, **fields)

    return __init__


def _repr(self: Any) -> str:
    parts = (f"{f.name}={_short(getattr(self, f.name))}" for f in dataclasses.fields(self) if f.name[0] != "_")
    return f"{type(self).__name__}({', '.join(parts)})"


def _short(value: Any) -> str:
    if isinstance(value, (jax.Array, np.ndarray)):
        if isinstance(value, Tracer) or value.size > 6:
            return f"{value.dtype}[{','.join(map(str, value.shape))}]"
        return f"{float(value):.6g}" if value.ndim == 0 else np.array2string(np.asarray(value), precision=6)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {_short(v)}" for k, v in value.items()) + "}"
    return repr(value)


def get(tree: Any, path: str) -> Any:
    """Return the part of a record, or of a dictionary of them, at a dotted `path`, such as `"device.nu_scale"`."""
    rest = path
    while rest:
        name, rest = _first(tree, rest)
        if tree is None:
            raise TypeError(f"{path!r} has no field {name!r}: what should hold it is None; set that first")
        if isinstance(tree, Mapping):
            if name not in tree:
                raise TypeError(f"there is no {name!r} of {path!r}; there are {', '.join(map(str, tree))}")
            tree = tree[name]
            continue
        if not hasattr(tree, name):
            allowed = [f.name for f in dataclasses.fields(tree)] if dataclasses.is_dataclass(tree) else []
            raise TypeError(f"{type(tree).__name__} has no field {name!r}; it has {', '.join(allowed)}")
        tree = getattr(tree, name)
    return tree


def _first(tree: Any, path: str) -> tuple[str, str]:
    """Return the first name of a path, and what follows it; names of layers, in dictionaries, may have dots."""
    known = [n for n in tree if f"{path}.".startswith(f"{n}.")] if isinstance(tree, Mapping) else []
    name = max(known, key=len) if known else path.partition(".")[0]
    return name, path[len(name) + 1 :]


def replaced(tree: Any, changes: Mapping[str, Any]) -> Any:
    """Return a record, or a dictionary of them, with `changes` by dotted path."""
    if not isinstance(tree, Mapping):
        return tree.replace(**changes) if changes else tree
    parts: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        name, rest = _first(tree, path)
        parts.setdefault(name, {})[rest] = value
    return {name: replaced(part, parts.get(name, {})) for name, part in tree.items()}


def sweep(tree: R, **values: Any) -> tuple[R, R]:
    """Give the fields named in `values` a leading axis; return the record and its `in_axes` for `jax.vmap`.

    Args:
      tree: a record, such as a `Hardware`.
      **values: dotted path to a float field -> array whose leading axis is the sweep (pass as `**{...}`).

    Returns:
      `(swept, axes)`: the record with those fields replaced, and a record of the same structure that holds
      0 where a leaf is swept and `None` elsewhere.

    Example:
      >>> import anajax, jax
      >>> hw, axes = anajax.sweep(anajax.presets.standard_aimc(), **{"output_noise.sigma": [0.0, 0.1]})
      >>> jax.vmap(lambda h: 2 * h.output_noise.sigma, in_axes=(axes,))(hw)
      Array([0. , 0.2], dtype=float32)
    """
    for path in values:
        if not hasattr(get(tree, path), "dtype"):
            raise TypeError(f"cannot sweep {path!r}: it is {get(tree, path)!r}, not a number")
    swept = tree.replace(**{p: jnp.asarray(v, jnp.result_type(get(tree, p))) for p, v in values.items()})
    ids = {id(get(swept, path)) for path in values}
    axes = jax.tree.map(lambda x: 0 if id(x) in ids else None, swept)
    return swept, axes


def map_fields(f: Callable[[str, Any], Any], tree: R) -> R:
    """Return `tree` with `f(path, leaf)` in the place of every float field, `path` dotted."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: f(".".join(str(getattr(k, "name", getattr(k, "idx", k))) for k in path), x), tree
    )
