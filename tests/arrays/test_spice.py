"""Netlists of arrays: what they say, and that ngspice finds the currents that `solve` finds."""

import itertools
import math
import re
import shutil
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from anajax.arrays import Wires, solve, to_spice
from anajax.devices import conduction, curves
from anajax.devices.conduction import Conduction, record

pytestmark = pytest.mark.usefixtures("x64")

LAWS = {
    "ohmic": lambda: None,
    "sinh": lambda: conduction.Sinh(v_0=0.2, v_ref=0.1),
    "power": lambda: conduction.Power(gamma=3.0, v_ref=0.5),
    "power of one": lambda: conduction.Power(v_ref=0.5),
    "poole-frenkel": lambda: conduction.PooleFrenkel(d_eps=2e-17, v_ref=0.1),
    "population": lambda: conduction.siox_high_resistance().replace(std_c=0.2, std_d=0.3, correlation=-0.4),
    "cubic": conduction.cubic,
    "milo": conduction.milo_rram,
}
WIRES = {
    "single": {"word_line": 2.0, "bit_line": 3.0},
    "terminals": {"word_line": 2.0, "bit_line": 3.0, "driver": 50.0, "sense": 20.0},
    "double": {"word_line": 1.0, "bit_line": 2.0, "far_driver": 5.0, "driver": 2.0, "far_sense": 3.0},
    "double without terminals": {"word_line": 1.0, "bit_line": 2.0, "far_driver": 0.0, "far_sense": 0.0},
    "ideal": {"word_line": 0.0, "bit_line": 0.0},
    "ideal lines": {"word_line": 0.0, "bit_line": 0.0, "driver": 5.0, "sense": 9.0, "far_driver": 4.0},
    "transistors": {"word_line": 2.0, "bit_line": 3.0, "select": 500.0},
    "ideal words": {"word_line": 0.0, "bit_line": 7.0, "far_sense": 0.0},
}


@record
class Bare(Conduction):
    def current(self, g, v, scores=None):
        return g * v**3


@record
class Incomplete(Bare):
    def spice(self, g, scores=None):
        return "{c} * {v} * {v} * {v} / {d}", {"c": g}


@record
class Infinite(Bare):
    def spice(self, g, scores=None):
        return "{c} * {v} * {v} * {v}", {"c": g / 0.0}


def array(seed, rows, cols, absent=0.1):
    rng = np.random.default_rng(seed)
    g = np.exp(rng.uniform(np.log(1e-6), np.log(1e-4), (rows, cols)))
    names = conduction.siox_high_resistance().life_scores
    scores = {name: jnp.asarray(rng.normal(size=g.shape)) for name in names}
    g = np.where(rng.uniform(size=g.shape) < absent, 0.0, g)
    return g, rng.uniform(-0.5, 0.5, rows), rng.uniform(-0.1, 0.1, cols), scores


# -- what they say -----------------------------------------------------------------------------------------------------


def elements(netlist):
    """Return name -> the rest of the line, of every element."""
    lines = netlist.partition(".options")[0].splitlines()[1:]
    found = dict(line.split(" ", 1) for line in lines)
    assert len(found) == len(lines)
    return found


def test_the_netlist_of_a_small_array():
    wires = Wires(word_line=[[1.0, 2.0]], bit_line=[[3.0], [4.0]], driver=[10.0, 20.0], sense=30.0)
    netlist = to_spice([[1e-3, 2e-3], [0.0, 4e-3]], [0.1, -0.2], wires, bit_voltage=[0.0, 0.5], title="two by two")
    assert netlist.startswith("two by two\nvin0 ")
    assert elements(netlist) == {
        "vin0": "in0 0 0.1",
        "vin1": "in1 0 -0.2",
        "vout0": "out0 0 0.0",
        "vout1": "out1 0 0.5",
        "rw0_0": "in0 w0_0 11.0",
        "rw0_1": "w0_0 w0_1 2.0",
        "rw1_0": "in1 w1_0 21.0",
        "rw1_1": "w1_0 w1_1 2.0",
        "rb1_0": "out0 b1_0 34.0",
        "rb0_0": "b1_0 b0_0 3.0",
        "rb1_1": "out1 b1_1 34.0",
        "rb0_1": "b1_1 b0_1 3.0",
        "rcell0_0": "w0_0 b0_0 1000.0",
        "rcell0_1": "w0_1 b0_1 500.0",
        "rcell1_1": "w1_1 b1_1 250.0",
    }
    assert netlist.endswith("print i(vout0)\nprint i(vout1)\nquit 0\n.endc\n.end\n")


