"""Every experiment runs at a small size."""

import runpy
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SMALL = {
    "mvm_error.py": ["--chips", "2"],
    "ageing_chips.py": ["--chips", "3", "--steps", "60"],
    "fault_gradients.py": ["--quick"],
    "fit_device.py": ["--quick"],
    "memristor_loops.py": ["--quick"],
    "memristor_solvers.py": ["--quick"],
    "wires.py": ["--quick"],
}


def test_every_experiment_has_a_small_size():
    assert {p.name for p in EXPERIMENTS.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_experiment(name, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "figure.png"
    monkeypatch.setattr(sys, "argv", [name, *SMALL[name], "--out", str(picture)])
    runpy.run_path(str(EXPERIMENTS / name), run_name="__main__")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "figure:" in capsys.readouterr().out
