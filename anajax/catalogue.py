"""What `anajax devices` prints and draws: the published devices, and one of them."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anajax import plot
from anajax.devices import Device
from anajax.devices import _characteristics as characteristics
from anajax.devices._catalogue import Entry, catalogue, rows


def show_all(console: Console | None = None) -> None:
    """Print all published devices, a table for each kind."""
    console, entries = console or Console(), catalogue()
    for kind in dict.fromkeys(entry.kind for entry in entries):
        table = Table(title=f"{kind} devices", title_justify="left", box=box.SIMPLE, padding=(0, 1))
        table.add_column("name", no_wrap=True)
        table.add_column("class", no_wrap=True)
        table.add_column("window (µS)", justify="right", no_wrap=True)
        if kind != "programmed":
            table.add_column("states", justify="right", no_wrap=True)
        table.add_column("source")
        for entry in entries:
            if entry.kind == kind:
                table.add_row(*_cells(entry))
        console.print(table)
    console.print("`anajax devices NAME` shows one of them.")
    console.print("Current-voltage laws: anajax.devices.conduction. Memristor models: anajax.devices.memristor.")


def _cells(entry: Entry) -> list[str]:
    device = entry.device
    if device is None:
        return [entry.name, "", "", escape(entry.signature)]
    window = f"{float(device.g_min) * 1e6:.3g} to {float(device.g_max) * 1e6:.3g}"
    states = [] if entry.kind == "programmed" else [f"{float(f'{characteristics.states(device):.3g}'):,.0f}"]
    return [entry.name, type(device).__name__, window, *states, escape(entry.citation)]


def show(name: str, out: Path | None = None, console: Console | None = None) -> Path:
    """Print the fields of one published device, save its figure, and return where.

    Args:
      name: of a function in `anajax.devices.presets`.
      out: file of the figure, in a format that its ending names; `NAME.png` by default.
      console: where to print.
    """
    entries = {entry.name: entry for entry in catalogue()}
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "`anajax devices` lists them"
        raise ValueError(f"there is no device {name!r}; {hint}")
    entry, console = entries[name], console or Console()
    if (device := entry.device) is None:
        raise ValueError(f"{name} needs arguments: make it with anajax.devices.presets.{entry.signature}")
    path = Path(f"{name}.png") if out is None else out
    if (kind := path.suffix.lstrip(".")) not in (kinds := FigureCanvasBase.get_supported_filetypes()):
        raise ValueError(f"out must end in one of .{', .'.join(kinds)}; got {path}")
    console.print(escape(f"{entry.summary}\nSource: {entry.source}" if entry.source else entry.summary))
    table = Table(box=box.SIMPLE, padding=(0, 1))
    table.add_column("field", no_wrap=True)
    table.add_column("value")
    table.add_column("unit", no_wrap=True)
    table.add_column("meaning")
    for row in rows(device):
        table.add_row(*map(escape, row))
    console.print(table)
    _draw(device, name, path, kind)
    console.print(f"figure: {path}", soft_wrap=True)
    return path


def _draw(device: Device, name: str, path: Path, kind: str) -> None:
    """Save the figure, whole or not at all."""
    figure = plot.overview(device)
    figure.suptitle(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        figure.savefig(part, format=kind, dpi=150)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
