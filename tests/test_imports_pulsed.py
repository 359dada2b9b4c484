"""Training configurations of AIHWKit: their cells, trains of pulses and periphery."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import anajax
from anajax import arrays, imports, nn, optim
from anajax.arrays.tile import as_matrix
from anajax.devices import presets

QUIET = dict.fromkeys(("dw_min_dtod", "up_down_dtod", "w_min_dtod", "w_max_dtod", "dw_min_std"), 0.0)
QUIET |= {"w_min": -1.0, "w_max": 1.0, "dw_min": 0.01}


def imported(**device):
    return imports.from_aihwkit({"class": "SingleRPUConfig", "device": device})


PULSE = jax.jit(lambda device, cells: device.pulse(None, cells, jnp.ones(())))


# what AIHWKit's own simulator gives after n pulses up from 0
CURVES = {
    "ConstantStepDevice": ({}, {50: 0.5, 200: 1.0}),
    "SoftBoundsDevice": ({}, {1: 0.01, 100: 0.633968, 200: 0.866020}),
    "LinearStepDevice": ({"gamma_up": 0.5, "gamma_down": 0.5}, {100: 0.788459}),
    "PowStepDevice": ({"pow_gamma": 2.0, "pow_gamma_dtod": 0.0}, {1: 0.0025, 100: 0.200358, 300: 0.429029}),
    "ExpStepDevice": ({}, {1: 0.00983432, 100: 0.907464, 300: 1.0}),
    "PiecewiseStepDevice": (
        {"piecewise_up": [1.5, 1, 0.5], "piecewise_down": [0.5, 1, 1.5]},
        {1: 0.01, 100: 0.788459},
    ),
}


@pytest.mark.parametrize("kind", CURVES)
def test_curves_are_those_of_aihwkit(kind):
    own, curve = CURVES[kind]
    gammas = {"gamma_up_dtod": 0.0, "gamma_down_dtod": 0.0} if kind == "LinearStepDevice" else {}
    found = imported(**{"class": kind}, **QUIET, **own, **gammas)
    assert found.ignored == {}
    device = found.hardware.device.device
    cells = device.fabricate(None, ())
    for n, wanted in curve.items():
        moved = cells
        for _ in range(n):
            moved = PULSE(device, moved)
        np.testing.assert_allclose(device.state(moved), wanted, atol=2e-5)


@pytest.mark.parametrize(("up_down", "steps"), [(0.5, (0.01, 0.005)), (-0.5, (0.005, 0.01)), (0.0, (0.01, 0.01))])
def test_asymmetry_takes_steps_from_one_direction(up_down, steps):
    device = imported(**{"class": "ConstantStepDevice"}, **(QUIET | {"up_down": up_down})).hardware.device.device
    cells = device.fabricate(None, ())
    moves = [float(device.state(device.pulse(None, cells, jnp.asarray(d)))) for d in (1.0, -1.0)]
    np.testing.assert_allclose(moves, [steps[0], -steps[1]], rtol=1e-5)


def spreads(dw, ud, high, low):
    return {"dw_min_dtod": dw, "up_down_dtod": ud, "w_max_dtod": high, "w_min_dtod": low}


SLOPES = {"gamma_up_dtod": 0.05, "gamma_down_dtod": 0.05}
ARRAY = {"mult_noise": False, "dw_min_dtod_log_normal": True, "subtract_symmetry_point": True, "reference_std": 0.05}
PRESETS = {
    "rram_es": {"class": "ExpStepDevice", "dw_min": 0.00135, "up_down": 0.259359, "w_min": -1, "w_max": 1}
    | spreads(0.2, 0.05, 0.3, 0.3)
    | {"dw_min_std": 5.0, "write_noise_std": 75.0, "A_up": -1.18445, "A_down": -0.081404}
    | {"gamma_up": 5.0, "gamma_down": 5.0, "a": -0.5, "b": -0.5},
    "rram_sb": {"class": "SoftBoundsReferenceDevice", "dw_min": 0.002, "w_min": -0.75, "w_max": 1.25}
    | spreads(0.3, 0.01, 0.24, 0.4)
    | {"dw_min_std": 3.75, "write_noise_std": 56.0},
    "rram_array_om": {"class": "SoftBoundsReferenceDevice", "dw_min": 0.0949, "w_min": -1, "w_max": 1}
    | spreads(0.7829, 0.01, 0.3499, 0.5695)
    | {"dw_min_std": 0.4158, "write_noise_std": 1.4113}
    | ARRAY,
    "capacitor": {"class": "LinearStepDevice", "dw_min": 0.005, "w_min": -1, "w_max": 1, "mult_noise": False}
    | spreads(0.1, 0.06, 0.07, 0.07)
    | {"gamma_up": 0.05, "gamma_down": 0.05, "gamma_up_dtod": 0.01, "gamma_down_dtod": 0.01}
    | {"lifetime": 1e6, "lifetime_dtod": 0.3},
    "ecram": {"class": "LinearStepDevice", "dw_min": 0.002, "w_min": -0.8276, "w_max": 1.1724}
    | spreads(0.1, 0.01, 0.05, 0.05)
    | {"gamma_up": 0.1153, "gamma_down": 0.5085, **SLOPES},
    "gokmen_vlasov": {"class": "ConstantStepDevice", "dw_min": 0.0016, "w_min": -1, "w_max": 1}
    | spreads(0.3, 0.01, 0.3, 0.3),
}


@pytest.mark.parametrize("name", PRESETS)
def test_published_devices_are_the_presets_here(name):
    found = imported(**PRESETS[name]).hardware.device.device
    wanted = getattr(presets, name)()
    elsewhere = ("g_min", "g_max", "reset_noise")  # the configurations name no conductances, and all reset with noise
    for field in dataclasses.fields(wanted):
        if field.name not in elsewhere:
            assert repr(getattr(found, field.name)) == repr(getattr(wanted, field.name)), field.name


def test_soft_bounds_by_pulses_reach_their_ends():
    found = imported(**{"class": "SoftBoundsPmaxDevice"}, dw_min_dtod=0.0, up_down_dtod=0.0, w_min_dtod=0.0)
    device = found.hardware.device.device
    assert (float(device.p_max), float(device.x_min), float(device.x_max)) == (1000.0, -1.0, 1.0)
    assert found.hardware.mapping.largest == 1.0


@pytest.mark.parametrize("largest", [0.4, 0.6, 1.0, 2.0])
def test_weights_are_states_and_outputs_count_in_them(largest):
    """Whatever the bounds: a weight of 0.3 is a state of 0.3; noise, bounds and steps of outputs are in weights."""
    quiet = QUIET | {"w_min": -largest, "w_max": largest}
    config = {"class": "SingleRPUConfig", "device": {"class": "ConstantStepDevice", **quiet}}
    io = {"out_noise": 0.06, "out_bound": 12.0, "out_res": -1.0, "inp_res": -1.0, "inp_bound": 0.0}
    found = imports.from_aihwkit(config | {"forward": io | {"noise_management": "NONE", "bound_management": "NONE"}})
    hw = found.hardware
    assert found.ignored == {}
    weights = jnp.asarray([[0.3, -0.15], [largest, 0.0]])
    crossbar = arrays.in_conductances(None, hw, weights)
    np.testing.assert_allclose(hw.device.device.state(crossbar.cells.parts["device"])[0, 0, 0], weights, atol=1e-5)
    effective = arrays.stand(None, hw, crossbar)
    np.testing.assert_allclose(as_matrix(hw, effective), weights, atol=1e-5)
    y = arrays.mvm(jax.random.key(0), hw, effective, jnp.zeros((20000, 2)))
    np.testing.assert_allclose(y.std(), 0.06, rtol=0.02)  # of 40,000 draws: 5 sigma
    high = arrays.mvm(jax.random.key(0), hw, effective, jnp.full((1, 2), 1000.0))
    np.testing.assert_allclose(high[0, 0], 12.0, rtol=1e-5)
    with pytest.raises(ValueError, match=rf"within \[-{largest:g}, {largest:g}\] .* got {2 * largest:g}"):
        arrays.in_conductances(None, hw, 2 * weights)


@pytest.mark.parametrize("largest", [0.6, 2.0])
@pytest.mark.parametrize("kind", ["ADDITIVE_CONSTANT", "PCM_READ", "S-shape"])
def test_noise_of_weights_and_the_bend_of_outputs_count_in_weights(kind, largest):
    """Closed forms in states w: sigma |x|, sigma sqrt(sum |w| x**2), and y / (1 + |s y / bound|)."""
    quiet = QUIET | {"w_min": -largest, "w_max": largest}
    io = {"out_noise": 0.0, "out_bound": 12.0, "out_res": -1.0, "inp_res": -1.0, "inp_bound": 0.0}
    io |= {"noise_management": "NONE", "bound_management": "NONE"}
    io |= {"out_nonlinearity": 0.7} if kind == "S-shape" else {"w_noise": 0.1, "w_noise_type": kind}
    config = {"class": "SingleRPUConfig", "device": {"class": "ConstantStepDevice", **quiet}, "forward": io}
    hw = imports.from_aihwkit(config).hardware
    w, x = jnp.asarray([[0.3], [-0.5]]), jnp.asarray([1.0, 2.0])
    effective = arrays.stand(None, hw, arrays.in_conductances(None, hw, w))
    y = arrays.mvm(jax.random.key(0), hw, effective, jnp.tile(x, (20000, 1)))
    if kind == "S-shape":
        np.testing.assert_allclose(y, (x @ w) / (1 + 0.7 / 12 * jnp.abs(x @ w)) * jnp.ones_like(y), rtol=1e-4)
    else:
        wanted = 0.1 * (jnp.linalg.norm(x) if kind == "ADDITIVE_CONSTANT" else jnp.sqrt(jnp.abs(w[:, 0]) @ x**2))
        np.testing.assert_allclose(y.std(), wanted, rtol=0.025)  # of 20,000 draws: 5 sigma


@pytest.mark.parametrize("largest", [0.6, 2.0])
def test_weights_may_be_scaled_to_a_state(largest):
    quiet = QUIET | {"w_min": -largest, "w_max": largest}
    device = {"class": "ConstantStepDevice", **quiet}
    config = {"class": "SingleRPUConfig", "device": device, "mapping": {"weight_scaling_omega": 0.6}}
    hw = imports.from_aihwkit(config).hardware
    crossbar = arrays.in_conductances(None, hw, jnp.asarray([[5.0], [-2.5]]))
    np.testing.assert_allclose(hw.device.device.state(crossbar.cells.parts["device"]).ravel(), [0.6, -0.3], atol=1e-6)
    config["mapping"] = {"weight_scaling_omega": 3.0}
    with pytest.raises(ValueError, match=rf"weight_scaling_omega must be at most w_max = {largest:g}; got 3"):
        imports.from_aihwkit(config)


def test_exponents_of_powers_are_skewed_as_steps_are():
    """Of 2 and a skew of 0.5, AIHWKit's code makes 2 up and 1 down."""
    given = {"class": "PowStepDevice", "pow_gamma": 2.0, "pow_gamma_dtod": 0.0, "pow_up_down": 0.5}
    device = imported(**given, **QUIET).hardware.device.device
    cell = device.realise(device.fabricate(None, ()))
    np.testing.assert_allclose([cell["gamma_up"], cell["gamma_down"]], [2.0, 1.0], rtol=1e-6)


