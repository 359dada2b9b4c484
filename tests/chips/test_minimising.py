"""Design by gradient: minima within bounds and at them, whatever the units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anajax
from anajax import chips
from anajax.arrays import ADC, OutputNoise

HARDWARE = anajax.Hardware(adc=ADC(bits=5), output_noise=OutputNoise(sigma=0.1), v_read=0.3)


def test_a_trade_off_is_found_where_its_derivative_vanishes(key):
    """sigma**2 + a / sigma: at (a / 2)**(1/3), with noise of the objective at each step."""

    def objective(hw, key):
        sigma = hw.output_noise.sigma
        return sigma**2 * (1 + 0.3 * jax.random.normal(key)) + 2e-6 / sigma

    found = chips.minimise(objective, HARDWARE, {"output_noise.sigma": (1e-4, 1.0)}, steps=300)
    np.testing.assert_allclose(found.hardware.output_noise.sigma, 0.01, rtol=0.1)
    assert found.path.sizes["step"] == 300
    np.testing.assert_allclose(found.path["output_noise.sigma"][0], 0.1, rtol=1e-4)
    assert found.path["objective"][-1] < 0.1 * found.path["objective"][0]


def test_fields_stay_within_their_bounds():
    """One runs to the upper end of its range; another, whose range starts at zero and is linear, to the lower."""

    def objective(hw, key):
        return -hw.adc.bits + hw.output_noise.sigma

    found = chips.minimise(objective, HARDWARE, {"adc.bits": (2, 9), "output_noise.sigma": (0.0, 0.5)}, steps=200)
    assert 8.8 < found.hardware.adc.bits < 9
    assert 0 < found.hardware.output_noise.sigma < 0.01
    assert float(found.hardware.v_read) == float(HARDWARE.v_read)


def test_impossible_searches_are_refused():
    with pytest.raises(ValueError, match=r"bounds of 'adc\.bits' must lie on both sides of its value; got 6 < 5 < 9"):
        chips.minimise(lambda h, k: h.adc.bits, HARDWARE, {"adc.bits": (6, 9)})
    with pytest.raises(TypeError, match="ADC has no field 'bit'"):
        chips.minimise(lambda h, k: h.adc.bits, HARDWARE, {"adc.bit": (6, 9)})
    with pytest.raises(ValueError, match="bounds must name at least one field; got none"):
        chips.minimise(lambda h, k: h.adc.bits, HARDWARE, {})
    with pytest.raises(ValueError, match="objective and its gradient must be finite; got nan at step 0"):
        chips.minimise(lambda h, k: jnp.nan * h.adc.bits, HARDWARE, {"adc.bits": (2, 9)}, steps=2)
