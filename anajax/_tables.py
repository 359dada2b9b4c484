"""Records from the tables of a TOML file, by the names that they have in Python. Nothing of a file is executed."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from anajax import arrays, devices, presets
from anajax._record import Record


def build(table: Any, where: str, start: Any = None) -> Any:
    """Return the record that a table describes.

    Args:
      table: `{type = "ADC", bits = 6}` is a record of `anajax.arrays` or `anajax.devices`, and `{preset = "pcm"}` what
        that function of `anajax.presets` or `anajax.devices.presets` makes of its `arguments`; other keys are fields.
        Without both, what is at `start` with these fields. A table in a table is a part; `false` is `None`.
      where: name of the table, for errors.
      start: record to replace fields of.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{where} must be a table; got {table!r}")
    fields = dict(table)
    kind, preset, arguments = (fields.pop(name, None) for name in ("type", "preset", "arguments"))
    if kind is not None and preset is not None:
        raise ValueError(f"{where} must have a type or a preset; got both")
    if arguments is not None and preset is None:
        raise ValueError(f"{where} has arguments, which only a preset takes")
    try:
        if kind is not None:
            cls = _named(_types(), kind, f"{where}.type")
            return cls(**_fields(fields, where, cls, cls))
        if preset is not None:
            given = {n: _value(v, f"{where}.arguments.{n}") for n, v in (arguments or {}).items()}
            start = _named(_presets(), preset, f"{where}.preset")(**given)
        if not isinstance(start, Record):
            keys = ", ".join(table) or "nothing"
            raise ValueError(f"{where} must have a type or a preset, as nothing is there to change; got {keys}")
        return start.replace(**_fields(fields, where, type(start), start))
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _fields(table: Mapping[str, Any], where: str, cls: Any, now: Any) -> dict[str, Any]:
    """Return the fields of a record; `now` has those that it starts from."""
    static = {f.name for f in dataclasses.fields(cls) if f.metadata.get("static")}
    known = [f.name for f in dataclasses.fields(cls)]
    for n, value in table.items():
        if n not in known:
            raise ValueError(f"{where} has no field {n!r}; {meant(n, known)}")
        if isinstance(value, str | bool) and value is not False and n not in static:
            raise ValueError(f"{where}.{n} must be a number, a table with a type or a preset, or false; got {value!r}")
    values = {n: _value(v, f"{where}.{n}", getattr(now, n, None)) for n, v in table.items()}
    return {n: tuple(v) if n in static and isinstance(v, list) else v for n, v in values.items()}


def _value(value: Any, where: str, now: Any = None) -> Any:
    if isinstance(value, Mapping):
        return build(value, where, now)
    if isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        return tuple(build(v, f"{where}[{k}]") for k, v in enumerate(value))
    return None if value is False and not isinstance(now, bool) else value


def _named(known: Mapping[str, Any], name: Any, where: str) -> Any:
    if name not in known:
        raise ValueError(f"{where} is {name!r}, which there is not; {meant(name, known)}")
    return known[name]


def meant(name: Any, known: Iterable[str]) -> str:
    """Return what a name that is not known may have meant."""
    close = difflib.get_close_matches(str(name), known, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"it may be {', '.join(sorted(known))}"


def _types() -> dict[str, type[Record]]:
    every = {**vars(arrays), **vars(devices)}
    return {n: c for n, c in every.items() if inspect.isclass(c) and issubclass(c, Record) and c is not Record}


def _presets() -> dict[str, Any]:
    every = {**vars(devices.presets), **vars(presets)}
    return {n: f for n, f in every.items() if inspect.isfunction(f) and not n.startswith("_")}
