"""Writes what the pages show into a folder: a picture of each preset, its coefficients, its numbers; a circuit.

Nothing here is copied by hand: the tables are read off the records. `python docs/generate.py` writes to
docs/_generated; the Sphinx build does so by itself.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from anajax import arrays, devices, plot
from anajax.devices import _characteristics as characteristics
from anajax.devices import presets
from anajax.devices._catalogue import catalogue, rows

#: what the pages of presets show that need arguments
EXAMPLES = {
    "pcm_with_drift_table": lambda: presets.pcm_with_drift_table(
        g=[0.0, 5e-6, 15e-6, 25e-6], nu_mean=[0.09, 0.07, 0.055, 0.05], nu_std=[0.03, 0.02, 0.01, 0.008]
    ),
}
TIMES = {"0 s": 0.0, "1 h": 3600.0, "1 day": 86400.0, "1 month": 30 * 86400.0, "1 year": 365 * 86400.0}
SHARES = (0.1, 0.5, 1.0)
CELLS = 20_000


def main(folder: Path) -> None:
    """Write `NAME.png` and `NAME.md` of every preset, and `crossbar.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)  # what runs takes an instant, its compilation minutes
    try:
        for entry in catalogue():
            spec = entry.device or EXAMPLES[entry.name]()
            page = numbers(spec) if entry.kind == "programmed" else pulses(spec)
            (folder / f"{entry.name}.md").write_text(f"{coefficients(spec)}\n\n{page}\n")
            plot.overview(spec, cells=300).savefig(folder / f"{entry.name}.png", dpi=110)
        circuit().savefig(folder / "crossbar.png", dpi=110)
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def circuit() -> Figure:
    """Draw the array of the guide to SPICE."""
    rng = np.random.default_rng(0)
    g, v = np.exp(rng.uniform(np.log(1e-5), np.log(1e-3), (6, 8))), rng.uniform(0.0, 0.5, 6)
    return plot.crossbar(arrays.solve(g, v, arrays.Wires(word_line=20.0, bit_line=20.0, sense=10.0)))


def coefficients(spec: devices.Device) -> str:
    """Return the fields of a device as a Markdown table."""
    head = ["| field | value | unit | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *(f"| `{r.name}` | {r.value} | {r.unit} | {r.meaning} |" for r in rows(spec))])


def numbers(spec: devices.Device) -> str:
    """Return a Markdown table of simulated cells: mean and spread of the conductance as they age, read noise."""
    targets = spec.g_min + spec.window * jnp.asarray(SHARES)
    many = jnp.broadcast_to(targets, (CELLS, len(SHARES)))
    made, programmed = jax.random.split(jax.random.key(0))
    cells = spec.program(programmed, spec.fabricate(made, many.shape), many)
    table = {"target": [f"{x * 1e6:.4g}" for x in targets]}
    for label, time in TIMES.items():
        g = 1e6 * np.asarray(spec.conductance(cells, time), np.float64)
        table[f"after {label}"] = [f"{m:.2f} ± {s:.2f}" for m, s in zip(g.mean(0), g.std(0), strict=True)]
    noise = 1e6 * np.asarray(spec.read_noise(cells, TIMES["1 day"]), np.float64).mean(0)
    table["mean read noise after 1 day"] = [f"{x:.3f}" for x in noise]
    title = f"Mean ± standard deviation of {CELLS:,} simulated cells, programmed to"
    return f"{title} {', '.join(f'{u:.0%}' for u in SHARES)} of the window:\n\n{_table('µS', table)}"


def pulses(spec: devices.Device) -> str:
    """Return a Markdown table of the mean cell's steps, and a line on its states and its symmetry point."""
    up, down = characteristics.mean_steps(spec)
    at = [round(share * (characteristics.GRID - 1)) for share in (0.1, 0.5, 0.9)]
    g = characteristics.grid(spec)[at]
    table = {
        "conductance": [f"{x * 1e6:.4g}" for x in g],
        "step up": [f"{x * 1e6:.4g}" for x in up[at]],
        "step down": [f"{x * 1e6:.4g}" for x in down[at]],
    }
    balance = characteristics.symmetry(spec)
    lines = f"Steps of the mean cell by one pulse:\n\n{_table('µS', table)}\n\n"
    states = float(f"{characteristics.states(spec):.3g}")
    lines += f"Window over the step at its middle: {states:,.0f} states."
    return lines if balance is None else f"{lines} Symmetry point of the mean cell: {balance * 1e6:.4g} µS."


def _table(corner: str, columns: dict[str, list[str]]) -> str:
    count = len(next(iter(columns.values())))
    lines = [f"| {corner} |{' |' * count}", "| --- |" + " ---: |" * count]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(values) + " |" for name, values in columns.items())])


if __name__ == "__main__":
    main(Path(__file__).parent / "_generated")
