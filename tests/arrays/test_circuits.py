"""Crossbars with resistive wires: closed forms, an independent nodal solver, published cases, derivatives."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from nodal import nodal

from anajax.arrays import IRDrop, Wires, effective_matrix, solve
from anajax.arrays.circuits.linear import solve_linear
from anajax.devices import conduction, curves
from anajax.devices.memristor import VTEAM

pytestmark = pytest.mark.usefixtures("x64")

# 5 x 4 resistors of 10, 20 ... 200 ohm, word segments of 1 ohm, bit segments of 2 ohm: the case that badcrossbar
# checks against Qucs, and ours against ngspice, with what terminals of 3 ohm change
RESISTORS = 1 / (10.0 * np.arange(1, 21).reshape(5, 4))
PUBLISHED = [
    ({}, [0.0605701966511014, 0.0593276107167478, 0.0563487388292533, 0.0533523545751015]),
    ({"driver": 3.0}, [0.05853972, 0.05639132, 0.05321258, 0.05021919]),
    ({"sense": 3.0}, [0.05065103, 0.05150688, 0.04997129, 0.04798265]),
]

LAWS = {
    "ohmic": conduction.Ohmic,
    "sinh": lambda: conduction.Sinh(v_0=0.2),
    "cubic": conduction.cubic,
    "poole-frenkel": conduction.siox_high_resistance,
    "power": lambda: conduction.Power(gamma=3.0, v_ref=0.5),
}


def array(seed, rows, cols, low=1e-6, high=1e-4, absent=0.0):
    rng = np.random.default_rng(seed)
    g = np.exp(rng.uniform(np.log(low), np.log(high), (rows, cols)))
    return np.where(rng.uniform(size=g.shape) < absent, 0.0, g), rng.uniform(-0.5, 0.5, rows)


@pytest.mark.parametrize(("terminals", "currents"), PUBLISHED)
def test_published_case(terminals, currents):
    found = solve(RESISTORS, np.arange(5.0), Wires(word_line=1.0, bit_line=2.0, **terminals)).currents
    np.testing.assert_allclose(found, currents, rtol=1e-7 if terminals else 1e-11)


def test_one_cell_is_five_resistors_in_series():
    wires = Wires(word_line=3.0, bit_line=5.0, driver=7.0, sense=11.0)
    np.testing.assert_allclose(solve([[1e-3]], [0.4], wires).currents, 0.4 / (1e3 + 26), rtol=1e-14)


def test_no_resistance_is_a_matrix_product():
    g, v = array(0, 7, 5)
    solution = solve(g, v, Wires(word_line=0.0, bit_line=0.0))
    np.testing.assert_allclose(solution.currents, v @ g, rtol=1e-14)
    np.testing.assert_array_equal(solution.cell_voltages, np.broadcast_to(v[:, None], g.shape))


def test_a_word_line_is_a_geometric_ladder():
    """Endless ladder of segments r and cells 1/g: the drop falls by the same ratio from cell to cell."""
    r, g = 50.0, 1e-3
    ratio = 1 + r * g / 2 - np.sqrt(r * g + (r * g / 2) ** 2)
    solution = solve(np.full((1, 400), g), [1.0], Wires(word_line=r, bit_line=0.0))
    np.testing.assert_allclose(solution.word_voltages[0, :40], ratio ** np.arange(1, 41), atol=1e-12)


def test_conventions():
    """Cells lose most far from the driver at the left and far from the sensed end at the bottom."""
    g, v = np.full((6, 6), 1e-4), np.ones(6)
    along_words = solve(g, v, Wires(word_line=10.0, bit_line=0.0))
    along_bits = solve(g, v, Wires(word_line=0.0, bit_line=10.0))
    assert (np.diff(along_words.currents) < 0).all()
    assert (np.diff(along_bits.cell_currents[:, 0]) > 0).all()
    assert along_words.bit_voltages.max() == 0
    assert along_bits.word_voltages.min() == 1


CASES = {
    "single": {},
    "terminals": {"driver": 30.0, "sense": 20.0},
    "transistors": {"select": 250.0, "driver": 5.0},
    "double": {"far_driver": 5.0, "far_sense": 3.0, "driver": 2.0},
    "double ends of their own": {"far_driver": np.linspace(1, 9, 6), "sense": np.linspace(0, 7, 5), "far_sense": 100.0},
}


def compare(g, v, segments, case, law=None, sink=0.0, rtol=1e-9):
    word, bit = segments
    solution = solve(g, v, Wires(word_line=word, bit_line=bit, **case), law, bit_voltage=sink)
    functions = {} if law is None else {"current": jax.jit(law.current), "slope": jax.jit(law.small_signal)}
    currents, top, bottom = nodal(g, v, word, bit, sink=sink, **case, **functions)
    # what the dense reference rounds: voltages of 1 V to 1e-16, around loops of a few ohms
    atol = 1e-3 * rtol * np.abs(currents).max() + 1e-15
    np.testing.assert_allclose(solution.currents, currents, rtol=rtol, atol=atol)
    np.testing.assert_allclose(solution.word_voltages, top, rtol=rtol, atol=rtol * np.abs(v).max())
    np.testing.assert_allclose(solution.bit_voltages, bottom, rtol=rtol, atol=rtol * np.abs(v).max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("law", LAWS)
def test_against_nodal_analysis(case, law):
    g, v = array(1, 6, 5, high=1e-3, absent=0.2)
    compare(g, v, (8.0, 12.0), CASES[case], LAWS[law]())


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    absent=st.floats(0, 1),
    word=st.sampled_from([0.0, 1e-3, 1.0, 300.0]),
    bit=st.sampled_from([0.0, 1e-3, 1.0, 300.0]),
    case=st.sampled_from(["single", "double", "double ends of their own"]),
)
def test_against_nodal_analysis_for_any_array(seed, absent, word, bit, case):
    rng = np.random.default_rng(seed)
    case = CASES[case]
    g, v = array(seed, 6, 5, high=1e-2, absent=absent)
    segments = [
        r * rng.uniform(0.5, 2, (6 + (n == "bit" and "far_sense" in case), 5 + (n == "word" and "far_driver" in case)))
        for n, r in (("word", word), ("bit", bit))
    ]
    compare(g, v, segments, case, sink=rng.uniform(-0.3, 0.3, 5))


@pytest.mark.parametrize("law", ["ohmic", "sinh"])
def test_transistors_cut_off_rows_at_zero_volts(law):
    """A row that is off is a row without cells; in a passive array its cells take current from the bit lines."""
    g, v = array(18, 5, 4, low=1e-4, high=1e-3)
    v = np.abs(v)
    v[[1, 3]] = 0.0
    wires, law = Wires(word_line=20.0, bit_line=20.0, select=0.0), LAWS[law]()
    gated = solve(g, v, wires, law)
    np.testing.assert_array_equal(gated.cell_currents[jnp.asarray([1, 3])], 0)
    without = solve(np.where(v[:, None] == 0, 0, g), v, wires.replace(select=None), law)
    np.testing.assert_allclose(gated.currents, without.currents, rtol=1e-9)
    passive = solve(g, v, wires.replace(select=None), law)
    assert (passive.cell_currents[1] < 0).all()
    assert (passive.currents < gated.currents).all()
    with pytest.raises(ValueError, match=r"Wires\.select must be None for an effective matrix"):
        effective_matrix(g, wires)


def test_dead_segments_take_part_of_the_array():
    """A segment of enormous resistance cuts a word line; what lies beyond is reached only through the cells."""
    g, v = array(3, 4, 4)
    word = np.ones((4, 4))
    word[2, 2] = 1e12
    compare(g, v, (word, np.ones((4, 4))), {})


@pytest.mark.parametrize("n", [16, 64])
def test_float32_is_good_to_1e_5(n):
    g, _ = array(4, n, n)
    v = np.random.default_rng(4).uniform(size=(3, n))
    wires = Wires(word_line=10.0, bit_line=10.0)
    found, right = solve(g, v, wires, dtype="float32"), solve(g, v, wires)
    assert found.currents.dtype == jnp.float32
    assert right.currents.dtype == jnp.float64
    assert bool(found.converged.all())
    np.testing.assert_allclose(found.currents, right.currents, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "ratio"), [(256, 1e-2), (512, 1e-3)])
def test_large_arrays_converge(n, ratio):
    g = np.random.default_rng(5).uniform(1e-5, 1e-4, (n, n))
    solution = solve(g, np.random.default_rng(6).uniform(0, 1, n), Wires(word_line=ratio * 1e4, bit_line=ratio * 1e4))
    assert solution.residual <= 1e-12
    assert solution.iterations < 200


def test_strong_nonlinearity_from_a_zero_start():
    """sinh(v / 20 mV) at half a volt: slopes rise by 10 orders of magnitude between the start and the solution."""
    g, v = array(7, 12, 12, low=1e-9, high=1e-7)
    compare(g, v, (40.0, 40.0), {}, conduction.Sinh(v_0=0.02), rtol=1e-8)


def test_a_law_of_proportional_current_need_not_be_that_of_g():
    g, v = array(19, 4, 3)
    double = conduction.Polynomial(coefficients=(curves.Polynomial(coefficients=(0.0, 2.0)),), orders=(1,))
    wires = Wires(word_line=50.0, bit_line=50.0)
    np.testing.assert_allclose(solve(g, v, wires, double).currents, solve(2 * g, v, wires).currents, rtol=1e-9)


FALLING = {"third": -50.0}  # of a cubic law whose current falls beyond 82 mV


def test_what_has_no_unique_solution_is_refused():
    with pytest.raises(FloatingPointError, match=r"residual of 1e-12: 1.* is left after"):
        solve(np.full((3, 3), 1e-2), np.full(3, 0.5), Wires(word_line=1.0, bit_line=1.0), conduction.cubic(**FALLING))


def test_inside_a_transformation_it_is_nan_and_flagged():
    def one(g):
        return solve(g, np.full(3, 0.5), Wires(word_line=1.0, bit_line=1.0), conduction.cubic(**FALLING))

    solution = jax.jit(one)(np.full((3, 3), 1e-2))
    assert not solution.converged
    assert np.isnan(solution.currents).all()


def test_a_linear_solve_within_a_derivative_that_fails_is_nan():
    grid = Wires(word_line=1e3, bit_line=1e3).grid(6, 6)
    g = jnp.asarray(np.random.default_rng(12).normal(size=(6, 6, 1)))  # negative slopes: not a passive circuit
    y, report = solve_linear(grid, g, jnp.ones((6, 6, 1)), 1e-12, 50)
    assert not report.residual[0] <= 1e-12
    assert np.isnan(y).all()


def derivative(law):
    """Return a scalar function of every output, its arguments, and its derivative by each of them."""
    rng = np.random.default_rng(8)
    g, v = (jnp.asarray(a) for a in array(8, 4, 3, low=1e-4, high=1e-3, absent=0.1))
    wires = Wires(
        word_line=rng.uniform(5, 9, (4, 4)),
        bit_line=rng.uniform(5, 9, (5, 3)),
        driver=rng.uniform(1, 5, 4),
        sense=3.0,
        far_driver=rng.uniform(1, 5, 4),
        far_sense=7.0,
        select=40.0,
    )
    law = LAWS[law]()
    weights = jax.tree.map(lambda x: rng.normal(size=x.shape), jax.eval_shape(solve, g, v, wires, law))

    @jax.jit
    def seen(g, v, wires, law, sink):
        s = solve(g, v, wires, law, bit_voltage=sink)
        units = {"currents": 1e4, "cell_currents": 1e4, "word_voltages": 1.0, "bit_voltages": 1.0}
        return sum(unit * jnp.sum(getattr(weights, n) * getattr(s, n)) for n, unit in units.items())

    arguments = (g, v, wires, law, jnp.asarray(rng.uniform(-0.1, 0.1, 3)))
    return seen, arguments, jax.jit(jax.grad(seen, argnums=range(5)))(*arguments)


@pytest.mark.parametrize("law", ["ohmic", "sinh", "poole-frenkel"])
def test_gradients_by_every_argument(law):
    seen, arguments, gradient = derivative(law)
    leaves, tree = jax.tree.flatten(arguments)
    for k, (leaf, slope) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        leaf, slope = np.asarray(leaf), np.asarray(slope)
        for n in np.flatnonzero(leaf):  # an absent cell can only get conductance
            step = np.zeros(leaf.shape)
            step.flat[n] = 1e-4 * abs(leaf.flat[n])
            ends = [
                float(seen(*tree.unflatten([*leaves[:k], leaf + s * step, *leaves[k + 1 :]]))) for s in (2, 1, -1, -2)
            ]
            difference = (-ends[0] + 8 * ends[1] - 8 * ends[2] + ends[3]) / (12 * step.flat[n])
            np.testing.assert_allclose(slope.flat[n], difference, rtol=1e-6, atol=1e-6 * np.abs(slope).max())


def test_gradients_at_zero_resistance_and_of_absent_cells():
    """At zero the current falls by what the first cell's own current drops: dI/dr = -G (G v)."""
    g, v = jnp.asarray([[2e-4]]), jnp.asarray([0.5])
    slope = jax.grad(lambda r: solve(g, v, Wires(word_line=r, bit_line=0.0)).currents[0])(0.0)
    np.testing.assert_allclose(slope, -((2e-4) ** 2) * 0.5, rtol=1e-12)
    slope = jax.grad(lambda g: solve(g, v, Wires(word_line=3.0, bit_line=0.0)).currents[0])(jnp.zeros((1, 1)))
    np.testing.assert_allclose(slope, [[0.5]], rtol=1e-12)


