"""Every experiment runs at a small size."""

import importlib.util
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
    "update_orders.py": ["--quick"],
    "best_steps.py": ["--quick"],
    "sensitivity.py": ["--chips", "2", "--epochs", "2", "--images", "20"],
    "rasch_2023.py": ["--size", "smoke"],
    "mehonic_2019.py": ["--size", "smoke"],
    "ambrogio_2018.py": ["--size", "smoke"],
    "joksas_2020.py": ["--size", "smoke"],
    "joksas_2022.py": ["--size", "smoke"],
    "joshi_2020.py": ["--size", "smoke"],
    "speech_detector.py": ["--size", "smoke"],
    "design_by_gradient.py": ["--steps", "4", "--epochs", "2", "--judges", "4"],
}
AT_ONCE = ("mvm_error.py", "ageing_chips.py")  # the others are slow
# test_experiment_results.py runs these
AT_LENGTH = ("in_situ_mnist.py", "unit_cell.py", "weight_programming.py", "error_floor.py")


def test_every_experiment_has_a_small_size():
    assert {p.name for p in EXPERIMENTS.glob("[!_]*.py")} == {*SMALL, *AT_LENGTH}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in AT_ONCE else pytest.mark.slow) for n in SMALL])
def test_experiment(name, tmp_path, monkeypatch, capsys):
    if name == "speech_detector.py":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install anajax[speech]")
        if importlib.util.find_spec("silero_vad") is None:
            pytest.skip("silero-vad is not installed: pip install --no-deps silero-vad")
    monkeypatch.syspath_prepend(EXPERIMENTS)
    picture = tmp_path / "figure.png"
    monkeypatch.setattr(sys, "argv", [name, *SMALL[name], "--out", str(picture)])
    runpy.run_path(str(EXPERIMENTS / name), run_name="__main__")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "figure:" in capsys.readouterr().out
