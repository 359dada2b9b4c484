import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import seven_bits

from anajax import Hardware
from anajax.arrays import (
    ADC,
    DAC,
    AbsMax,
    FixedRange,
    clip_to_range,
    decay_range,
    mvm,
    quantize,
    step_size,
    unprogrammed,
)
from anajax.testing import check_moments


def test_seven_bits_are_126_steps_and_127_levels():
    np.testing.assert_allclose(step_size(7, 1.0), 0.0158730, atol=5e-8)
    np.testing.assert_allclose(step_size(8, 10.0), 20 / 254)
    seven_bits(lambda x: DAC(bits=7)(None, x))


def test_halves_round_to_even():
    x = jnp.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    np.testing.assert_array_equal(quantize(x, 1.0, 10.0), [0, 2, 2, 0, -2, -2])


def test_values_beyond_the_bound_are_clipped():
    np.testing.assert_array_equal(quantize(jnp.array([-9.0, 9.0]), 0.5, 2.0), [-2, 2])
    np.testing.assert_array_equal(DAC(bound=2.0)(None, jnp.array([-9.0, 1.234, 9.0])), np.float32([-2, 1.234, 2]))
    np.testing.assert_array_equal(ADC(bound=2.0)(jnp.array([-9.0, 1.234, 9.0])), np.float32([-2, 1.234, 2]))


def test_adc_levels():
    y = jnp.array([0.0, 0.03, 0.05, -0.1, 12.0])
    step = 20 / 254
    np.testing.assert_allclose(ADC(bits=8, bound=10.0)(y), np.array([0, 0, 1, -1, 127]) * step, atol=1e-6)


@pytest.mark.parametrize("converter", [ADC, DAC])
@pytest.mark.parametrize("bits", [1, 0.5, -8, float("nan")])
def test_impossible_resolutions_are_refused(converter, bits):
    with pytest.raises(ValueError, match=rf"{converter.__name__}.bits must be greater than 1; got {bits:g}"):
        converter(bits=bits)


def test_gradient_is_straight_through_within_the_bound():
    x = jnp.array([-1.4, -0.93, 0.0, 0.2, 0.99, 1.01])
    slope = jax.grad(lambda x: jnp.sum(DAC(bits=4)(None, x)))(x)
    np.testing.assert_array_equal(slope, [0, 1, 1, 1, 1, 0])


def test_gradient_of_the_bound_is_the_share_of_clipped_values():
    x = jnp.array([-1.4, -1.2, 0.2, 1.01])
    slope = jax.grad(lambda bound: jnp.sum(DAC(bits=None, bound=bound)(None, x)))(1.0)
    assert float(slope) == -1.0  # one at +bound, two at -bound


def test_gradient_of_bits_is_that_of_uniform_noise(key):
    """The surrogate: rounding is noise step * u, u uniform in [-1/2, 1/2] and held fixed.

    The loss mean((y - t)**2) then has E dL/dbits = d/dbits [step**2 / 12]. Over n inputs the derivative at
    hand must agree with a central difference of the same loss with explicit uniform noise; odds of a false
    alarm 7e-6 (z = 4.5 on the difference of two means of independent samples).
    """
    n, bits, h = 200_000, 5.0, 1e-2
    k_x, k_u = jax.random.split(key)
    x = jax.random.uniform(k_x, (n,), minval=-0.9, maxval=0.9)
    u = jax.random.uniform(k_u, (n,), minval=-0.5, maxval=0.5)

    def rounded(bits, x):
        return (DAC(bits=bits)(None, x) - x) ** 2

    def noisy(bits):
        return (step_size(bits, 1.0) * u) ** 2

    ours = np.asarray(jax.vmap(jax.grad(rounded), (None, 0))(bits, x), np.float64)
    theirs = np.asarray((noisy(bits + h) - noisy(bits - h)) / (2 * h), np.float64)
    error = np.sqrt((ours.var() + theirs.var()) / n)
    assert abs(ours.mean() - theirs.mean()) < 4.5 * error + 1e-3 * abs(theirs.mean())  # h**2 of the difference
    step = float(step_size(bits, 1.0))
    slope = -(step**2) * np.log(2) * 2**bits / (2**bits - 2) / 6
    assert abs(ours.mean() - slope) < 4.5 * ours.std() / np.sqrt(n)