@pytest.mark.slow
def test_modes_agree_and_second_derivatives_exist():
    seen, (g, v, wires, law, sink), gradient = derivative("sinh")
    along = np.random.default_rng(9).normal(size=g.shape) * np.asarray(g)
    forward = jax.jvp(lambda g: seen(g, v, wires, law, sink), (g,), (along,))[1]
    np.testing.assert_allclose(forward, jnp.sum(along * gradient[0]), rtol=1e-9)
    slope = jax.jit(jax.grad(lambda r: seen(g, v, wires.replace(sense=r), law, sink)))
    np.testing.assert_allclose(jax.grad(slope)(3.0), (slope(3.01) - slope(2.99)) / 0.02, rtol=1e-4)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (20, 40)])
@pytest.mark.parametrize("case", [name for name in CASES if name != "transistors"])  # these leave no matrix
def test_effective_matrix_gives_the_currents_of_the_circuit(shape, case):
    """Either side may be the shorter one; by the longer ones more inputs than are solved for at once."""
    g, v = array(13, *shape, high=1e-3, absent=0.1)
    rng = np.random.default_rng(14)
    case = {k: np.resize(r, shape[0 if "driver" in k else 1]) if np.ndim(r) else r for k, r in CASES[case].items()}
    word = rng.uniform(0, 20, (shape[0], shape[1] + ("far_driver" in case)))
    bit = rng.uniform(0, 20, (shape[0] + ("far_sense" in case), shape[1]))
    wires = Wires(word_line=word, bit_line=bit, **case)
    matrix = effective_matrix(g, wires)
    np.testing.assert_allclose(v @ matrix, solve(g, v, wires).currents, rtol=1e-10)
    many = rng.uniform(-1, 1, (50, shape[0]))
    np.testing.assert_allclose(many @ matrix, solve(g, many, wires).currents, rtol=1e-8, atol=1e-13)


