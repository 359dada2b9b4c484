"""An independent solver of crossbar circuits: modified nodal analysis, dense, with a current for every wire segment.

It shares nothing with the package: nodes are numbered, every segment is a branch `v_a - v_b = r i` (so that no
resistance is too small), and nonlinear cells are met by Newton's iteration on all unknowns.
"""

from __future__ import annotations

import numpy as np


def nodal(
    g,
    v,
    word,
    bit,
    driver=0.0,
    sense=0.0,
    far_driver=None,
    far_sense=None,
    sink=0.0,
    select=0.0,
    current=None,
    slope=None,
):
    """Return `(currents of the bit lines, word nodes, bit nodes)` for one vector of voltages `v [rows]`.

    `word` and `bit` are numbers or arrays of one resistance per segment, `[rows, cols (+1)]` and `[rows (+1), cols]`.
    `current(g, v)` and `slope(g, v)` describe nonlinear cells.
    """
    rows, cols = g.shape
    both = far_driver is not None, far_sense is not None
    word = np.broadcast_to(word, (rows, cols + both[0]))
    bit = np.broadcast_to(bit, (rows + both[1], cols))
    driver, sink, sense = np.broadcast_to(driver, rows), np.broadcast_to(sink, cols), np.broadcast_to(sense, cols)

    def w(i, j):
        return i * cols + j

    def b(i, j):
        return rows * cols + i * cols + j

    branches = []  # (node or None, fixed voltage, node or None, fixed voltage, resistance)
    for i in range(rows):
        branches.append((None, v[i], w(i, 0), 0, driver[i] + word[i, 0]))
        branches += [(w(i, j - 1), 0, w(i, j), 0, word[i, j]) for j in range(1, cols)]
        if both[0]:
            branches.append((w(i, cols - 1), 0, None, v[i], word[i, cols] + np.broadcast_to(far_driver, rows)[i]))
    first = int(both[1])
    outputs = {}
    for j in range(cols):
        if both[1]:
            branches.append((b(0, j), 0, None, sink[j], bit[0, j] + np.broadcast_to(far_sense, cols)[j]))
            outputs.setdefault(j, []).append(len(branches) - 1)
        branches += [(b(i, j), 0, b(i + 1, j), 0, bit[i + first, j]) for i in range(rows - 1)]
        branches.append((b(rows - 1, j), 0, None, sink[j], bit[rows - 1 + first, j] + sense[j]))
        outputs.setdefault(j, []).append(len(branches) - 1)

    nodes, size = 2 * rows * cols, 2 * rows * cols + len(branches)
    linear, fixed = np.zeros((size, size)), np.zeros(size)
    for k, (a, va, z, vz, r) in enumerate(branches):
        at = nodes + k
        if a is not None:
            linear[a, at] += 1  # leaves node a
            linear[at, a] += 1
        if z is not None:
            linear[z, at] -= 1
            linear[at, z] -= 1
        linear[at, at] -= r
        fixed[at] += va - vz  # v_a - v_z - r i = 0, with what is known

    current = current or (lambda g, v: g * v)
    slope = slope or (lambda g, v: g * np.ones_like(v))
    # each cell ends in a node of its own, from which its transistor goes on to the bit line
    top, inner = np.arange(rows * cols), size + np.arange(rows * cols)
    through = size + rows * cols + np.arange(rows * cols)
    bottom, size = rows * cols + np.arange(rows * cols), size + 2 * rows * cols
    linear, fixed = np.pad(linear, (0, 2 * rows * cols)), np.pad(fixed, (0, 2 * rows * cols))
    linear[inner, through] += 1
    linear[bottom, through] -= 1
    linear[through, inner] += 1
    linear[through, bottom] -= 1
    linear[through, through] -= select
    x = np.zeros(size)

    def lacking(x):
        out = linear @ x + fixed
        i = current(g.ravel(), x[top] - x[inner])
        np.add.at(out, top, i)
        np.add.at(out, inner, -i)
        return out

    for _ in range(200):
        f = lacking(x)
        jacobian = linear.copy()
        s = slope(g.ravel(), x[top] - x[inner])
        for p, q, sign in ((top, top, 1), (top, inner, -1), (inner, top, -1), (inner, inner, 1)):
            np.add.at(jacobian, (p, q), sign * s)
        dx = np.linalg.solve(jacobian, -f)
        share = 1.0
        while share > 1e-6 and np.abs(lacking(x + share * dx)).max() > (1 - 1e-4 * share) * np.abs(f).max():
            share /= 2
        x = x + share * dx
        if np.abs(dx).max() < 1e-15 * max(np.abs(x).max(), 1):
            break
    i = np.array([sum(x[nodes + k] for k in outputs[j]) for j in range(cols)])
    return i, x[top].reshape(rows, cols), x[bottom].reshape(rows, cols)
