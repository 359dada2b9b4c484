"""A configuration that is read piece by piece, and knows what nobody has asked for."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any


class Table:
    """A part of a configuration, which knows what of it has been used, and why the rest is not."""

    def __init__(self, table: Any, path: str, base: Mapping[str, Any] | None = None, named: bool = False):
        if dataclasses.is_dataclass(table) and not isinstance(table, type):
            fields = {f.name: getattr(table, f.name) for f in dataclasses.fields(table)}
            table = {"class": type(table).__name__} | fields  # parts keep their own classes
        if isinstance(table, str) and named:
            table = {"class": table}
        if not isinstance(table, Mapping):
            raise ValueError(f"{path or 'config'} must be a table; got {table!r}")
        self.path, self.unused = path, dict(base or {}) | dict(table)
        self.why: dict[str, str] = {}

    def name(self, key: str) -> str:
        """Return the path of a setting."""
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str, default: Any) -> Any:
        """Return a setting as it is, and count it as used."""
        return self.unused.pop(key, default)

    def number(self, key: str, default: float) -> float:
        """Return a finite number."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{self.name(key)} must be a finite number; got {value!r}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return whether a setting is true."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.name(key)} must be true or false; got {value!r}")
        return value

    def choice(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        """Return the one of the names allowed that a name, a value or a member of an enumeration means."""
        value = self.take(key, default)
        plain = value.name if isinstance(value, enum.Enum) else value
        found = {_plain(a): a for a in allowed}.get(_plain(plain)) if isinstance(plain, str) else None
        if found is None:
            raise ValueError(f"{self.name(key)} must be one of {', '.join(allowed)}; got {value!r}")
        return found

    def lacks(self, key: str, default: Any, why: str) -> None:
        """Take a setting that has no counterpart, and note it where it is not the default."""
        if self.take(key, default) != default:
            self.why[self.name(key)] = why

    def left(self) -> dict[str, str]:
        """Return what has no counterpart, by its path, and why."""
        return self.why | {self.name(key): "has no counterpart" for key in self.unused if key != "class"}


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def class_of(table: Any, name: str) -> Any:
    """Return the class of a table, or the name that stands for one without settings."""
    if isinstance(table, str):
        return table
    if isinstance(table, Mapping):
        return table.get("class")
    if hasattr(table, "__dict__"):
        return type(table).__name__
    raise ValueError(f"{name} must be a table with a class, or its name; got {table!r}")
