"""Writes what the device pages show of each preset into a folder: a picture, its coefficients, its numbers.

Nothing here is copied by hand: the tables are read off the records. `python docs/generate.py` writes to
docs/_generated; the Sphinx build does so by itself.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from anajax import devices, plot
from anajax.devices import presets

#: what each page shows; tables and variants with arguments of their own come with an example
EXAMPLES = {
    "ideal": presets.ideal,
    "pcm": presets.pcm,
    "pcm_with_drift_table": lambda: presets.pcm_with_drift_table(
        g=[0.0, 5e-6, 15e-6, 25e-6], nu_mean=[0.09, 0.07, 0.055, 0.05], nu_std=[0.03, 0.02, 0.01, 0.008]
    ),
    "hermes_one_device": presets.hermes_one_device,
    "hermes_two_devices": presets.hermes_two_devices,
    "state_independent": presets.state_independent,
    "rram_wan": presets.rram_wan,
    "rram_cmo": presets.rram_cmo,
    "sonos": presets.sonos,
}
TIMES = {"0 s": 0.0, "1 h": 3600.0, "1 day": 86400.0, "1 month": 30 * 86400.0, "1 year": 365 * 86400.0}
SHARES = (0.1, 0.5, 1.0)
CELLS = 20_000


def main(folder: Path) -> None:
    """Write `NAME.png` and `NAME.md` of every preset."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in EXAMPLES.items():
        spec = make()
        (folder / f"{name}.md").write_text(
            f"{coefficients(spec)}\n\nMean ± standard deviation of {CELLS:,} simulated cells, programmed to"
            f" {', '.join(f'{u:.0%}' for u in SHARES)} of the window:\n\n{numbers(spec)}\n"
        )
        plot.device(spec, chips=300).savefig(folder / f"{name}.png", dpi=110)


def coefficients(spec: devices.Device) -> str:
    """Return the fields of a device as a Markdown table."""
    about = attributes(type(spec))
    rows = ["| field | value | unit | meaning |", "| --- | --- | --- | --- |"]
    for name in ("g_max", "g_min", *about):
        if (value := getattr(spec, name)) is None:
            continue
        meaning = about.get(name) or attributes(devices.Device)[name]
        unit = next((u for u in ("S", "s") if f"[{u}]" in meaning), "1")
        scale, shown = (1e6, "µS") if unit == "S" else (1.0, unit)
        meaning = re.sub(r"\s*\[[Ss]\]", "", meaning).rstrip(".")
        if isinstance(value, tuple):
            times = np.asarray(spec.times)
            rows += [
                f"| `{name}[{k}]` | {curve(v, scale)} | {shown} | at {times[k]:,.0f} s |" for k, v in enumerate(value)
            ]
        else:
            rows.append(f"| `{name}` | {curve(value, scale)} | {shown} | {meaning} |")
    return "\n".join(rows)


def attributes(cls: type) -> dict[str, str]:
    """Return the text of each entry of a docstring's `Attributes:`, in its order."""
    text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r"  (\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif found and line.startswith("    "):
            found[name] += " " + line.strip()
    return found


def curve(value: object, scale: float) -> str:
    """Return a curve, or a number or numbers, as text; `scale` brings it to the unit shown."""
    c = devices
    if isinstance(value, c.Polynomial):
        parts = [f"{x * scale:.6g}" + ("", " u", f" u^{k}")[min(k, 2)] for k, x in enumerate(_each(value.coefficients))]
        return " + ".join(parts).replace("+ -", "− ")
    if isinstance(value, c.LogLinear):
        s, o, low, high = (f"{float(x) * scale:.6g}" for x in (value.slope, value.offset, value.low, value.high))
        return f"clip({s} ln u + {o}, {low}, {high})".replace("+ -", "− ")
    if isinstance(value, c.PowerLaw):
        floor, high = f"{float(value.floor):.6g}", f"{float(value.high) * scale:.6g}"
        return f"min({float(value.scale) * scale:.6g} / max(u^{float(value.exponent):.6g}, {floor}), {high})"
    if isinstance(value, c.Split):
        return f"u < {float(value.at):.6g}: {curve(value.below, scale)}; else: {curve(value.above, scale)}"
    if isinstance(value, c.SaturatingExponential):
        return f"{float(value.height) * scale:.6g} (1 − exp(−{float(value.rate):.6g} u))"
    if isinstance(value, c.Table):
        points = zip(_each(value.u), _each(value.values), strict=True)
        return "table over u: " + ", ".join(f"{u:.3g} → {v * scale:.6g}" for u, v in points)
    return ", ".join(f"{x * scale:.6g}" for x in _each(value))


def numbers(spec: devices.Device) -> str:
    """Return a Markdown table of simulated cells: mean and spread of the conductance as they age, read noise."""
    targets = spec.g_min + spec.window * jnp.asarray(SHARES)
    many = jnp.broadcast_to(targets, (CELLS, len(SHARES)))
    made, programmed = jax.random.split(jax.random.key(0))
    cells = spec.program(programmed, spec.fabricate(made, many.shape), many)
    table = {"target": [f"{x * 1e6:.4g}" for x in _each(targets)]}
    for label, time in TIMES.items():
        g = 1e6 * np.asarray(spec.conductance(cells, time), np.float64)
        table[f"after {label}"] = [f"{m:.2f} ± {s:.2f}" for m, s in zip(g.mean(0), g.std(0), strict=True)]
    noise = 1e6 * np.asarray(spec.read_noise(cells, TIMES["1 day"]), np.float64).mean(0)
    table["mean read noise after 1 day"] = [f"{x:.3f}" for x in noise]
    rows = [f"| µS |{' |' * len(SHARES)}", "| --- |" + " ---: |" * len(SHARES)]
    rows += [f"| {name} | " + " | ".join(values) + " |" for name, values in table.items()]
    return "\n".join(rows)


def _each(value: object) -> list[float]:
    return [float(x) for x in np.atleast_1d(np.asarray(value, np.float64))]


if __name__ == "__main__":
    main(Path(__file__).parent / "_generated")