@dataclasses.dataclass
class LinearStepDevice:
    w_min: float = -1.0
    w_max: float = 1.0
    gamma_up: float = 0.2


@dataclasses.dataclass
class SingleRPUConfig:
    device: LinearStepDevice


def test_classes_of_dataclasses_are_known_and_missing_ones_asked_for():
    device = imports.from_aihwkit(SingleRPUConfig(LinearStepDevice())).hardware.device.device
    assert isinstance(device, anajax.devices.LinearStep)
    assert float(device.gamma_up) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="class must be given with a device, such as 'SingleRPUConfig'"):
        imports.from_aihwkit(dataclasses.asdict(SingleRPUConfig(LinearStepDevice())))
    named = imports.from_aihwkit({"class": "SingleRPUConfig", "device": "SoftBoundsDevice"})
    assert isinstance(named.hardware.device.device, anajax.devices.SoftBounds)


def test_trains_and_both_peripheries():
    config = {
        "class": "SingleRPUConfig",
        "device": PRESETS["gokmen_vlasov"],
        "forward": {"out_noise": 0.02},
        "backward": {"out_noise": 0.05, "inp_sto_round": True},
        "pre_post": {"input_range": {"enable": True, "more": 1}},
        "update": {"desired_bl": 10, "update_bl_management": False, "pulse_type": "MeanCount", "sto_round": True},
    }
    found = imports.from_aihwkit(config)
    wanted = anajax.arrays.PulseTrain(length=10, kind="mean-count", length_management=False)
    assert repr(found.hardware.pulses) == repr(wanted)
    assert float(found.hardware.output_noise.sigma) == pytest.approx(0.02)
    assert float(found.hardware.transposed.output_noise.sigma) == pytest.approx(0.05)
    assert (found.hardware.halvings, found.hardware.transposed.halvings) == (10, 0)
    unknown = {"backward.inp_sto_round", "update.sto_round", "pre_post.input_range.more"}
    assert set(found.ignored) == unknown


