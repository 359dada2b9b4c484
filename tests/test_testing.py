"""The checks that are shipped must reject what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax.testing import check_distribution, check_gradients, check_moments

cdf = jax.scipy.stats.norm.cdf


def test_moments(key):
    x = jax.random.normal(key, (20_000,))
    check_moments(3 + 2 * x, 3.0, 2.0)
    for mean, std in [(3.1, 2.0), (3.0, 2.1), (3.0, 1.9)]:
        with pytest.raises(AssertionError, match=r"within 4\.5 standard errors"):
            check_moments(3 + 2 * x, mean, std)
    check_moments(3 + 2 * x, 3.1, 2.0, rounding=0.1)


def test_moments_of_other_distributions(key):
    check_moments(jax.random.exponential(key, (20_000,)), 1.0, 1.0)
    with pytest.raises(AssertionError, match="dead: the std"):
        check_moments(np.zeros(100), 0.0, 1.0, name="dead")


def test_distribution(key):
    x = jax.random.normal(key, (5000,))
    assert check_distribution(x, cdf) > 1e-5
    for wrong in (x + 0.1, 1.25 * x, jax.random.uniform(key, (5000,), minval=-1.732, maxval=1.732)):
        with pytest.raises(AssertionError, match="largest distance"):
            check_distribution(wrong, cdf)


def test_p_values_are_uniform(key):
    """Of 400 right samples, 40 are expected to have p < 0.1: between 13 and 67 with odds of 1e-5."""
    x = np.asarray(jax.random.normal(key, (400, 200)))
    p = np.array([check_distribution(row, cdf, odds=0.0) for row in x])
    assert 13 <= (p < 0.1).sum() <= 67


def test_gradients():
    def f(tree, x):
        return {"a": tree["s"] * jnp.sin(x), "b": tree["v"] @ x}

    tree = {"s": 2.0, "v": jnp.arange(1.0, 13.0), "key": jax.random.key(0)}
    slopes = check_gradients(f, tree, jnp.linspace(0.1, 1.2, 12))
    assert set(slopes) == {"0.s", "0.v", "1"}
    assert min(slopes.values()) > 0


@pytest.mark.parametrize("factor", [-1.0, 1.0001, 0.0, float("nan")])
def test_wrong_gradients_are_named(factor):
    @jax.custom_jvp
    def f(x):
        return x**2

    f.defjvp(lambda x, t: (f(*x), factor * 2 * x[0] * t[0]))
    with pytest.raises(AssertionError, match=r"0: grad .*, difference"):
        check_gradients(f, -3.0)


def test_zero_gradients_are_reported():
    assert check_gradients(lambda x, y: x * 1.0, 2.0, 3.0)["1"] == 0.0