def test_input_noise_and_asymmetry(key):
    x = jnp.tile(jnp.array([[0.5, -0.5]]), (40_000, 1))
    y = DAC(noise=0.1, asymmetry=0.2)(key, x)
    check_moments(y[:, 0], 0.5, 0.1, name="positive inputs")
    check_moments(y[:, 1], -0.4, 0.08, name="negative inputs")  # noise comes before the asymmetry
    np.testing.assert_allclose(DAC(noise=0.1, asymmetry=0.2)(None, x[0]), [0.5, -0.4])


def test_clip_to_range_by_hand():
    x = jnp.array([-3.0, -1.0, 0.5, 2.0, 5.0])
    g = jnp.array([4.0, -2.0, 7.0, -3.0, 6.0])
    y, vjp = jax.vjp(clip_to_range, x, jnp.asarray(2.0))
    np.testing.assert_array_equal(y, [-2, -1, 0.5, 2, 2])
    dx, dr = vjp(g)
    # above or at the range: g = -3 and 6, of which min(g, 0) sums to -3; below: g = 4, of which max(g, 0) is 4
    assert float(dr) == 2.0 * (-3.0 - 4.0)
    np.testing.assert_array_equal(dx, [0, -2, 7, 0, 0])


def test_clipped_inputs_can_only_ask_for_a_larger_range():
    x = jnp.array([3.0, -3.0])
    _, vjp = jax.vjp(clip_to_range, x, jnp.asarray(2.0))
    assert float(vjp(jnp.array([1.0, -1.0]))[1]) == 0.0  # these ask for a smaller one
    assert float(vjp(jnp.array([-1.0, 1.0]))[1]) < 0.0  # descent makes the range larger


@pytest.mark.parametrize(("inside", "pull"), [(97, 0.01 * 2.0), (95, 0.0), (90, 0.0)])
def test_decay_range_by_hand(inside, pull):
    x = jnp.where(jnp.arange(100) < inside, 1.0, 5.0)
    r, vjp = jax.vjp(lambda r: decay_range(r, x, 0.01, 0.95), jnp.asarray(2.0))
    assert float(r) == 2.0
    np.testing.assert_allclose(vjp(jnp.asarray(0.5))[0], 0.5 + pull, rtol=1e-6)


def outputs(inputs, x, **changes):
    hardware = Hardware(inputs=inputs, dac=DAC(bits=6), adc=ADC(bits=6, bound=2.0), **changes)
    w = jnp.array([[0.3, -1.0], [0.7, 0.2], [-0.9, 0.5]])
    return mvm(None, hardware, unprogrammed(None, hardware, w), x)


def test_absolute_maximum_makes_the_mvm_homogeneous(key):
    x = jax.random.normal(key, (20, 3))
    for c in (0.25, 8.0, 1024.0):  # powers of two: exact in floating point
        np.testing.assert_array_equal(outputs(AbsMax(), c * x), c * outputs(AbsMax(), x))


def test_absolute_maximum_of_zeros_and_caps():
    np.testing.assert_array_equal(outputs(AbsMax(), jnp.zeros((2, 3))), np.zeros((2, 2)))
    x = jnp.array([[0.5, -8.0, 1.0], [0.2, 0.1, -0.4]])
    np.testing.assert_allclose(AbsMax().ranges(x), [[8.0], [0.4]])
    np.testing.assert_allclose(AbsMax(cap=2.0).ranges(x), [[2.0], [0.4]])


def test_fixed_range_is_a_range():
    x = jnp.array([[4.0, -2.0, 9.0]])
    np.testing.assert_allclose(
        outputs(FixedRange(range=5.0), x), 5 * outputs(None, jnp.array([[0.8, -0.4, 1.8]])), rtol=1e-6
    )
