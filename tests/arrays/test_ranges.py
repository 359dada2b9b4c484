import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import analytic_range

from anajax import Hardware
from anajax.arrays import (
    ADC,
    DAC,
    SAR,
    AbsMax,
    Analytic,
    BitSerial,
    Differential,
    FixedRange,
    LearnedRange,
    Maximum,
    MovingQuantile,
    OutputNoise,
    Quantile,
    Slices,
    WeightNoise,
    currents,
    mvm,
    program,
    settle,
    unprogrammed,
)
from anajax.devices import presets as devices
from anajax.devices.conduction import Sinh
from anajax.testing import check_gradients

WHOLE = Differential(scale_by="none")
RULES = {"maximum": Maximum(), "quantile": Quantile(level=0.9), "moving": MovingQuantile(level=0.9, momentum=0.25)}


# --- what converters see --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"array_shape": (7, 3)},
        {"array_shape": (2, 2)},
        {"slices": Slices(bits=2, count=3), "array_shape": (7, 3)},
        {"slices": Slices(bits=2, count=3, add="analog")},
        {"dac": BitSerial(bits=4), "array_shape": (7, 3)},
        {"dac": BitSerial(bits=4, add="analog")},
        {"slices": Slices(bits=1, count=3), "dac": BitSerial(bits=3)},
        {"inputs": FixedRange(range=0.7), "dac": DAC(bits=5, noise=0.1)},
        {"inputs": LearnedRange(), "device": devices.pcm()},
    ],
    ids=lambda parts: "-".join(parts),
)
def test_the_mvm_converts_just_these_currents(parts, key):
    w = jax.random.normal(key, (18, 8))
    x = jax.random.normal(jax.random.fold_in(key, 1), (5, 18))
    hardware = Hardware(**{"output_noise": OutputNoise(sigma=0.1)} | parts)
    effective = settle(key, hardware, program(key, hardware, w), w)
    y = currents(key, hardware, effective, x, 2.0)
    n_rows = effective.weights.shape[0]
    digital = isinstance(hardware.dac, BitSerial) and hardware.dac.add == "digital"
    lines = 1 if hardware.slices is None else hardware.slices.outputs
    assert y.shape == (n_rows, 5 * (hardware.dac.count if digital else 1), lines, 8)
    # put together by hand, they are what an mvm without converters returns
    scale = effective.scale.reshape(n_rows, -1, lines, effective.scale.shape[-1] // lines)
    scale = jnp.moveaxis(scale, 1, 2).reshape(n_rows, lines, -1)[..., :8]
    total = y if not digital else jnp.tensordot(y.reshape(n_rows, 5, -1, lines, 8), hardware.dac.shifts, ((2,), (0,)))
    total = total if not digital else total / (2 ** (hardware.dac.bits - 1) - 1)
    divisor = {FixedRange: 0.7, LearnedRange: 2.0}.get(type(hardware.inputs), 1.0)
    found = jnp.sum(total * scale[:, None], axis=(0, 2)) * divisor
    np.testing.assert_allclose(found, mvm(key, hardware, effective, x, 2.0), rtol=1e-4, atol=1e-5)


def test_currents_under_jit_and_vmap(key):
    w, x = jax.random.normal(key, (6, 4)), jax.random.normal(key, (3, 6))
    hardware = Hardware(output_noise=OutputNoise(sigma=0.1), array_shape=(4, 4))
    run = jax.jit(lambda k: currents(k, hardware, unprogrammed(None, hardware, w), x))
    keys = jax.random.split(key, 3)
    np.testing.assert_allclose(jax.vmap(run)(keys), np.stack([run(k) for k in keys]), atol=1e-6)


# --- rules ----------------------------------------------------------------------------------------------


def test_rules_by_hand():
    batches = [jnp.array([[1.0, -3.0], [2.0, 0.0]]), jnp.array([-8.0, 4.0, 6.0, 2.0])]
    assert float(Maximum()(batches)) == 8
    np.testing.assert_allclose(Quantile(level=0.5)(batches), 2.5)  # of 0 1 2 2 3 4 6 8
    np.testing.assert_allclose(MovingQuantile(level=0.5, momentum=0.25)(batches), 1.5 + 0.25 * (5 - 1.5))
    assert float(MovingQuantile(level=1.0, momentum=1.0)(batches[::-1])) == 3


def test_a_moving_quantile_forgets_geometrically(key):
    y = [jnp.full((4,), 5.0)] + [jnp.full((4,), 1.0)] * 12
    np.testing.assert_allclose(MovingQuantile(momentum=0.2)(y), 1 + 4 * 0.8**12, rtol=1e-6)


def test_a_quantile_clips_its_share(key):
    y = jax.random.normal(key, (50_000,))
    bound = Quantile(level=0.99)([y])
    np.testing.assert_allclose(bound, 2.5758, rtol=0.02)  # 4.5 standard errors
    assert abs(float(jnp.mean(jnp.abs(y) > bound)) - 0.01) < 1e-4


def test_analytic_ranges_are_those_of_normal_currents(key):
    analytic_range(Analytic(sigmas=3.0), key)


def test_analytic_ranges_of_means(x64):
    """Inputs of mean alone: the range is the largest of their own outputs, array by array."""
    w = jnp.asarray(np.linspace(-1, 1, 21).reshape(7, 3))
    mean = jnp.arange(7.0)
    hardware = Hardware(mapping=WHOLE, array_shape=(4, 3), inputs=FixedRange(range=2.0))
    effective = unprogrammed(None, hardware, w)
    wanted = max(np.abs(mean[:4] @ w[:4]).max(), np.abs(mean[4:] @ w[4:]).max()) / 2
    np.testing.assert_allclose(Analytic()(hardware, effective, mean, 0.0), wanted, rtol=1e-12)
    np.testing.assert_allclose(Maximum()([currents(None, hardware, effective, mean)]), wanted, rtol=1e-12)


@pytest.mark.parametrize("kind", ["constant", "pcm"])
def test_analytic_ranges_know_the_noise_of_weights(kind, key):
    w = jax.random.uniform(key, (30, 2), minval=-1.0)
    hardware = Hardware(mapping=WHOLE, weight_noise=WeightNoise(sigma=0.5, kind=kind))
    effective = unprogrammed(None, hardware, w)
    x = 0.3 + 0.2 * jax.random.normal(key, (20_000, 30))
    y = currents(key, hardware, effective, x)[0, :, 0]
    wanted = jnp.max(jnp.abs(y.mean(0)) + 2 * y.std(0))
    np.testing.assert_allclose(Analytic(sigmas=2.0)(hardware, effective, 0.3, 0.2), wanted, rtol=0.02)


def test_analytic_ranges_have_true_gradients(key):
    hardware = Hardware(
        mapping=WHOLE, array_shape=(4, 3), output_noise=OutputNoise(sigma=0.3), inputs=FixedRange(range=2.0)
    )
    w = jax.random.uniform(key, (7, 3), minval=-1.0)

    def run(rule, sigma, w, mean, std):
        changed = hardware.replace(**{"output_noise.sigma": sigma})
        return rule(changed, unprogrammed(None, changed, w), mean, std)

    slopes = check_gradients(run, Analytic(), 0.3, w, jnp.linspace(0.1, 0.4, 7), jnp.linspace(0.5, 1.0, 7))
    assert not [name for name, slope in slopes.items() if slope == 0]


@pytest.mark.parametrize("name", RULES)
def test_rules_are_differentiable(name, key, x64):
    y = jax.random.normal(key, (40,), jnp.float64)
    along = jax.random.normal(jax.random.fold_in(key, 1), (40,), jnp.float64)

    rule = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), RULES[name])

    def run(t):
        return rule([y[:20] + t * along[:20], y[20:] + t * along[20:]])

    np.testing.assert_allclose(jax.grad(run)(0.0), (run(1e-6) - run(-1e-6)) / 2e-6, rtol=1e-6)


