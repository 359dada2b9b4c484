import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import streamed_codes

from anajax import Hardware
from anajax.arrays import (
    ADC,
    DAC,
    AbsMax,
    BitSerial,
    Differential,
    FixedRange,
    OutputNoise,
    Slices,
    SShape,
    WeightNoise,
    aware_mvm,
    mvm,
    reads,
    unprogrammed,
)
from anajax.testing import check_moments

WHOLE = Differential(scale_by="none")


def case(key, rows=9, cols=4, n=6):
    k_w, k_x = jax.random.split(key)
    return jax.random.uniform(k_w, (rows, cols), minval=-1.0), jax.random.uniform(
        k_x, (n, rows), minval=-1.2, maxval=1.2
    )


def run(w, x, key=None, **parts):
    hardware = Hardware(**{"mapping": WHOLE} | parts)
    return mvm(key, hardware, unprogrammed(None, hardware, w), x)


@pytest.mark.parametrize(("bits", "pulse_bits"), [(2, 1), (5, 1), (8, 1), (8, 3), (8, 7), (9, 2)])
def test_pulses_are_the_bits_of_sign_and_magnitude(bits, pulse_bits):
    streamed_codes(BitSerial(bits=bits, pulse_bits=pulse_bits, bound=1.5))


@pytest.mark.parametrize("add", ["digital", "analog"])
@pytest.mark.parametrize("pulse_bits", [1, 2, 3, 7])
@pytest.mark.parametrize("inputs", [None, AbsMax(), FixedRange(range=1.3)])
def test_ideal_parts_multiply_as_with_one_converter_of_all_bits(add, pulse_bits, inputs, key):
    w, x = case(key)
    serial = run(w, x, inputs=inputs, dac=BitSerial(bits=8, pulse_bits=pulse_bits, add=add))
    np.testing.assert_allclose(serial, run(w, x, inputs=inputs, dac=DAC(bits=8)), atol=2e-6)


def test_products_of_integers_are_exact(key):
    """Binary pulses on binary cells, every conversion of whole steps: the bits of an integer product."""
    k_w, k_x = jax.random.split(key)
    w = jax.random.randint(k_w, (30, 8), -15, 16).at[-1].set(15).astype(jnp.float32)
    x = jax.random.randint(k_x, (5, 30), -127, 128).astype(jnp.float32)
    hardware = Hardware(slices=Slices(bits=1, count=4), dac=BitSerial(bits=8, bound=127.0))
    exact = np.asarray(x) @ np.asarray(w)
    np.testing.assert_array_equal(mvm(None, hardware, unprogrammed(None, hardware, w), x), exact)
    counting = hardware.replace(adc=ADC(bits=6, bound=31 * 127.0))  # 31 cells at most: 63 levels lose nothing
    np.testing.assert_array_equal(mvm(None, counting, unprogrammed(None, counting, w), x), exact)


def test_digital_addition_converts_every_pulse_and_analog_their_sum(key):
    w, x = case(key)
    adc, serial = ADC(bits=5, bound=2.0), BitSerial(bits=4, bound=1.0)
    pulses = np.asarray(serial.pulses(x))  # [n, 3, rows]
    q = np.array([1, 2, 4]) / 7
    each = np.stack([np.asarray(adc(jnp.asarray(pulses[:, j]) @ w)) for j in range(3)])
    np.testing.assert_allclose(run(w, x, dac=serial, adc=adc), np.tensordot(q, each, 1), atol=1e-6)
    whole = adc(jnp.asarray(np.tensordot(q, pulses.swapaxes(0, 1), 1)) @ w)
    np.testing.assert_allclose(run(w, x, dac=serial.replace(add="analog"), adc=adc), whole, atol=1e-6)


def test_each_pulse_meets_the_curve_of_the_outputs(key):
    w, x = case(key)
    parts = {"adc": ADC(bound=5.0), "nonlinearity": SShape(strength=2.0)}
    serial = BitSerial(bits=3, add="analog")
    pulses = serial.pulses(x)
    one = [np.asarray(run(w, pulses[:, j], **parts)) for j in range(2)]
    np.testing.assert_allclose(run(w, x, dac=serial, **parts), (one[0] + 2 * one[1]) / 3, atol=1e-6)


