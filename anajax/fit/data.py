"""Measured data from CSV files, with errors that say which line is wrong."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np


class PulseData(NamedTuple):
    """What `pulse_response` and `population` take.

    Attributes:
      directions: 1 or -1 for each pulse, `[n]`.
      responses: what was read after each, `[cells, n]`.
      conductance: whether that is a conductance [S] rather than a state.
    """

    directions: np.ndarray
    responses: np.ndarray
    conductance: bool


class SweepData(NamedTuple):
    """What `conduction` and `poole_frenkel_population` take.

    Attributes:
      v: voltages [V], `[n]`.
      i: currents [A], `[sweeps, n]`.
    """

    v: np.ndarray
    i: np.ndarray


class RetentionData(NamedTuple):
    """What `drift` and `drift_table` take.

    Attributes:
      times: times [s], `[n]`.
      g: conductances [S], `[cells, n]`.
    """

    times: np.ndarray
    g: np.ndarray


# what a file may hold: column of what was done, columns of what was measured, column that tells series apart
_KINDS = (
    (("pulse", "direction"), ("conductance_S", "state"), "cell"),
    (("voltage_V",), ("current_A",), "sweep"),
    (("time_s",), ("conductance_S",), "cell"),
)


def read_csv(path: str | PathLike[str]) -> PulseData | SweepData | RetentionData:
    """Read measured data: comma-separated values with a header line, in any order of columns.

    | columns | optional | what it is |
    | --- | --- | --- |
    | `pulse` (or `direction`), `conductance_S` or `state` | `cell` | response after each pulse, 1 up or -1 down |
    | `voltage_V`, `current_A` | `sweep` | I-V sweeps |
    | `time_s`, `conductance_S` | `cell` | retention |

    Empty lines and what follows a `#` are left out. Cells and sweeps are named by anything; each has its lines in
    order, and all have the same pulses, voltages or times.

    Args:
      path: the file.

    Returns:
      `PulseData`, `SweepData` or `RetentionData`, by its columns.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming file, line, column, value and what is allowed.
    """
    path = Path(path)
    lines = _lines(path)
    number, header = next(lines, (1, []))
    done, seen, series = _columns(path, number, header)
    steps: dict[str, list[float]] = {}
    reads: dict[str, list[float]] = {}
    for number, row in lines:
        if len(row) != len(header):
            raise ValueError(f"{path}, line {number}: must have {len(header)} values, like the header; got {len(row)}")
        named = dict(zip(header, row, strict=True))
        name = named.get(series, "")
        steps.setdefault(name, []).append(_number(path, number, done, named[done]))
        reads.setdefault(name, []).append(_number(path, number, seen, named[seen]))
    if not steps:
        raise ValueError(f"{path}: must have data below its header; got none")
    first, x = next(iter(steps.items()))
    for name, own in steps.items():
        if len(own) != len(x):
            raise ValueError(
                f"{path}, column {series!r}: all must have as many lines;"
                f" got {len(x)} of {first!r} and {len(own)} of {name!r}"
            )
        if own != x:
            k = next(k for k, (a, b) in enumerate(zip(x, own, strict=True)) if a != b)
            raise ValueError(
                f"{path}, column {done!r}: all of column {series!r} must have the same;"
                f" got {x[k]:g} of {first!r} and {own[k]:g} of {name!r} in their line {k + 1}"
            )
    at, values = np.array(x), np.array(list(reads.values()))
    if done == "voltage_V":
        return SweepData(at, values)
    return RetentionData(at, values) if done == "time_s" else PulseData(at, values, seen == "conductance_S")


def siemens(g: np.ndarray, name: str) -> None:
    """Raise for conductances beyond 1 S, which no memory cell has: they are in another unit."""
    if np.max(g) > 1:
        raise ValueError(f"{name} must be conductances in siemens, less than 1 S; got {np.max(g):g}: another unit?")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield `(number, values)` of each line that has any."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be text in UTF-8; got byte {error.object[error.start]:#x}") from error
    for number, line in enumerate(text.splitlines(), 1):
        kept = line.partition("#")[0].strip()
        if kept:
            yield number, [value.strip() for value in next(csv.reader([kept]))]


def _columns(path: Path, number: int, header: list[str]) -> tuple[str, str, str]:
    """Return the names of the columns: what was done, what was measured, and which series it is of."""
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"{path}, line {number}: columns must differ; got {twice!r} twice")
    for done, seen, series in _KINDS:
        steps, reads = [n for n in done if n in header], [n for n in seen if n in header]
        if not steps:
            continue
        if len(steps) > 1 or len(reads) != 1:
            allowed = " or ".join(map(repr, seen))
            raise ValueError(f"{path}, line {number}: beside {steps[0]!r} there must be one {allowed}; got {header}")
        if unknown := set(header) - {*steps, *reads, series}:
            raise ValueError(
                f"{path}, line {number}: columns must be {steps[0]}, {reads[0]} and perhaps {series};"
                f" got {', '.join(sorted(unknown))} too"
            )
        return steps[0], reads[0], series
    allowed = " or ".join(repr(name) for done, _, _ in _KINDS for name in done)
    raise ValueError(f"{path}, line {number}: the header must have a column {allowed}; got {header}")


def _number(path: Path, line: int, column: str, text: str) -> float:
    """Return a value of a column."""
    allowed = "1 or -1" if column in ("pulse", "direction") else "a finite number"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (allowed == "1 or -1" and value not in (1.0, -1.0)):
        raise ValueError(f"{path}, line {line}, column {column!r}: must be {allowed}; got {text!r}")
    return value