def test_gradient_of_the_effective_matrix():
    g, v = (jnp.asarray(a) for a in array(15, 5, 6, high=1e-3))
    wires = Wires(word_line=11.0, bit_line=7.0)
    by_matrix = jax.grad(lambda g, w: jnp.sin(1e3 * (v @ effective_matrix(g, w))).sum(), argnums=(0, 1))(g, wires)
    by_solve = jax.grad(lambda g, w: jnp.sin(1e3 * solve(g, v, w).currents).sum(), argnums=(0, 1))(g, wires)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * abs(b).max()), by_matrix, by_solve
    )


# largest error of a current, as part of the largest current, that the first order and sweeps were measured to have
WEAK = {("first-order", 0.1): 3e-4, ("first-order", 1.0): 2e-2, (1, 1.0): 3e-3, (2, 1.0): 1e-5, (4, 1.0): 1e-11}


@pytest.mark.parametrize(("method", "resistance"), WEAK)
def test_approximations_for_weak_wires(method, resistance):
    g, v = np.exp(np.random.default_rng(16).uniform(np.log(1e-6), np.log(1e-4), (64, 64))), np.full(64, 0.3)
    wires = Wires(word_line=resistance, bit_line=resistance)
    right = solve(g, v, wires).currents
    close = solve(g, v, wires.replace(method=method))
    error = np.abs(close.currents - right).max() / right.max()
    assert error < WEAK[method, resistance]
    assert error > 0.03 * WEAK[method, resistance]
    assert close.converged
    matrix = effective_matrix(g, wires.replace(method=method))
    np.testing.assert_allclose(v @ matrix, close.currents, rtol=1e-10)


