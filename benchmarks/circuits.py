"""Crossbars with resistive wires: against badcrossbar and a sparse direct solve, forward and gradient.

    pip install badcrossbar scipy
    python benchmarks/circuits.py

Cells are log-uniform from 1 to 100 uS, segments 1 ohm unless said, inputs 16 vectors. All candidates of a block take
turns in one process; badcrossbar and scipy work in float64.
"""

from __future__ import annotations

import logging

import badcrossbar
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from timing import compare, show

from anajax.arrays import Wires, solve


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


def main() -> None:
    logging.disable(logging.INFO)  # badcrossbar tells of every step
    for n, r in ((64, 1.0), (128, 1.0), (128, 10.0)):
        one_array(n, r)


if __name__ == "__main__":
    main()