def test_an_imported_configuration_trains():
    found = imports.from_aihwkit({"class": "SingleRPUConfig", "device": PRESETS["gokmen_vlasov"]})
    hw = found.hardware
    model = nn.in_situ(jax.random.key(0), nn.convert(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), hw, **found.layer))
    apply, params, _, _ = nn.split(model)
    x = jax.random.normal(jax.random.key(1), (64, 4))
    y = x @ jnp.asarray([[0.3, -0.2, 0.1], [0.0, 0.4, -0.3], [0.2, 0.2, 0.2], [-0.4, 0.0, 0.3]])
    tx = optim.partition(optim.analog_sgd(hw, 0.05, key=jax.random.key(2)), optax.sgd(0.05))

    def loss(params, key):
        return jnp.mean((apply(params, hw, x, key=key) - y) ** 2)

    @jax.jit
    def step(params, state, key):
        value, slope = jax.value_and_grad(loss)(params, key)
        updates, state = tx.update(slope, state, params)
        return optax.apply_updates(params, updates), state, value

    state, values = tx.init(params), []
    for i in range(60):
        params, state, value = step(params, state, jax.random.key(i))
        values.append(float(value))
    assert np.mean(values[-5:]) < 0.2 * values[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"device": {"class": "Best"}}, r"device\.class must be one of ConstantStepDevice, .*; got 'Best'"),
        ({"device": {"class": "TransferCompound"}}, r"device\.class must be one of .*; got 'TransferCompound'"),
        ({"device": {"dw_min": "small"}}, r"device\.dw_min must be a finite number; got 'small'"),
        ({"device": {"dw_min": -1.0}}, r"dx must be"),
        ({"device": {"w_min": 0.0}}, r"device\.w_min must be less than 0: .* got 0"),
        ({"device": {"class": "PiecewiseStepDevice", "piecewise_up": 3}}, r"device\.piecewise_up must be a list"),
        ({"update": {"desired_bl": 0}}, r"update\.desired_bl must be a positive integer; got 0"),
        ({"update": {"pulse_type": "NONE"}}, r"update\.pulse_type must be one of STOCHASTIC_COMPRESSED"),
        ({"backward": {"out_bound": 0}}, r"backward\.out_bound must be greater than 0"),
    ],
)
def test_malformed_configurations_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        imports.from_aihwkit({"class": "SingleRPUConfig", **config})


def test_what_has_no_counterpart_is_said():
    found = imported(
        **{"class": "LinearStepDevice"},
        **QUIET,
        corrupt_devices_prob=0.1,
        perfect_bias=True,
        allow_increasing=True,
        gamma_up_dtod=0.1,
        drift={"nu": 0.1},
        granularity=2.0,
        lifetime=10.0,
    )
    names = ("corrupt_devices_prob", "perfect_bias", "allow_increasing", "gamma_down_dtod", "drift", "granularity")
    assert set(found.ignored) == {f"device.{n}" for n in (*names, "lifetime")}
    assert float(found.hardware.device.device.leak.lifetime) == 10.0
