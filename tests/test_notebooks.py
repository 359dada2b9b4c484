"""The notebooks run at reduced size, and what they keep is clean."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the client's own, on event loops and sockets
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install anajax[test]")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install anajax[test]")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install anajax[test]")
    import jax

    monkeypatch.setenv("ANAJAX_SMALL", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    # most of the time goes into compiling programs that run for an instant
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    if jax.config.jax_compilation_cache_dir:  # that of the tests
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
        monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_kept_with_clean_outputs(path):
    assert path.stat().st_size < 400_000
    cells = json.loads(path.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert any(c["outputs"] for c in code)
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", f"a warning was kept: {output['text']}"
            text = json.dumps({k: v for k, v in output.items() if k != "data"}) + json.dumps(
                [v for k, v in output.get("data", {}).items() if k.startswith("text")]
            )
            assert not re.search(r"/home/|/root|/tmp/|/usr/|[A-Z]:\\\\", text), f"a path was kept: {text[:200]}"