@pytest.mark.parametrize("add", ["digital", "analog"])
def test_every_pulse_has_its_own_noise(add, key):
    """Noise sigma of each output is sigma sqrt(sum q_j**2) in the end: z-tests, 1.4e-5 each."""
    serial = BitSerial(bits=4, add=add)
    q2 = (1 + 4 + 16) / 49
    x = jnp.full((40_000, 1), 5 / 7)  # pulses 1, 0, 1
    w = jnp.ones((1, 1))
    y = run(w, x, key, dac=serial, output_noise=OutputNoise(sigma=0.1))
    check_moments(y, 5 / 7, 0.1 * q2**0.5, name="output noise")
    y = run(w, x, key, dac=serial, weight_noise=WeightNoise(sigma=0.1))
    check_moments(y, 5 / 7, 0.1 * ((1 + 16) / 49) ** 0.5, name="weight noise")  # a pulse that is none has none
    y = run(w, x, key, dac=serial.replace(noise=0.1, asymmetry=0.2))
    check_moments(np.asarray(y), *noisy_pulses(np.array([1, 0, 1]), q2), name="noise of pulses")


def noisy_pulses(heights, q2, sigma=0.1, loss=0.2):
    """Mean and standard deviation of sum q_j f(h_j + sigma xi), f(v) = v above zero and (1 - loss) v below."""
    xi = np.random.default_rng(0).standard_normal((400_000, 3)) * sigma + heights
    xi = np.where(xi < 0, (1 - loss) * xi, xi)
    y = xi @ np.array([1, 2, 4]) / 7
    return y.mean(), y.std()


def test_noise_does_not_depend_on_blocks(key, monkeypatch):
    w, x = case(key, n=50)
    parts = {"dac": BitSerial(bits=4, noise=0.1), "output_noise": OutputNoise(sigma=0.1)}
    whole = run(w, x, key, **parts)
    monkeypatch.setattr(reads, "_BLOCK", 10)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    np.testing.assert_allclose(run(w, x, key, **parts), whole, atol=1e-6)


def test_negative_pulses_are_weaker(key):
    y = run(jnp.ones((1, 1)), jnp.array([[1.0], [-1.0]]), dac=BitSerial(bits=5, asymmetry=0.2))
    np.testing.assert_allclose(y, [[1.0], [-0.8]], rtol=1e-6)


@pytest.mark.parametrize("add", ["digital", "analog"])
@pytest.mark.parametrize("pulse_bits", [1, 2])
def test_gradients_are_those_of_one_converter(add, pulse_bits, key):
    w, x = case(key)
    g = jax.random.normal(key, (6, 4))

    def loss(dac):
        return lambda w, x, bound: jnp.sum(g * run(w, x, dac=dac.replace(bound=bound), adc=ADC(bound=100.0)))

    serial = BitSerial(bits=6, pulse_bits=pulse_bits, add=add)
    ours, theirs = (jax.jit(jax.grad(loss(d), (0, 1, 2)))(w, x, 1.0) for d in (serial, DAC(bits=6)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), ours, theirs)


def test_hardware_aware_training_runs_under_vmap(key):
    w, x = case(key)
    hardware = Hardware(dac=BitSerial(bits=5), adc=ADC(bits=6), output_noise=OutputNoise(sigma=0.1), backward="ideal")
    keys = jax.random.split(key, 3)
    many = jax.vmap(lambda k: aware_mvm(None, k, hardware, w, x))(keys)
    np.testing.assert_allclose(many, np.stack([aware_mvm(None, k, hardware, w, x) for k in keys]), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BitSerial(bits=1), "BitSerial.bits must be an integer from 2 to 16; got 1"),
        (lambda: BitSerial(bits=8.0), "BitSerial.bits must be an integer from 2 to 16; got 8.0"),
        (
            lambda: BitSerial(bits=4, pulse_bits=4),
            "BitSerial.pulse_bits must be an integer from 1 to bits - 1 = 3; got 4",
        ),
        (lambda: BitSerial(add="never"), "BitSerial.add must be one of 'digital', 'analog'; got 'never'"),
        (lambda: Hardware(dac=BitSerial(), adc=ADC(), halvings=2), "Hardware.halvings must be 0 with BitSerial"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