def test_a_calibrated_range_errs_less(key):
    """Of 6 bits, at the range of the data against that of the worst case."""
    k_w, k_x = jax.random.split(key)
    w = jax.random.uniform(k_w, (64, 16), minval=-1.0)
    x = jax.random.uniform(k_x, (400, 64), minval=-1.0)
    hardware = Hardware(mapping=WHOLE, adc=SAR(bits=6, bound=64.0))
    effective = unprogrammed(None, hardware, w)
    error = {}
    for name, rule in {"worst": None, **RULES, "three nines": Quantile(level=0.999)}.items():
        h = (
            hardware
            if rule is None
            else hardware.replace(**{"adc.bound": rule([currents(None, hardware, effective, x)])})
        )
        error[name] = float(jnp.sqrt(jnp.mean((mvm(None, h, effective, x) - x @ w) ** 2)))
    assert error["three nines"] < error["maximum"] < error["worst"] / 3
    assert error["quantile"] > error["three nines"]  # a tenth of the outputs clipped


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: Maximum()([]), "batches is empty"),
        (lambda: Quantile(level=99.0), "Quantile.level must be .* at most 1; got 99"),
        (lambda: MovingQuantile(momentum=0.0), "MovingQuantile.momentum must be greater than 0"),
        (lambda: analytic(inputs=AbsMax()), r"Hardware.inputs=AbsMax"),
        (lambda: analytic(dac=BitSerial()), r"Hardware.dac=BitSerial\(\.\.\.\)"),
        (lambda: analytic(conduction=Sinh(v_0=0.1), v_read=0.2), "Analytic needs arrays that compute a matrix product"),
        (lambda: analytic(inputs=LearnedRange()), "Analytic needs input_range"),
        (lambda: analytic(mean=jnp.zeros(4)), r"mean must have shape \(rows\) with rows=3; got \(4,\)"),
        (lambda: currents(None, Hardware(adc=ADC()), effective(Hardware()), jnp.ones((2, 4))), "x must have shape"),
    ],
)
def test_bad_input_is_refused(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def effective(hardware):
    return unprogrammed(None, hardware, jnp.ones((3, 2)))


def analytic(mean=0.0, **parts):
    hardware = Hardware(**parts)
    return Analytic()(hardware, effective(hardware), mean, 1.0)
