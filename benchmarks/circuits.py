"""Crossbars with resistive wires: against badcrossbar and a sparse direct solve; in a network; approximated; large.

    pip install badcrossbar scipy
    python benchmarks/circuits.py

Cells are log-uniform from 1 to 100 uS, segments 1 ohm unless said, inputs 16 vectors. All candidates of a block take
turns in one process; badcrossbar and scipy work in float64.
"""

from __future__ import annotations

import itertools
import logging

import badcrossbar
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from flax import nnx
from timing import compare, show

import anajax
from anajax import nn
from anajax.arrays import IRDrop, Wires, effective_matrix, solve


def array(rows: int, cols: int, inputs: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return np.exp(rng.uniform(np.log(1e-6), np.log(1e-4), (rows, cols))), rng.uniform(0, 1, (inputs, rows))


def peer(g: np.ndarray, v: np.ndarray, r: float) -> np.ndarray:
    solution = badcrossbar.compute(v.T, 1 / g, r, node_voltages=False, all_currents=False)
    return np.asarray(solution.currents.output)


def sparse(g: np.ndarray, v: np.ndarray, r: float) -> np.ndarray:
    """Nodal analysis, assembled and factored by SuperLU for symmetric matrices, all inputs at once."""
    rows, cols = g.shape
    top = np.arange(rows * cols).reshape(rows, cols)
    bottom = top + rows * cols
    ends = [(top, bottom, g), (top[:, :-1], top[:, 1:], 1 / r), (bottom[:-1], bottom[1:], 1 / r)]
    at, to, y = (
        np.concatenate([np.broadcast_to(part, e[0].shape).ravel() for part, e in zip(p, ends, strict=True)])
        for p in zip(*ends, strict=True)
    )
    fixed = np.concatenate([top[:, 0], bottom[-1]])
    i = np.concatenate([at, to, at, to, fixed])
    j = np.concatenate([at, to, to, at, fixed])
    values = np.concatenate([y, y, -y, -y, np.full(len(fixed), 1 / r)])
    matrix = scipy.sparse.csc_matrix((values, (i, j)), shape=(2 * rows * cols,) * 2)
    known = np.zeros((2 * rows * cols, len(v)))
    known[top[:, 0]] = v.T / r
    factors = scipy.sparse.linalg.splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    return (factors.solve(known)[bottom[-1]] / r).T


def one_array(n: int, r: float) -> None:
    g, v = array(n, n)
    right = sparse(g, v, r)
    candidates = {"badcrossbar": lambda: peer(g, v, r), "scipy, sparse direct": lambda: sparse(g, v, r)}
    for dtype in ("float64", "float32"):
        with jax.enable_x64(True):
            arguments = jnp.asarray(g, dtype), jnp.asarray(v, dtype), Wires(word_line=r, bit_line=r)
        forward = jax.jit(lambda g, v, wires, dtype=dtype: solve(g, v, wires, dtype=dtype).currents)
        gradient = jax.jit(jax.grad(lambda g, v, w, f=forward: (f(g, v, w) ** 2).sum(), argnums=(0, 1, 2)))
        for name, f in (("currents", forward), ("currents and gradient", gradient)):
            candidates[f"anajax {dtype}, {name}"] = wide(f, arguments)
        error = np.abs(np.asarray(forward(*arguments), np.float64) / right - 1).max()
        print(f"{n} x {n}, {r:g} ohm, {dtype}: largest relative error {error:.1e}")
    lost = 1 - right.sum() / (v @ g).sum()
    show(f"{n} x {n}, 16 inputs, {r:g} ohm, {lost:.0%} of the current lost", compare(candidates, 5))


def wide(f, arguments):
    def run():
        with jax.enable_x64(True):
            return f(*arguments)

    return run


def large() -> None:
    """Print iterations and residuals of arrays whose wires take most of the current."""
    print("\ncells of 10 to 100 uS, one vector; segments as part of the least cell resistance")
    rng = np.random.default_rng(1)
    for n, ratio in ((256, 1e-2), (512, 1e-3)):
        g, v = rng.uniform(1e-5, 1e-4, (n, n)), rng.uniform(0, 1, n)
        for dtype in ("float64", "float32"):
            s = solve(g, v, Wires(word_line=1e4 * ratio, bit_line=1e4 * ratio), dtype=dtype)
            print(f"{n} x {n}, {ratio:g}, {dtype}: {int(s.iterations)} iterations, residual {float(s.residual):.1e}")


def weak() -> None:
    """Print the largest error of a current, as part of the largest, of each approximation."""
    print("\nlargest error of a current, as part of the largest: lost, no wires, first order, 1, 2, 4 sweeps")
    for n, r in ((64, 0.1), (64, 1.0), (128, 0.1), (128, 1.0)):
        g, v = array(n, n)
        wires = Wires(word_line=r, bit_line=r)
        right = np.asarray(solve(g, v, wires, dtype="float64").currents)
        close = [solve(g, v, wires.replace(method=m), dtype="float64") for m in ("first-order", 1, 2, 4)]
        found = [v @ g, *(np.asarray(s.currents) for s in close)]
        errors = "  ".join(f"{np.abs(i - right).max() / right.max():.0e}" for i in found)
        print(f"{n} x {n}, {r:g} ohm: {1 - right.sum() / (v @ g).sum():6.1%}  {errors}")


def matrices() -> None:
    """Time the effective matrix of 128 x 128 cells for 100 chips, and its gradient for one."""
    g = jnp.asarray(array(128, 128)[0], jnp.float32)
    wires = Wires(word_line=1.0, bit_line=1.0)
    one = jax.jit(lambda g: effective_matrix(g, wires))
    fleet = jax.jit(lambda g: jax.lax.map(lambda f: effective_matrix(f * g, wires).sum(), jnp.linspace(0.5, 1, 100)))
    slope = jax.jit(jax.value_and_grad(lambda g: jnp.sum(effective_matrix(g, wires) ** 2)))
    candidates = {"one chip": lambda: one(g), "with gradient": lambda: slope(g), "100 chips": lambda: fleet(g)}
    show("effective matrix of 128 x 128, float32, 1 ohm", compare(candidates, 3))


def training() -> None:
    """Time a step of hardware-aware training with exact wires, as a multiple of the ideal step."""
    for sizes, batch in (((64, 32, 10), 64), ((784, 256, 10), 64)):
        hardware = anajax.Hardware(
            device=anajax.devices.presets.pcm(), array_shape=(128, 128), wires=Wires(word_line=1.0, bit_line=1.0)
        )
        rngs = nnx.Rngs(0)
        layers = [nn.Linear(a, b, hardware=hardware, rngs=rngs) for a, b in itertools.pairwise(sizes)]
        apply, params, _, _ = nn.split(nnx.Sequential(*layers))
        x = jax.random.normal(jax.random.key(1), (batch, sizes[0]))
        step = jax.jit(jax.grad(lambda p, h, apply=apply, x=x: jnp.mean(apply(p, h, x, train=True) ** 2)))
        kinds = {
            "ideal": None,
            "IRDrop": IRDrop(),
            "1 sweep": hardware.wires.replace(method=1),
            "first order": hardware.wires.replace(method="first-order"),
            "exact wires": hardware.wires,
        }
        runs = {n: lambda w=w, p=params, h=hardware, f=step: f(p, h.replace(wires=w)) for n, w in kinds.items()}
        show(f"gradient of one step, {'-'.join(map(str, sizes))}, batch {batch}, arrays of 128 x 128", compare(runs, 3))


def main() -> None:
    logging.disable(logging.INFO)  # badcrossbar tells of every step
    for n, r in ((64, 1.0), (128, 1.0), (128, 10.0)):
        one_array(n, r)
    matrices()
    training()
    weak()
    large()


if __name__ == "__main__":
    main()
