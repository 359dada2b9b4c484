"""Errors in one voice: what was wrong, its value, and what is allowed.

Checks look at values only where they are concrete. Inside a transformation values are tracers, and pass.
"""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_BOUNDS = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "greater than"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "less than"),
}


def is_concrete(x: Any) -> bool:
    """Return whether the values of `x` are known now, outside any transformation."""
    return not isinstance(x, Tracer)


def is_numeric(value: Any, name: str) -> None:
    """Raise unless `value` is a number or an array of real numbers."""
    try:
        dtype = value.dtype if hasattr(value, "dtype") else jnp.asarray(value).dtype
        numeric = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    except (TypeError, ValueError):
        numeric = False
    if not numeric:
        raise TypeError(f"{name} must be a real number or an array of them; got {value!r}")


def in_range(x: Any, name: str, **bounds: float) -> None:
    """Raise unless `x` is free of NaN and within `bounds` (`ge`, `gt`, `le`, `lt`)."""
    if not is_concrete(x):
        return
    values = np.asarray(x)
    allowed = " and ".join(f"{_BOUNDS[k][1]} {v:g}" for k, v in bounds.items()) or "a number, not NaN"
    for test, bad in [(None, np.isnan(values))] + [(k, ~_BOUNDS[k][0](values, v)) for k, v in bounds.items()]:
        if bad.any():
            shown = float(values[bad].flat[0])
            where = "" if values.ndim == 0 else f" in {int(bad.sum())} of {values.size} places"
            raise ValueError(f"{name} must be {allowed}; got {shown:g}{where}" + (" (NaN)" if not test else ""))


def integer(x: Any, name: str, *, ge: int) -> None:
    """Raise unless `x` is a Python integer, or one of NumPy, of at least `ge`."""
    if isinstance(x, bool) or not isinstance(x, int | np.integer) or x < ge:
        raise ValueError(f"{name} must be an integer of at least {ge}; got {x!r}")


def finite(x: Any, name: str) -> None:
    """Raise unless every value of `x` is finite."""
    if is_concrete(x):
        bad = ~np.isfinite(np.asarray(x, dtype=np.float64))
        if bad.any():
            raise ValueError(
                f"{name} must be finite; got {np.asarray(x, dtype=np.float64)[bad].flat[0]}"
                f" in {int(bad.sum())} of {bad.size} places"
            )


def floating(x: Any, name: str) -> Any:
    """Return `x` as a floating-point array; raise for what is not numeric."""
    is_numeric(x, name)
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def shape(x: Any, name: str, spec: str, hint: str = "", **sizes: int) -> None:
    """Raise unless `x` has the shape `spec`, such as `"... rows"`, with the named `sizes`."""
    names = spec.split()
    dots = bool(names) and names[0] == "..."
    wanted = names[1:] if dots else names
    have = x.shape[len(x.shape) - len(wanted) :] if dots else x.shape
    good = len(x.shape) >= len(wanted) if dots else len(x.shape) == len(wanted)
    good = good and all(sizes.get(n, h) == h for n, h in zip(wanted, have, strict=False))
    if not good:
        given = ", ".join(f"{n}={sizes[n]}" for n in wanted if n in sizes)
        raise ValueError(
            f"{name} must have shape ({', '.join(names)})"
            + (f" with {given}" if given else "")
            + f"; got {tuple(x.shape)}"
            + (f". {hint}" if hint else "")
        )


def choice(value: Any, name: str, choices: tuple[Any, ...]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def is_static(value: Any, name: str, choices: tuple[Any, ...] | None) -> None:
    """Raise if a static field was given an array, or something that is not among its `choices`."""
    if isinstance(value, (jax.Array, np.ndarray)):
        raise TypeError(f"{name} is a static setting and cannot be an array; got {value!r}")
    if choices is not None:
        choice(value, name, choices)
