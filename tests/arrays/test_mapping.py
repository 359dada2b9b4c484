import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anajax.arrays import Differential, Offset
from anajax.arrays.mapping import Mapping, cut, grid, join
from anajax.devices import Ideal
from anajax.testing import check_moments

# a window without units, and that of a real device
WINDOWS = [(0.789, 3.123), (9e-6, 88.19e-6), (0.0, 25e-6)]
MAPPINGS = {
    "lowest": Differential(),
    "midpoint": Differential(scheme="midpoint"),
    "lowest, 1 and 3": Differential(significance=(1.0, 3.0)),
    "lowest, 1, 2 and 3": Differential(significance=(1.0, 2.0, 3.0)),
    "midpoint, 1 and 3": Differential(scheme="midpoint", significance=(1.0, 3.0)),
    "offset": Offset(),
}
WEIGHTS = jnp.asarray(np.r_[np.linspace(-1, 1, 40), 1.0, -1.0, 0.0, 0.25, -0.75].reshape(9, 5), jnp.float32)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", MAPPINGS)
def test_round_trip(name, window):
    mapping, device = MAPPINGS[name], Ideal(g_min=window[0], g_max=window[1])
    g = mapping.encode(device, WEIGHTS)
    assert g.shape == mapping.cells(9, 5)
    span = window[1] - window[0]
    assert float(g.min()) >= window[0] - 1e-6 * span
    assert float(g.max()) <= window[1] + 1e-6 * span
    np.testing.assert_allclose(mapping.decode(device, g), WEIGHTS, atol=1e-6)


def test_lowest_leaves_the_partner_at_the_bottom():
    device = Ideal(g_min=1.0, g_max=3.0)
    g = Differential().encode(device, jnp.array([[0.5, -0.25, 0.0]]))
    np.testing.assert_allclose(g[:, 0], [[2.0, 1.0, 1.0], [1.0, 1.5, 1.0]])


def test_midpoint_moves_both_around_the_middle():
    device = Ideal(g_min=1.0, g_max=3.0)
    g = Differential(scheme="midpoint").encode(device, jnp.array([[0.5, -1.0, 0.0]]))
    np.testing.assert_allclose(g[:, 0], [[2.5, 1.0, 2.0], [1.5, 3.0, 2.0]])


def test_the_least_significant_pair_fills_first():
    device = Ideal(g_min=0.0, g_max=1.0)
    g = Differential(significance=(1.0, 3.0)).encode(device, jnp.array([[0.1, 0.25, 0.5, -1.0]]))
    # |w| * 4 = 0.4, 1, 2, 4: up to 1 in the first pair, the rest / 3 in the second
    np.testing.assert_allclose(g[0, 0], [0.4, 1.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(g[1, 0], [0.0, 0.0, 0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(g[2, 0], [0.0, 0.0, 1 / 3, 0.0], atol=1e-6)
    np.testing.assert_allclose(g[3, 0], [0.0, 0.0, 0.0, 1.0], atol=1e-6)


def test_offset_reference_is_the_middle_of_the_window():
    device = Ideal(g_min=9e-6, g_max=88.2e-6)
    g = Offset().encode(device, jnp.array([[1.0, -1.0, 0.5]]))
    np.testing.assert_allclose(g[0, 0] * 1e6, [88.2, 9.0, 68.4, 48.6], rtol=1e-6)


def test_an_error_of_the_reference_moves_its_whole_row():
    device = Ideal(g_min=0.0, g_max=1.0)
    w = jnp.array([[0.5, -0.5], [0.1, 0.2]])
    g = Offset().encode(device, w).at[0, 0, -1].add(0.05)
    np.testing.assert_allclose(Offset().decode(device, g) - w, [[-0.1, -0.1], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("name", MAPPINGS)
def test_decode_variance(name, key):
    """False alarm: 1.4e-5 for each weight's pair of z-tests."""
    mapping, device = MAPPINGS[name], Ideal(g_min=1.0, g_max=3.0)
    w = jnp.array([[0.3, -0.8, 0.0], [0.9, 0.1, -0.2]])
    target = mapping.encode(device, w)
    variance = 0.01 * (1 + jnp.arange(target.size).reshape(target.shape) / target.size)
    noise = jnp.sqrt(variance) * jax.random.normal(key, (10_000, *target.shape))
    found = jax.jit(jax.vmap(lambda n: mapping.decode(device, target + n)))(noise)
    expected = mapping.decode_variance(device, variance)
    for i, j in np.ndindex(w.shape):
        check_moments(found[:, i, j], float(w[i, j]), float(expected[i, j]) ** 0.5, name=f"weight {i, j}")


@pytest.mark.parametrize("fill", [1.0, 0.8])
def test_scales(fill):
    w = jnp.array([[0.5, 0.0, -4.0], [-2.0, 0.0, 1.0]])
    np.testing.assert_allclose(Mapping(scale_by="column", fill=fill).scales(w), np.array([2, 1, 4]) / fill)
    np.testing.assert_allclose(Mapping(scale_by="array", fill=fill).scales(w), np.array([4, 4, 4]) / fill)
    np.testing.assert_allclose(Mapping(scale_by="none", fill=fill).scales(w), np.array([1, 1, 1]) / fill)


def test_scales_of_zeros_are_one_with_finite_gradients():
    w = jnp.zeros((3, 2))
    for scale_by in ("column", "array"):
        mapping = Mapping(scale_by=scale_by)
        np.testing.assert_array_equal(mapping.scales(w), np.ones(2))
        assert np.isfinite(jax.grad(lambda w: jnp.sum(mapping.scales(w)))(w)).all()  # noqa: B023


def test_scales_of_a_stack_are_those_of_each():
    w = jnp.arange(-12.0, 12.0).reshape(2, 4, 3)
    for scale_by in ("column", "array", "none"):
        mapping = Mapping(scale_by=scale_by)
        np.testing.assert_array_equal(mapping.scales(w), np.stack([mapping.scales(m) for m in w]))


def test_scales_are_differentiated_through():
    w = jnp.array([[0.5, -3.0], [-2.0, 1.0]])
    slope = jax.grad(lambda w: jnp.sum(Mapping().scales(w)))(w)
    np.testing.assert_array_equal(slope, [[0, -1], [-1, 0]])


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.one_of(st.none(), st.tuples(st.integers(1, 14), st.integers(1, 14))),
)
def test_cut_and_join(rows, cols, shape):
    matrix = np.arange(1.0, rows * cols + 1, dtype=np.float32).reshape(rows, cols)
    arrays = cut(jnp.asarray(matrix), shape)
    n_rows, n_cols, r, c = grid(rows, cols, shape)
    assert arrays.shape == (n_rows, n_cols, r, c)
    if shape is not None:
        assert r <= shape[0]
        assert c <= shape[1]
        assert (n_rows - 1) * shape[0] < rows  # no more arrays than needed
        assert (n_cols - 1) * shape[1] < cols
    np.testing.assert_array_equal(join(arrays, rows, cols), matrix)
    np.testing.assert_allclose(np.asarray(arrays).sum(), matrix.sum())  # padded with zeros


def test_cut_is_even():
    assert grid(784, 10, (512, 512)) == (2, 1, 392, 10)


def test_the_base_maps_nothing():
    for method, args in [("encode", 2), ("decode", 2), ("decode_variance", 2), ("cells", 2)]:
        with pytest.raises(NotImplementedError):
            getattr(Mapping(), method)(*[1] * args)
