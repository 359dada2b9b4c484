"""How experiments end: a figure, and the numbers in it beside it."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def save(figure: Figure, out: str | Path, numbers: Any = None) -> None:
    """Write the figure to `out`, and numbers to a JSON file of the same name."""
    figure.savefig(out, dpi=150)
    if numbers is not None:
        Path(out).with_suffix(".json").write_text(json.dumps(numbers, indent=1))
    print(f"figure: {out}")