def test_first_order_is_the_slope_at_no_resistance():
    g, v = array(17, 6, 5)
    wires = Wires(word_line=1.0, bit_line=2.0, driver=3.0, sense=4.0)

    def error(factor):
        scaled = jax.tree.map(lambda r: factor * r, wires)
        first = solve(g, v, scaled.replace(method="first-order"))
        return np.abs(first.currents - solve(g, v, scaled).currents).max()

    np.testing.assert_allclose(error(1.0) / error(0.1), 100, rtol=0.02)


@pytest.mark.parametrize("law", [pytest.param("ohmic", marks=pytest.mark.slow), "sinh"])
def test_vmap_over_chips_is_the_loop(law, key):
    wires = Wires(word_line=5.0, bit_line=5.0)
    g = jnp.exp(jax.random.normal(key, (1000, 6, 5))) * 1e-5
    v = jnp.linspace(-0.5, 0.5, 6)
    one = jax.jit(lambda g: solve(g, v, wires, LAWS[law]()).currents)
    together = jax.vmap(one)(g)
    np.testing.assert_allclose(together[::50], jnp.stack([one(x) for x in g[::50]]), rtol=3e-6)
    slope = jax.jit(jax.grad(lambda g: one(g).sum()))
    np.testing.assert_allclose(jax.vmap(slope)(g)[::100], jnp.stack([slope(x) for x in g[::100]]), rtol=1e-4, atol=1e-6)


