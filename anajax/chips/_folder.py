"""A folder that holds what a study has computed so far: whole chunks, and what they belong to."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np


class Folder:
    """Chunks of one study's results on disk; each is written whole or not at all, and carries a checksum.

    A folder is of one description: opened with another, it says what differs.
    """

    def __init__(self, path: str | Path, description: dict[str, Any]):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"folder must be a folder; {self.path} is a file")
        self.path.mkdir(parents=True, exist_ok=True)
        known = self.path / "study.json"
        if not known.exists():
            strange = [p.name for p in self.path.iterdir() if not p.name.endswith((".part", known.name))]
            if strange:
                raise ValueError(f"folder {self.path} holds no study, but {strange[0]!r}; take an empty one")
        self._mark = match(known, description).encode()

    def put(self, name: str, chunk: np.ndarray) -> None:
        """Keep a chunk."""
        buffer = io.BytesIO()
        np.save(buffer, chunk, allow_pickle=False)
        body = buffer.getvalue()
        write_whole(self._file(name), self._checksum(body) + body)

    def take(self, name: str) -> np.ndarray | None:
        """Return a chunk, or `None` where there is none that is whole."""
        try:
            data = self._file(name).read_bytes()
        except FileNotFoundError:
            return None
        length = len(self._checksum(b""))
        body = data[length:]
        if data[:length] != self._checksum(body):
            return None
        return np.load(io.BytesIO(body), allow_pickle=False)

    def _checksum(self, body: bytes) -> bytes:
        """Return the checksum of a chunk of this study: one of another is none."""
        return hashlib.sha256(self._mark + body).hexdigest().encode() + b"\n"

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.chunk"


def match(known: Path, description: dict[str, Any]) -> str:
    """Keep a description in a file, or raise where the file has another; return its fingerprint."""
    description = json.loads(json.dumps(description))
    if not known.exists():
        write_whole(known, json.dumps(description, indent=1).encode())
    try:
        old = json.loads(known.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{known} is not a study's description: {error}") from error
    differences = _differences(old, description)
    if [name for name, _, _ in differences] == ["chunk"]:
        raise ValueError(f"folder {known.parent} was begun with chunk={differences[0][1]}; go on with that")
    if differences:
        shown = "; ".join(f"{name}: {_short(a)} there, {_short(b)} here" for name, a, b in differences[:5])
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise ValueError(f"folder {known.parent} holds another study ({shown}{more}); take a new folder for this one")
    return digest(json.dumps(description, sort_keys=True).encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing, whenever this process dies."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def digest(*parts: bytes) -> str:
    """Return a short fingerprint."""
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def _differences(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = dict.fromkeys([*old, *new])
        return [d for n in names for d in _differences(old.get(n), new.get(n), f"{name}.{n}" if name else n)]
    return [] if old == new else [(name, old, new)]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"
