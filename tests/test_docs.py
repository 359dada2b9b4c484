"""The documentation says what there is, and what it shows runs."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import anajax.devices.presets

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if not {"_build", "_generated"} & set(p.parts))
PACKAGES = (  # re-export what is public
    "anajax",
    "anajax.devices",
    "anajax.devices.presets",
    "anajax.devices.memristor",
    "anajax.fit",
    "anajax.arrays",
    "anajax.nn",
    "anajax.optim",
    "anajax.cost",
    "anajax.chips",
    "anajax.plot",
)
MODULES = (
    "anajax.presets",
    "anajax.devices.conduction",
    "anajax.data",
    "anajax.imports",
    "anajax.testing",
    "anajax.cost.presets",
)


def public_names():
    """Yield `(full name, object)` of what users are offered."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        source = Path(package.__file__).read_text()
        for public in re.findall(r"^from [\w.]+ import (\w+) as \1$", source, re.M):
            if not inspect.ismodule(value := getattr(package, public)):
                yield f"{name}.{public}", value
    for name in MODULES:
        module = importlib.import_module(name)
        for public, value in vars(module).items():
            own = getattr(value, "__module__", None) == name
            if own and not public.startswith("_") and (inspect.isclass(value) or callable(value)):
                yield f"{name}.{public}", value


#: pages whose code runs in the default suite; that of others is slow
AT_ONCE = ("README", "index", "rram_sb")


def blocks(page):
    """Return `(language, code)` of every python and pycon block of a Markdown page."""
    return re.findall(r"^```(python|pycon)\n(.*?)^```$", page.read_text(), re.M | re.S)


def test_the_list_of_public_names_is_not_empty():
    names = [n for n, _ in public_names()]
    assert {"anajax.Hardware", "anajax.arrays.mvm", "anajax.nn.Linear", "anajax.chips.evaluate"} <= set(names)
    assert len(names) == len(set(names)) > 80


@pytest.mark.parametrize("name", [n for n, _ in public_names()])
def test_public_name_is_documented(name):
    value = dict(public_names())[name]
    text = value.__doc__
    assert text, f"{name} has no docstring"
    assert not text.startswith(f"{name.rpartition('.')[2]}("), f"{name} has no docstring but a dataclass's own"
    api = "\n".join(p.read_text() for p in (DOCS / "api").glob("*.md"))
    assert re.search(rf"^\.\. (?:auto\w+|py:data):: {re.escape(name)}$", api, re.M), f"{name} is missing in docs/api"


def test_api_pages_name_nothing_that_is_gone():
    api = "\n".join(p.read_text() for p in (DOCS / "api").glob("*.md"))
    for name in re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)$", api, re.M):
        module, _, rest = name.rpartition(".")
        while module not in (*PACKAGES, *MODULES):
            module, _, part = module.rpartition(".")
            rest = f"{part}.{rest}"
        value = importlib.import_module(module)
        for part in rest.split("."):
            value = getattr(value, part)


def test_every_device_preset_has_a_page():
    presets = {n for n, f in vars(anajax.devices.presets).items() if inspect.isfunction(f)}
    assert {"pcm", "ecram", "pcm_3t1c"} <= presets
    index = (DOCS / "devices" / "index.md").read_text()
    for name in presets:
        page = DOCS / "devices" / f"{name}.md"
        assert page.exists(), f"docs/devices has no page of {name}"
        assert f"_generated/{name}.png" in page.read_text()
        assert re.search(rf"^{name}$", index, re.M), f"docs/devices/index.md does not list {name}"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=() if p.stem in AT_ONCE else pytest.mark.slow, id=p.relative_to(ROOT).as_posix())
        for p in (ROOT / "README.md", *PAGES)
        if p.exists() and blocks(p)
    ],
)
def test_code_of_page_runs(page, tmp_path, monkeypatch):
    """Run the blocks of one page in order: ```python is executed, ```pycon must print what it shows."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for language, code in blocks(page):
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
            continue
        failures = []
        test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), 0)
        doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(
            test, out=failures.append, clear_globs=False
        )
        assert not failures, "".join(failures)
        names = test.globs


def test_guides_show_code_that_runs():
    for name in ("quickstart", "concepts", "hardware", "gradients", "coming_from_aihwkit"):
        assert blocks(DOCS / "guide" / f"{name}.md"), f"docs/guide/{name}.md shows no code"


def test_docs_have_no_machine_paths_and_no_package_indices():
    here, homes = re.escape(ROOT.as_posix()), "home|root|tmp|Users"
    local = re.compile(rf"{here}|/(?:{homes})/|[A-Z]:\\\\|/simple\b|pypi\.|index.url|files\.pythonhosted")
    sources = [*PAGES, *DOCS.glob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    for source in sources:
        found = local.search(source.read_text())
        assert found is None, f"{source.relative_to(ROOT)} has {found[0]!r}"


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx", reason="the docs extra is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
