"""Sphinx configuration. Build with `sphinx-build -W -b html docs docs/_build/html`."""

import re
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "anajax"
author = "the anajax authors"
copyright = author
release = version = metadata.version("anajax")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "_generated/*.md"]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"anajax {release}"

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False


def _literal(app, what, name, obj, options, lines):
    """Read docstrings as they are meant: `x` is code, indented formulas are literal, `|x|` and `*x` mean no markup."""
    out, previous, inside = [], "", None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indent < inside:
            inside = None
        before = len(previous) - len(previous.lstrip())
        if inside is None and line.strip() and out and not out[-1].strip() and indent >= before + 4:
            out += [" " * before + "::", ""]
            inside = indent
        if inside is None and not line.lstrip().startswith(">>>"):
            parts = re.split(r"(`[^`]*`)", line)
            line = "".join(
                f"`{p}`" if p.startswith("`") else re.sub(r"\||(?<=[ (])\*(?=\w)", r"\\\g<0>", p) for p in parts
            )
            line = re.sub(r"(?<=\w``)(?=[a-z])", r"\\", line)  # `name`s
        out.append(line)
        previous = line if line.strip() else previous
    lines[:] = out


def _fields(app, what, name, obj, options, lines):
    """Call the fields of a record its parameters: that is how they are given."""
    lines[:] = [line.replace(":ivar ", ":param ", 1) if line.startswith(":ivar ") else line for line in lines]


def _generate(app):
    import generate

    generate.main(HERE / "_generated")


def setup(app):
    app.connect("builder-inited", _generate)
    app.connect("autodoc-process-docstring", _literal, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", _fields, priority=900)  # after it
