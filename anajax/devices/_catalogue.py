"""The catalogue of published devices, and what docstrings and records say of them, as text."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from anajax._record import Record
from anajax.devices import presets
from anajax.devices.curves import LogLinear, Polynomial, PowerLaw, SaturatingExponential, Split, Table
from anajax.devices.device import Device

_KINDS = {"statistical": "programmed", "pulsed": "pulsed", "compound": "compound"}  # by module


class Entry(NamedTuple):
    """One published device.

    Attributes:
      name: of its function in `anajax.devices.presets`.
      function: that makes it.
      kind: "programmed", "pulsed" or "compound".
      summary: first paragraph of its docstring, without its verb.
      source: its citation; empty where there is none.
    """

    name: str
    function: Callable[..., Device]
    kind: str
    summary: str
    source: str

    @property
    def device(self) -> Device | None:
        """What the function makes by default, made anew; `None` where it needs arguments."""
        parameters = inspect.signature(self.function).parameters.values()
        return None if any(p.default is p.empty for p in parameters) else self.function()

    @property
    def signature(self) -> str:
        """How the function is called."""
        parameters = inspect.signature(self.function).parameters.values()
        given = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)
        return f"{self.name}({', '.join(given)})"

    @property
    def citation(self) -> str:
        """The source as short as a table needs it: up to its first year, or its first clause."""
        year = re.match(r".*?(?<!:)\b(?:19|20)\d\d\b\)?", self.source)
        return year[0] if year else self.source.partition(";")[0].rstrip(".")


def catalogue() -> list[Entry]:
    """Return all published devices: programmed ones, then those by pulses, then compounds; each in source order."""
    functions = [f for f in vars(presets).values() if inspect.isfunction(f)]
    order = list(_KINDS)
    modules = {f: f.__module__.rpartition(".")[2] for f in functions}
    functions.sort(key=lambda f: (order.index(modules[f]), f.__code__.co_firstlineno))
    return [_entry(f, _KINDS[modules[f]]) for f in functions]


def _entry(function: Callable[..., Device], kind: str) -> Entry:
    text = inspect.cleandoc(function.__doc__ or "")
    before, _, source = text.partition("Source: ")
    return Entry(
        name=function.__name__,
        function=function,
        kind=kind,
        summary=_sentence(before.partition("\n\n")[0]),
        source=" ".join(source.partition("\n\n")[0].split()),
    )


def _sentence(text: str) -> str:
    words = " ".join(text.split()).removeprefix("Return ")
    return words[:1].upper() + words[1:]


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


class Row(NamedTuple):
    """One field of a record: its dotted name, its value and unit as text, and what its docstring says of it."""

    name: str
    value: str
    unit: str
    meaning: str


def rows(spec: Record, before: str = "") -> list[Row]:
    """Return the fields of a record and of its parts; without those that are `None`, or static and at their default."""
    about = {name: text for cls in reversed(type(spec).__mro__) for name, text in attributes(cls).items()}
    fields = [f for f in dataclasses.fields(spec) if not f.name.startswith("_")]  # type: ignore[arg-type]
    found = []
    for field in sorted(fields, key=lambda f: {"g_max": 0, "g_min": 1}.get(f.name, 2)):
        value, name = getattr(spec, field.name), before + field.name
        static = bool(field.metadata.get("static"))
        if value is None or (static and value == field.default):
            continue
        found += _rows_of(name, value, about.get(field.name, ""), getattr(spec, "times", None))
    return found


def _rows_of(name: str, value: Any, about: str, times: Any) -> list[Row]:
    unit = match[1] if (match := re.search(r"(?<!`)\[([^\]`]+)\]", about)) else "1"
    meaning = re.sub(r"\s*(?<!`)\[[^\]`]+\]", "", about, count=1)
    meaning = re.sub(r", or `None`.*", "", meaning).rstrip(".")
    scale, unit = (1e6, "µS") if unit == "S" else (1.0, unit)
    if isinstance(value, (bool, int, str)):
        return [Row(name, str(value), "", meaning)]
    if isinstance(value, tuple):  # curves, one for each of the times
        shown = enumerate(zip(value, np.asarray(times), strict=True))
        return [Row(f"{name}[{k}]", curve(v, scale), unit, f"at {t:,.0f} s") for k, (v, t) in shown]
    if isinstance(value, Record) and not callable(value):
        return [Row(name, type(value).__name__, "", meaning), *rows(value, f"{name}.")]
    return [Row(name, curve(value, scale), unit, meaning)]


def curve(value: Any, scale: float) -> str:
    """Return a curve, or a number or numbers, as text; `scale` brings it to the unit shown."""
    if isinstance(value, Polynomial):
        parts = [f"{x * scale:.6g}" + ("", " u", f" u^{k}")[min(k, 2)] for k, x in enumerate(_each(value.coefficients))]
        return " + ".join(parts).replace("+ -", "− ")
    if isinstance(value, LogLinear):
        s, o, low, high = (f"{float(x) * scale:.6g}" for x in (value.slope, value.offset, value.low, value.high))
        return f"clip({s} ln u + {o}, {low}, {high})".replace("+ -", "− ")
    if isinstance(value, PowerLaw):
        floor, high = f"{float(value.floor):.6g}", f"{float(value.high) * scale:.6g}"
        return f"min({float(value.scale) * scale:.6g} / max(u^{float(value.exponent):.6g}, {floor}), {high})"
    if isinstance(value, Split):
        return f"u < {float(value.at):.6g}: {curve(value.below, scale)}; else: {curve(value.above, scale)}"
    if isinstance(value, SaturatingExponential):
        return f"{float(value.height) * scale:.6g} (1 − exp(−{float(value.rate):.6g} u))"
    if isinstance(value, Table):
        points = zip(_each(value.u), _each(value.values), strict=True)
        return "table over u: " + ", ".join(f"{u:.3g} → {v * scale:.6g}" for u, v in points)
    return repr(value) if callable(value) else ", ".join(f"{x * scale:.6g}" for x in _each(value))


def _each(value: Any) -> list[float]:
    return [float(x) for x in np.atleast_1d(np.asarray(value, np.float64))]