def test_far_ends_return_to_the_terminals():
    wires = Wires(word_line=1.0, bit_line=2.0, far_driver=3.0, far_sense=[5.0, 6.0])
    found = elements(to_spice([[1e-3, 1e-3]], [0.1], wires))
    assert found["rfar_in0"] == "w0_1 in0 4.0"
    assert (found["rfar_out0"], found["rfar_out1"]) == ("b0_0 out0 7.0", "b0_1 out1 8.0")


def test_nodes_without_resistance_between_them_are_one():
    wires = Wires(word_line=[[0.0, 5.0, 0.0]], bit_line=0.0, far_sense=2.0)
    found = elements(to_spice([[1e-3, 1e-3, 1e-3]], [0.1], wires))
    assert {name: line for name, line in found.items() if name[0] == "r"} == {
        "rw0_1": "in0 w0_1 5.0",
        "rcell0_0": "in0 out0 1000.0",
        "rcell0_1": "w0_1 out1 1000.0",
        "rcell0_2": "w0_1 out2 1000.0",
    }


@pytest.mark.parametrize("law", [name for name in LAWS if name != "ohmic"])
def test_the_expression_of_a_law_is_its_current(law):
    law = LAWS[law]()
    g, _, _, scores = array(0, 3, 4, absent=0.0)
    expression, numbers = law.spice(g, scores)
    known = {"sinh": math.sinh, "exp": math.exp, "sqrt": math.sqrt, "abs": abs}
    known["pwr"] = lambda x, y: math.copysign(abs(x) ** y, x)
    for v in (-0.4, 0.0, 0.03, 0.5):
        for at in np.ndindex(g.shape):
            values = {name: float(np.broadcast_to(x, g.shape)[at]) for name, x in numbers.items()}
            found = eval(expression.format(v=f"({v})", **values), known)
            score = {name: x[at] for name, x in scores.items()}
            assert found == pytest.approx(float(law.current(g[at], v, score)), rel=1e-13)


def test_a_linear_law_is_resistors_by_its_slope():
    law = conduction.Polynomial(coefficients=(curves.Polynomial(coefficients=(0.0, 2.0)),), orders=(1,))
    netlist = to_spice([[1e-3]], [0.1], Wires(word_line=0.0, bit_line=0.0), law)
    assert elements(netlist)["rcell0_0"] == "in0 out0 500.0"
    assert conduction.Ohmic().spice(1e-3) == ("{g} * {v}", {"g": 1e-3})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"g": [1.0, 2.0]}, ValueError, r"g must have shape \(rows, cols\); got \(2,\)"),
        ({"g": [[1.0, -2.0]]}, ValueError, "g must be at least 0; got -2"),
        ({"v": [[1.0]]}, ValueError, r"v must have shape \(rows\) with rows=1; got \(1, 1\)"),
        ({"v": [np.inf]}, ValueError, "v must be finite; got inf"),
        ({"bit_voltage": [0.0] * 3}, ValueError, r"bit_voltage must be a number or have shape \(2,\)"),
        ({"scores": {"xi": jnp.ones(2)}}, ValueError, r"scores\['xi'\] must have shape"),
        ({"title": "two\nlines"}, ValueError, r"title must be one line of text; got 'two\\nlines'"),
        ({"title": " "}, ValueError, "title must be one line of text; got ' '"),
        ({"conduction": Bare()}, NotImplementedError, r"Bare has no spice\(g, scores\): define it to return"),
        ({"conduction": Incomplete()}, ValueError, r"Incomplete.spice\(\) must give each .*\['d'\] are missing"),
        ({"conduction": Infinite()}, ValueError, r"Infinite.spice\(\)\['c'\] must be finite; got inf"),
        ({"wires": Wires(word_line=0.0, bit_line=0.0, far_driver=0.0)}, ValueError, "Wires.far_driver must be pos"),
    ],
)
def test_errors(change, error, message):
    arguments = {"g": [[1.0, 2.0]], "v": [1.0], "wires": Wires(word_line=1.0, bit_line=1.0)} | change
    with pytest.raises(error, match=message):
        to_spice(**arguments)


