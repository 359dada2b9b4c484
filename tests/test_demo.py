"""The console command, end to end at a small size."""

import subprocess
import sys

import numpy as np
import pytest

from anajax import chips, cli


def test_demo_prints_a_table_and_saves_figure_and_numbers(tmp_path, capsys):
    cli.main(["demo", "--quick", "--chips", "4", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    for word in ("4 chips of PCM, digits", "HWA", "plain", "1 year", "yield", "study.nc", "accuracy.png"):
        assert word in printed
    study = chips.load(tmp_path / "out" / "study.nc")
    assert dict(study.sizes) == {"network": 2, "compensation": 2, "chip": 4, "time": 5}
    assert bool((study["digital"] > 0.9).all())
    assert float(study["accuracy"].min()) > 0.5
    assert np.isfinite(study["accuracy"]).all()
    assert (tmp_path / "out" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dataset", "mnist", "--data-dir", "{tmp}"], "mnist is not prepared"),
        (["--chips", "1"], "chips must be at least 2"),
    ],
)
def test_demo_errors_are_one_line(tmp_path, args, message):
    with pytest.raises(SystemExit) as error:
        cli.main(["demo", *(a.format(tmp=tmp_path) for a in args)])
    text = str(error.value)
    assert text.startswith("anajax: ")
    assert message in text or all(word in text for word in message.split())


def test_ground_floors_import_neither_flax_nor_matplotlib():
    """`import anajax` costs little more than `import jax`."""
    code = (
        "import sys, anajax, anajax.devices, anajax.arrays;"
        "print([m for m in ('flax', 'diffrax', 'matplotlib', 'xarray', 'optax', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_floors_import_only_from_below():
    """devices <- arrays <- nn <- chips: no floor imports from one above it."""
    from pathlib import Path

    import anajax

    root = Path(anajax.__file__).parent
    above = {"devices": ("arrays", "nn", "chips"), "arrays": ("nn", "chips"), "nn": ("chips",)}
    for floor, others in above.items():
        for file in (root / floor).glob("*.py"):
            text = file.read_text()
            for other in others:
                assert f"anajax.{other}" not in text.split('"""', 2)[2], (file.name, other)
                assert f"from anajax import {other}" not in text, (file.name, other)
