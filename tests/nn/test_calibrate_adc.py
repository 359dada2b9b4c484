import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from anajax import Hardware, arrays, nn
from anajax.arrays import ADC, Analytic, FixedRange, LearnedRange, Maximum, MovingQuantile, Quantile
from anajax.devices import presets as devices


class Net(nnx.Module):
    def __init__(self, hardware, rngs):
        self.conv = nn.Conv(4, 6, (3, 3), feature_group_count=2, hardware=hardware, rngs=rngs)
        self.head = nn.Linear(6, 3, hardware=hardware, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.conv(x)).mean((1, 2)))


def case(key, hardware):
    model = Net(hardware, nnx.Rngs(0))
    apply, params, hardware, _ = nn.split(model)
    return apply, params, hardware, [3 * jax.random.normal(jax.random.fold_in(key, i), (7, 5, 5, 4)) for i in range(3)]


@pytest.mark.parametrize("inputs", [None, FixedRange(range=8.0)])
def test_maximum_is_that_of_the_layers_own_currents(inputs, key):
    apply, params, hardware, batches = case(key, Hardware(inputs=inputs, adc=ADC(bits=8, bound=0.1)))
    found = nn.calibrate_adc(apply, params, hardware, batches, Maximum())
    assert set(found) == {"conv", "head"}
    model = apply.merge(params, Hardware())
    features = [nnx.relu(model.conv(x)).mean((1, 2)) for x in batches]
    w = model.head.kernel[...]
    range_ = 1.0 if inputs is None else 8.0
    scale = jnp.max(jnp.abs(w), axis=0)
    wanted = max(float(jnp.max(jnp.abs(f @ w / scale))) for f in features) / range_
    np.testing.assert_allclose(found["head"].adc.bound, wanted, rtol=1e-5)
    assert found["head"].adc.bits == 8
    # with the ranges nothing clips: the outputs are those without converters, within their steps
    y = apply(params, found, batches[0])
    ideal = apply(params, hardware.replace(adc=None), batches[0])
    assert float(jnp.max(jnp.abs(y - ideal))) < 0.05 * float(jnp.max(jnp.abs(ideal)))
    assert float(jnp.max(jnp.abs(apply(params, hardware, batches[0]) - ideal))) > 0.1 * float(jnp.max(jnp.abs(ideal)))


def test_rules_of_a_model_are_those_of_its_currents(key):
    apply, params, hardware, batches = case(key, Hardware(adc=ADC()))
    model = apply.merge(params, Hardware())
    effective = arrays.unprogrammed(None, hardware, model.head.kernel[...])
    seen = [arrays.currents(None, hardware, effective, nnx.relu(model.conv(x)).mean((1, 2)), None) for x in batches]
    for rule in (Quantile(level=0.9), MovingQuantile(level=0.9, momentum=0.3)):
        found = nn.calibrate_adc(apply, params, hardware, batches, rule)
        np.testing.assert_allclose(found["head"].adc.bound, rule(seen), rtol=1e-5)


def test_analytic_ranges_cover_the_currents(key):
    apply, params, hardware, batches = case(key, Hardware(adc=ADC()))
    few, most, all_ = (
        nn.calibrate_adc(apply, params, hardware, batches, r)["conv"].adc.bound
        for r in (Analytic(sigmas=1.0), Maximum(), Analytic(sigmas=5.0))
    )
    assert 0 < float(few) < float(most) < float(all_)


def test_a_chip_that_has_drifted_needs_less(key):
    hardware = Hardware(device=devices.pcm(), inputs=LearnedRange(), adc=ADC(bits=8))
    apply, params, hardware, batches = case(key, hardware)
    chip = apply.program(key, params, hardware)
    now, later = (
        nn.calibrate_adc(apply, params, hardware, batches, Maximum(), key=key, chip=chip, time=t) for t in (0.0, 1e7)
    )
    assert float(later["conv"].adc.bound) < 0.8 * float(now["conv"].adc.bound)
    again = nn.calibrate_adc(apply, params, hardware, batches, Maximum(), key=key, chip=chip, time=1e7)
    assert float(again["conv"].adc.bound) == float(later["conv"].adc.bound)


def test_zeros_leave_the_bound(key):
    apply, params, hardware, batches = case(key, Hardware(adc=ADC(bound=7.0)))
    assert float(nn.calibrate_adc(apply, params, hardware, [0 * batches[0]], Maximum())["conv"].adc.bound) == 7


def test_bad_input_is_refused(key):
    apply, params, hardware, batches = case(key, Hardware(adc=ADC()))
    with pytest.raises(ValueError, match="batches is empty"):
        nn.calibrate_adc(apply, params, hardware, [], Maximum())
    with pytest.raises(ValueError, match=r"Hardware.adc is None: there is no range to calibrate"):
        nn.calibrate_adc(apply, params, Hardware(), batches[:1], Maximum())