def test_the_session_keeps_its_precision():
    g, v = array(10, 3, 3)
    wires = Wires(word_line=1.0, bit_line=1.0)
    right = solve(g, v, wires).currents
    with jax.enable_x64(False):
        assert solve(g, v, wires).currents.dtype == np.float32
        assert solve(g, v, wires, dtype="float64").currents.dtype == np.float64
        assert jnp.ones(3).dtype == jnp.float32
        traced = jax.jit(lambda v: solve(g, v, wires, dtype="float64").currents)(jnp.asarray(v))
        assert traced.dtype == np.float64
        np.testing.assert_allclose(solve(g, v, wires, dtype="float64").currents, right, rtol=1e-15)


class Bare(conduction.Conduction):
    """A law that its author forgot to decorate."""


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"g": [1.0, 2.0]}, ValueError, r"g must have shape \(rows, cols\); got \(2,\)"),
        ({"g": [[1.0, -2.0]]}, ValueError, "g must be at least 0; got -2"),
        ({"g": [[1.0, np.nan]]}, ValueError, "g must be finite; got nan"),
        ({"v": [1.0, 2.0]}, ValueError, "v must have shape .* rows=1; got"),
        ({"v": [np.inf]}, ValueError, "v must be finite; got inf"),
        ({"bit_voltage": [0.0] * 3}, ValueError, r"bit_voltage must be a number or have shape \(2,\)"),
        ({"wires": IRDrop()}, TypeError, r"wires must be Wires\(\.\.\.\), resistances in ohm; got IRDrop"),
        ({"conduction": "sinh"}, TypeError, "conduction must be a law such as Sinh.* got 'sinh'"),
        ({"conduction": conduction.Sinh}, TypeError, "conduction must be a law such as Sinh"),
        ({"conduction": Bare()}, TypeError, r"Bare must be decorated with @anajax\.devices\.record"),
        ({"conduction": VTEAM()}, TypeError, r"got VTEAM.*ByState\(model=\.\.\.\)"),
        ({"gate": [True]}, ValueError, "gate switches transistors, and Wires.select is None"),
        ({"g": [[1e5, 2.0]]}, UserWarning, "g has a cell of 100000 S: conductances are in siemens"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float32' or 'float64'; got 'float16'"),
    ],
)
def test_errors(change, error, message):
    arguments = {"g": [[1.0, 2.0]], "v": [1.0], "wires": Wires(word_line=1.0, bit_line=1.0)} | change
    with pytest.raises(error, match=message):
        solve(**arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"word_line": -1.0}, "Wires.word_line must be at least 0; got -1"),
        ({"driver": np.inf}, "Wires.driver must be finite; got inf"),
        ({"bit_line": np.ones((3, 3))}, r"Wires.bit_line must be a number or broadcast to \(1, 2\)"),
        ({"far_sense": 0.0, "bit_line": 0.0}, "Wires.far_sense must be positive where the last segment has no"),
        ({"method": "fast"}, "Wires.method must be 'exact', 'first-order', or a number of sweeps; got 'fast'"),
        ({"method": 0}, "Wires.method must be .* got 0"),
        ({"sense": np.ones(3)}, r"Wires.sense must be a number or have shape \(2,\)"),
    ],
)
def test_errors_of_wires(fields, message):
    with pytest.raises(ValueError, match=message):
        solve([[1.0, 2.0]], [1.0], Wires(**({"word_line": 1.0, "bit_line": 1.0} | fields)))
