"""Loops whose length is known only at run time: differentiable in reverse, and of one length under a `vmap`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

_KEPT = 16  # states kept on each of two levels: up to 16 * 16 steps are recomputed once each


@jax.custom_batching.custom_vmap
def shared(x: Array) -> Array:
    """Return `x`, a whole number, as one for all that a `vmap` runs side by side: chips count the same examples.

    A loop of as many steps stays a loop then.
    """
    return jnp.round(jax.lax.stop_gradient(x)).astype(jnp.uint32)


@shared.def_vmap
def _shared_by_all(axis_size: int, in_batched: list[bool], x: Array) -> tuple[Array, bool]:
    return shared(jnp.max(x, axis=0) if in_batched[0] else x), False


def iterate(step: Callable[..., Any], n: Array, x: Any, args: Any) -> Any:
    """Return `x` after `n` steps `x = step(k, x, args)`, k = 0 .. n - 1.

    In reverse, states are kept at 16 places, those between at 16 places each, and what lies between these is run
    again: memory does not grow with `n`, and a gradient costs about three runs up to 256 steps.

    Args:
      step: a function of the module level; what it depends on goes through `args`.
      n: number of steps, an integer scalar, possibly traced.
      x: pytree of floating-point arrays.
      args: pytree; its floating-point leaves can be differentiated.
    """
    return _iterate(step, n, x, args)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _iterate(step: Callable[..., Any], n: Array, x: Any, args: Any) -> Any:
    return _run(step, 0, n, x, args)


def _run(step: Callable[..., Any], start: Any, stop: Any, x: Any, args: Any) -> Any:
    return jax.lax.fori_loop(start, stop, lambda k, x: step(k, x, args), x)


def _marks(step: Callable[..., Any], start: Any, stop: Any, x: Any, args: Any) -> tuple[Any, Any, Any]:
    """Run from `start` to `stop`; return the end, the stride between the states kept, and those states."""
    stride = jnp.maximum((stop - start + _KEPT - 1) // _KEPT, 1)
    kept = jax.tree.map(lambda a: jnp.zeros((_KEPT, *a.shape), a.dtype), x)

    def block(j: Any, carry: Any) -> Any:
        x, kept = carry
        kept = jax.tree.map(lambda all_, now: all_.at[j].set(now), kept, x)
        first = start + j * stride
        return _run(step, first, jnp.minimum(first + stride, stop), x, args), kept

    end, kept = jax.lax.fori_loop(0, (stop - start + stride - 1) // stride, block, (x, kept))
    return end, stride, kept


def _forward(step: Callable[..., Any], n: Array, x: Any, args: Any) -> Any:
    end, stride, kept = _marks(step, 0, n, x, args)
    return end, (n, stride, kept, args)


def _backward(step: Callable[..., Any], residuals: Any, dx: Any) -> Any:
    n, stride, kept, args = residuals
    leaves, treedef = jax.tree.flatten(args)
    floats = [jnp.issubdtype(jnp.result_type(a), jnp.floating) for a in leaves]
    split = [a for a, f in zip(leaves, floats, strict=True) if f]

    def with_floats(moved: list[Any]) -> Any:
        moving = iter(moved)
        return treedef.unflatten([next(moving) if f else a for a, f in zip(leaves, floats, strict=True)])

    def one(k: Any, x: Any, carry: Any) -> Any:
        dx, dargs = carry
        _, pull = jax.vjp(lambda x, moved: step(k, x, with_floats(moved)), x, split)
        dx, more = pull(dx)
        return dx, jax.tree.map(jnp.add, dargs, more)

    def outer(i: Any, carry: Any) -> Any:
        j = (n + stride - 1) // stride - 1 - i
        start, stop = j * stride, jnp.minimum((j + 1) * stride, n)
        _, inner, marks = _marks(step, start, stop, jax.tree.map(lambda a: a[j], kept), args)

        def back(i: Any, carry: Any) -> Any:
            k = stop - 1 - i
            mark = (k - start) // inner
            x = _run(step, start + mark * inner, k, jax.tree.map(lambda a: a[mark], marks), args)
            return one(k, x, carry)

        return jax.lax.fori_loop(0, stop - start, back, carry)

    zeros = [jnp.zeros_like(a) for a in split]
    dx, dsplit = jax.lax.fori_loop(0, (n + stride - 1) // stride, outer, (dx, zeros))
    moving = iter(dsplit)
    return None, dx, treedef.unflatten([next(moving) if f else None for f in floats])


_iterate.defvjp(_forward, _backward)
