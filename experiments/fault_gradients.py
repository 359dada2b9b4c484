"""The declared derivative with respect to the probability of a fault, beside a finite difference.

    python experiments/fault_gradients.py [--chips 8000 | --quick] [--out fault_gradients.png]

A 64-32-8 network with tanh, each weight a pair of cells in [2.5, 25] µS, W ~ N(0, 1 / inputs), 20 inputs x ~ N(0, 1).
Its outputs' overlap with the ideal ones, <y y_ideal>, and <(y - y_ideal)^2>, in the mean over chips. Estimators: the
trapezoidal straight-through of `Faulty`, and the plain one (derivative 1 in every cell), at a probability p. Beside
them the difference between the same chips at 3 p / 2 and p / 2. The table is at p = 2 %; the figure has other p too,
from a quarter of the chips. Bias: of the trapezoidal, in percent of the difference. Spread: its standard deviation over
chips, in units of the difference's. ± is one standard error. A .json beside the figure has the numbers of both.
"""

import argparse
import math
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from _figures import save
from matplotlib.figure import Figure

import anajax
from anajax import arrays
from anajax.devices import Faulty, presets, record

P = 0.02
CELL = presets.ideal(g_max=25e-6, g_min=2.5e-6)
SWEEP = [0.005, 0.01, 0.05, 0.1, 0.2]
KINDS = ("unformed", "high")
FUNCTIONS = ("overlap", "squared error")
STYLES = {"trapezoidal": "C0o-", "plain": "C1s--", "difference": "kx"}


@record
class Plain(Faulty):
    """The usual straight-through estimator: whether a cell is at fault has derivative 1, in every cell."""

    def read(self, key, cells, time=0.0):
        g = jax.lax.stop_gradient(super().read(key, cells, time))
        sound = self.device.read(key, cells, time)
        for kind, level in self.stuck(cells).items():
            p = getattr(self, kind)
            g += (p - jax.lax.stop_gradient(p)) * (level - sound)
        return g


def network() -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """Return the weights, the inputs and the ideal outputs."""
    key, x_key = jax.random.split(jax.random.key(0))
    w = [jax.random.normal(jax.random.fold_in(key, i), s) / s[0] ** 0.5 for i, s in enumerate([(64, 32), (32, 8)])]
    x = jax.random.normal(x_key, (20, 64))
    return w, x, jnp.tanh(x @ w[0]) @ w[1]


def made_of(cls: type[Faulty], p: jax.Array) -> anajax.Hardware:
    """Return hardware with the probabilities `p`, one for each kind."""
    return anajax.Hardware(device=cls(device=CELL, **dict(zip(KINDS, p, strict=True))))


@jax.jit
def derivatives(kind: jax.Array, p: float, keys: jax.Array, net: tuple) -> dict[str, jax.Array]:
    """Return the derivatives by each way of taking them, `[chips, functions]`; `kind` has 1 for one kind, else 0."""
    w, x, ideal = net

    def one(key):
        # a chip is its scores, whatever the probabilities
        tiles = [arrays.program(k, made_of(Faulty, kind), w) for k, w in zip(jax.random.split(key), w, strict=True)]

        def functions(cls, p):
            hardware = made_of(cls, p)
            first, second = (arrays.settle(None, hardware, tile, w) for tile, w in zip(tiles, w, strict=True))
            y = arrays.mvm(None, hardware, second, jnp.tanh(arrays.mvm(None, hardware, first, x)))
            return jnp.stack([jnp.mean(y * ideal), jnp.mean((y - ideal) ** 2)])

        estimators = {"trapezoidal": Faulty, "plain": Plain}
        slopes = {n: jax.jvp(partial(functions, cls), (p * kind,), (kind,))[1] for n, cls in estimators.items()}
        behind, ahead = jax.vmap(lambda share: functions(Faulty, share * p * kind))(jnp.asarray([0.5, 1.5]))
        return slopes | {"difference": (ahead - behind) / p}

    return jax.lax.map(one, keys, batch_size=100)


def shown(mean: float, error: float) -> str:
    """Return a number and its standard error to one digit of the error."""
    digits = max(0, -math.floor(math.log10(error)))
    return f"{mean:z.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def summary(samples: dict[str, np.ndarray]) -> dict:
    """Return means, standard errors, bias and spread of derivatives of one function, `[chips]` each."""
    n, difference = len(samples["difference"]), samples["difference"]
    samples = samples | {"bias": 100 * (samples["trapezoidal"] - difference) / difference.mean()}
    row = {name: {"mean": x.mean(), "error": x.std(ddof=1) / n**0.5} for name, x in samples.items()}
    return row | {"chips": n, "spread": row["trapezoidal"]["error"] / row["difference"]["error"]}


def draw(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for (kind, function), ax in zip(product(KINDS, FUNCTIONS), axes.flat, strict=True):
        found = sorted((r for r in rows if (r["faults"], r["function"]) == (kind, function)), key=lambda r: r["p"])
        p = 100 * np.asarray([r["p"] for r in found])
        for name, style in STYLES.items():
            mean, error = ([r[name][k] for r in found] for k in ("mean", "error"))
            across = p / 2 if name == "difference" else None  # it is the mean derivative from p / 2 to 3 p / 2
            ax.errorbar(p, mean, error, across, fmt=style, markersize=4, label=name)
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set(xscale="log", title=f"{kind}: {function}")
        ax.set_xticks(p, [f"{x:g}" for x in p])
        ax.minorticks_off()
    figure.supxlabel("probability of a fault (%)")
    figure.supylabel("derivative with respect to the probability")
    axes[0, 0].legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="fault_gradients.png")
    parser.add_argument("--chips", type=int, default=8000)
    parser.add_argument("--quick", action="store_const", dest="chips", const=100, help="the same as --chips 100")
    args = parser.parse_args()
    if args.chips < 8 or args.chips % 4:
        parser.error(f"--chips must be a multiple of 4, at least 8; got {args.chips}")
    blocks, net = jax.random.split(jax.random.key(1), args.chips).reshape(4, -1), network()

    print("| faults | function | trapezoidal | difference | bias (%) | spread | plain |\n" + "| --- " * 7 + "|")
    rows = []
    for one_hot, kind in zip(jnp.eye(len(KINDS)), KINDS, strict=True):
        for p in (P, *SWEEP):
            parts = [derivatives(one_hot, p, keys, net) for keys in (blocks if p == P else blocks[:1])]
            samples = jax.tree.map(lambda *x: np.concatenate(x).astype(np.float64), *parts)
            for i, function in enumerate(FUNCTIONS):
                row = summary({name: x[:, i] for name, x in samples.items()})
                rows.append({"faults": kind, "function": function, "p": p} | row)
                if p == P:
                    ours, plain, difference, bias = (shown(**row[n]) for n in (*STYLES, "bias"))
                    print(f"| {kind} | {function} | {ours} | {difference} | {bias} | {row['spread']:.2f} | {plain} |")

    save(draw(rows), args.out, rows)


if __name__ == "__main__":
    main()
