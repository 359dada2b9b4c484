"""Where results come from: what stands in the attributes of every dataset."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from typing import Any

import jax
import numpy as np

from anajax.chips._folder import digest
from anajax.nn.checkpoints import is_key

#: title of what studies write
TITLE = "anajax study"


def provenance(hardware: Any) -> dict[str, str]:
    """Return the hardware with all its numbers, versions, git revision and platform."""
    return {
        "title": TITLE,
        "hardware": repr(hardware),
        "fields": json.dumps({name: np.asarray(leaf).tolist() for name, leaf in fields(hardware)}),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "revision": _revision(),
        "platform": jax.devices()[0].device_kind,
    }


def fields(hardware: Any) -> list[tuple[str, Any]]:
    """Return all numbers of the hardware, by path."""
    leaves = jax.tree_util.tree_flatten_with_path(hardware)[0]
    return [(jax.tree_util.keystr(path).lstrip("."), leaf) for path, leaf in leaves]


def fingerprint(tree: Any) -> str:
    """Return a fingerprint of all arrays."""
    leaves = [np.asarray(jax.random.key_data(a) if is_key(a) else a) for a in jax.tree.leaves(tree)]
    return digest(*(part for a in leaves for part in (f"{a.dtype}{a.shape}".encode(), a.tobytes())))


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {name: metadata.version(name) for name in ("anajax", "jax", "jaxlib", "flax", "numpy")}


def _revision() -> str:
    """Return the git revision of the working directory, or nothing where there is none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