# -- what ngspice makes of them ----------------------------------------------------------------------------------------

ngspice = pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")


def compare(path, g, v, wires, law=None, **options):
    """Run the netlist; demand every current of `solve` to 1e-9 of the largest. Return the currents."""
    (path / "array.cir").write_text(to_spice(g, v, wires, law, **options))
    done = subprocess.run(["ngspice", "-b", "array.cir"], cwd=path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(re.findall(r"^i\(vout(\d+)\) = (\S+)$", done.stdout, re.M))
    currents = np.array([float(found[str(j)]) for j in range(g.shape[1])])
    right = np.asarray(solve(g, v, wires, law, dtype="float64", **options).currents)
    np.testing.assert_allclose(currents, right, rtol=0, atol=1e-9 * np.abs(right).max())
    return currents


@ngspice
@pytest.mark.parametrize("wires", WIRES)
@pytest.mark.parametrize("law", LAWS)
def test_ngspice_agrees(tmp_path, law, wires):
    g, v, sink, scores = array(1, 6, 5)
    law = LAWS[law]()
    currents = compare(tmp_path, g, v, Wires(**WIRES[wires]), law, bit_voltage=sink, scores=scores)
    assert np.abs(currents).max() > 1e-7


@ngspice
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (3, 12), (16, 16), (32, 24)])
@pytest.mark.parametrize("law", ["ohmic", "sinh"])
def test_ngspice_agrees_on_any_shape(tmp_path, law, shape):
    g, v, sink, _ = array(2, *shape, absent=0.0)
    rng = np.random.default_rng(3)
    rows, cols = shape
    wires = Wires(
        word_line=rng.uniform(0, 5, (rows, cols + 1)) * (rng.uniform(size=(rows, cols + 1)) > 0.3),
        bit_line=rng.uniform(0, 5, (rows + 1, cols)) * (rng.uniform(size=(rows + 1, cols)) > 0.3),
        driver=rng.uniform(0, 9, rows),
        sense=rng.uniform(0, 9, cols),
        far_driver=rng.uniform(1, 9, rows),
        far_sense=rng.uniform(1, 9, cols),
    )
    compare(tmp_path, g, v, wires, LAWS[law](), bit_voltage=sink)


@ngspice
def test_ngspice_agrees_on_the_published_case(tmp_path):
    """The 5 x 4 resistors that badcrossbar checks against Qucs."""
    g = 1 / (10.0 * np.arange(1, 21).reshape(5, 4))
    currents = compare(tmp_path, g, np.arange(5.0), Wires(word_line=1.0, bit_line=2.0))
    published = [0.0605701966511014, 0.0593276107167478, 0.0563487388292533, 0.0533523545751015]
    np.testing.assert_allclose(currents, published, rtol=1e-11)


@ngspice
def test_ngspice_agrees_on_steep_cells_and_on_dead_arrays(tmp_path):
    """Slopes that rise by ten orders of magnitude; and nothing at all, where every current is zero."""
    g, v, _, _ = array(4, 8, 8)
    wires = Wires(word_line=40.0, bit_line=40.0)
    compare(tmp_path, 1e-3 * g, v, wires, conduction.Sinh(v_0=0.02))
    for nothing in ((0 * g, v), (g, 0 * v)):
        np.testing.assert_array_equal(compare(tmp_path, *nothing, wires, conduction.Sinh(v_0=0.2)), 0)


@ngspice
@pytest.mark.slow
@pytest.mark.parametrize(("law", "wires"), list(zip(LAWS, itertools.cycle(["terminals", "double"]), strict=False)))
def test_ngspice_agrees_on_large_arrays(tmp_path, law, wires):
    g, v, sink, scores = array(5, 64, 64)
    compare(tmp_path, g, v, Wires(**WIRES[wires]), LAWS[law](), bit_voltage=sink, scores=scores)
