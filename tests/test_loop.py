"""The loop of run-time length must be a Python loop, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax import _loop
from anajax._loop import iterate

LENGTHS = [0, 1, 15, 16, 17, 100, 300]


def relax(k, x, args):
    """One step that depends on its number, on the state, and on numbers of all kinds; two leaves, coupled."""
    scale, offset, where, device = args
    moved = x["a"] + 0.05 * scale * jnp.sin(x["b"] + 0.1 * k) + 0.01 * offset
    a = jnp.where(where, moved, x["a"])
    return {"a": a, "b": device["gain"] * x["b"] + 0.03 * jnp.cos(a) * jnp.where(k % 3 == 0, 1.0, 0.5)}


def start():
    x = {"a": jnp.asarray([0.3, -0.7, 0.2]), "b": jnp.asarray([0.1, 0.5, -0.4])}
    args = (
        jnp.asarray([1.0, 2.0, 0.5]),
        jnp.asarray(0.3),
        jnp.asarray([True, True, False]),
        {"gain": 0.97, "none": None},
    )
    return x, args


def python_loop(n, x, scale, offset, gain):
    _, (_, _, where, _) = start()
    for k in range(n):
        x = relax(k, x, (scale, offset, where, {"gain": gain, "none": None}))
    return x


def looped(n, x, scale, offset, gain, iterate=iterate):
    _, (_, _, where, _) = start()
    return iterate(relax, n, x, (scale, offset, where, {"gain": gain, "none": None}))


def score(x):
    return jnp.sum(jnp.asarray([1.0, -2.0, 3.0]) * x["a"]) + jnp.sum(jnp.asarray([0.5, 1.5, -1.0]) * x["b"])


def operands():
    x, (scale, offset, _, device) = start()
    return x, scale, offset, jnp.asarray(device["gain"])


def both(loop, n):
    return jax.value_and_grad(lambda *a: score(loop(n, *a)), (0, 1, 2, 3))(*operands())


def close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), found, wanted)


@pytest.fixture(scope="module")
def unrolled():
    """Value and gradient by a Python loop, unrolled, for every length."""
    with jax.enable_x64(True):
        step = jax.jit(lambda k, x, *a: relax(k, x, (a[0], a[1], start()[1][2], {"gain": a[2], "none": None})))

        def one(n):
            x, *args = operands()
            kept = [x]
            for k in range(n):
                kept.append(step(k, kept[-1], *args))
            value, dx = jax.value_and_grad(score)(kept[-1])
            total = [jnp.zeros_like(a) for a in args]
            for k in reversed(range(n)):
                dx, *more = pulled(k, kept[k], dx, *args)
                total = [a + b for a, b in zip(total, more, strict=True)]
            return value, (dx, *total)

        pulled = jax.jit(lambda k, x, dx, *a: jax.vjp(lambda x, *a: step(k, x, *a), x, *a)[1](dx))
        return {n: one(n) for n in LENGTHS}


@pytest.fixture(scope="module")
def compiled():
    """Value and gradient of the loop, of a length known only at run time: one program."""
    return jax.jit(lambda n: both(looped, n))


@pytest.mark.parametrize("n", LENGTHS)
def test_is_a_python_loop_in_value_and_gradient(n, unrolled, compiled, x64):
    close(compiled(n), unrolled[n])


def test_the_reference_is_plain_autodiff(unrolled, x64):
    close(unrolled[15], both(python_loop, 15))


def test_differs_by_one_step_from_its_neighbours(unrolled, compiled, x64):
    for n in (15, 16, 17):
        with pytest.raises(AssertionError):
            close(compiled(n + 1), unrolled[n])


def test_lengths_may_differ_along_a_batch(unrolled, x64):
    found = jax.jit(jax.vmap(lambda n: both(looped, n)))(jnp.asarray(LENGTHS))
    for i, n in enumerate(LENGTHS):
        close(jax.tree.map(lambda a, i=i: a[i], found), unrolled[n])


def test_length_may_be_a_number(unrolled, x64):
    for n in (0, 17):
        close(both(looped, n), unrolled[n])


def test_random_keys_pass_through(x64, key):
    def walk(k, x, args):
        key, size = args
        return x + size * jax.random.normal(jax.random.fold_in(key, k), x.shape, x.dtype)

    def end(size, n):
        return iterate(walk, n, jnp.zeros(3), (key, size)).sum()

    steps = sum(jax.random.normal(jax.random.fold_in(key, k), (3,)) for k in range(40))
    value, slope = jax.jit(jax.value_and_grad(end))(0.5, 40)
    np.testing.assert_allclose([value, slope], [0.5 * steps.sum(), steps.sum()], rtol=1e-12)


@pytest.mark.parametrize("fault", ["a step too few", "kept out of place"])
def test_wrong_loops_are_rejected(fault, unrolled, x64, monkeypatch):
    """A loop that recomputes from the wrong place has the right value and the wrong gradient."""
    right = _loop._run

    def wrong(step, first, stop, x, args):
        if fault == "a step too few":
            return right(step, first, jnp.maximum(stop - 1, first), x, args)
        return right(step, first + 1, stop + 1, x, args)

    monkeypatch.setattr(_loop, "_run", wrong)
    with pytest.raises(AssertionError):
        close(jax.jit(lambda n: both(looped, n))(100), unrolled[100])


def test_memory_does_not_grow_with_the_length(x64):
    """What is kept between the two passes are 16 states, whatever the length."""
    x, args = start()
    for n in (10, 10_000):
        kept = jax.eval_shape(lambda x, n=n: _loop._forward(relax, n, x, args)[1][2], x)
        assert {a.shape for a in jax.tree.leaves(kept)} == {(16, 3)}
