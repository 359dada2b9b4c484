"""Hysteresis loops of every memristor model, and how they close as the frequency rises.

    python experiments/memristor_loops.py [--out memristor_loops.png] [--quick]

Every model is driven by two cycles of a sine; the second is drawn. Frequencies span two decades around the one
at which the default cell uses a good part of its range. The area of a loop, the integral of |I dV| around one of
its lobes, vanishes at high frequency: the fingerprint of a memristor (Chua 2014).
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from _figures import save
from matplotlib.figure import Figure

from anajax.devices.memristor import (
    JART,
    VTEAM,
    Biolek,
    LinearIonDrift,
    Memristor,
    Messaris,
    Sine,
    StanfordPKU,
    Yakopcic,
    simulate,
)

#: model, amplitude [V], middle frequency [Hz]
CELLS: dict[str, tuple[Memristor, float, float]] = {
    "linear ion drift, Biolek": (LinearIonDrift(window=Biolek()), 1.0, 3.0),
    "VTEAM": (VTEAM(initial=1.5e-9), 0.5, 1e9),
    "Yakopcic": (Yakopcic(), 0.4, 3e3),
    "Stanford-PKU": (StanfordPKU(initial=0.8e-9), 1.4, 3e6),
    "Messaris": (Messaris(), 0.4, 1e7),
    "JART VCM v1b": (JART(initial=0.5), 1.1, 1e4),
}


def loops(model: Memristor, amplitude: float, frequencies: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return voltages and currents `[frequency, points]` of the second cycle."""
    phase = jnp.linspace(0, 2, 2 * points - 1)

    @jax.jit
    @jax.vmap
    def run(f: jax.Array) -> tuple[jax.Array, jax.Array]:
        trace = simulate(model, Sine(amplitude=amplitude, frequency=f, cycles=2), phase / f)
        return trace.voltage[points - 1 :], trace.current[points - 1 :]

    v, i = run(jnp.asarray(frequencies))
    return np.asarray(v), np.asarray(i)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="memristor_loops.png")
    parser.add_argument("--quick", action="store_true", help="few points of the first three models")
    args = parser.parse_args()
    points = 33 if args.quick else 129
    cells = dict(list(CELLS.items())[: 3 if args.quick else None])

    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    print(f"{'model':26s} {'frequency, Hz':>14s} {'loop area, W':>14s}")
    for panel, (name, (model, amplitude, middle)) in zip(panels, cells.items(), strict=False):
        frequencies = middle * np.array([0.1, 1.0, 10.0])
        with jax.enable_x64(True):  # JART switches within a millionth of a cycle
            voltages, currents = loops(model, amplitude, frequencies, points)
        for f, v, i in zip(frequencies, voltages, currents, strict=True):
            half = points // 2 + 1
            area = abs(np.trapezoid(i[:half], v[:half]))
            print(f"{name:26s} {f:14.3g} {area:14.3g}")
            panel.plot(v, i * 1e3, label=f"{f:.3g} Hz")
        panel.set(title=name, xlabel="voltage (V)", ylabel="current (mA)")
        panel.legend(frameon=False, fontsize="small")
    for panel in panels[len(cells) :]:
        panel.set_axis_off()
    save(figure, args.out)


if __name__ == "__main__":
    main()
