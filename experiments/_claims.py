"""What experiments after papers share: their options, and claims that end them with status 1 if one does not hold."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats


def options(doc: str, sizes: Iterable[str], name: str) -> argparse.ArgumentParser:
    """Return a parser for the size, where the figure goes, and where the data are."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--size", choices=sizes, default="short")
    parser.add_argument("--out", type=Path, default=Path(f"{name}.png"))
    parser.add_argument("--data-dir", default=None, help="folder of tensorflow-datasets")
    return parser


class Claims:
    """Claims of one experiment; in a smoke run they are printed, and not held against it."""

    def __init__(self, binding: bool):
        self.binding, self.failed = binding, []

    def check(self, claim: str, holds: Any, figures: str) -> None:
        """Note a claim, whether it holds, and the figures that say so."""
        print(f"  {'holds' if holds else 'DOES NOT HOLD':14s}{claim}: {figures}")
        if not holds:
            self.failed.append(claim)

    def above(self, claim: str, differences: Any, least: float = 0.0, unit: str = "%") -> None:
        """Claim that the mean of paired differences is above `least`, by the lower end of its 95 % interval."""
        mean, half = interval(differences)
        self.check(claim, mean - half > least, f"{mean:.2f} ± {half:.2f} {unit}")

    def end(self) -> None:
        """Leave with status 1 where a claim of a binding run did not hold."""
        if self.failed and self.binding:
            sys.exit(f"{len(self.failed)} claims do not hold: {'; '.join(self.failed)}")


def interval(values: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Return the mean of values, and half of its interval by Student's t."""
    values = np.asarray(values, float).ravel()
    wide = stats.t.ppf((1 + confidence) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean()), float(wide)
