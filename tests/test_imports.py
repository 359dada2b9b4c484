"""Configurations in the style of AIHWKit: the published preset to the field, and everything that has no counterpart."""

import dataclasses
import enum
import json

import jax.numpy as jnp
import numpy as np
import pytest

import anajax
from anajax import arrays, imports


def test_the_standard_preset_is_the_one_here():
    found = imports.from_aihwkit({"class": "StandardHWATrainingPreset"})
    wanted = anajax.presets.standard_aimc()
    assert found.hardware.array_shape == (512, 2**20)  # no limit of outputs there
    assert repr(found.hardware.replace(array_shape=(512, 512))) == repr(wanted)
    assert (found.layer, found.clip, found.remap) == (
        {"learn_output_scale": True},
        {"value": 1.0},
        {"per": "column"},
    )
    assert found.ignored == {}


def test_defaults_are_those_of_aihwkit():
    hw = imports.from_aihwkit({}).hardware
    np.testing.assert_allclose([hw.dac.bits, hw.adc.bits], [7, 9], rtol=1e-6)
    assert (float(hw.adc.bound), float(hw.output_noise.sigma), hw.halvings) == (12.0, pytest.approx(0.06), 10)
    assert isinstance(hw.inputs, arrays.AbsMax)
    assert hw.mapping.scale_by == "none"
    perfect = imports.from_aihwkit({"forward": {"is_perfect": True, "out_noise": 1.0}})
    assert perfect.hardware.output_noise is None
    assert perfect.hardware.adc is None
    assert repr(imports.from_aihwkit({"class": "FloatingPointRPUConfig"}).hardware) == repr(anajax.Hardware())


class Kind(enum.Enum):
    ADD_NORMAL = "AddNormal"


@dataclasses.dataclass
class Modifier:
    type: Kind = Kind.ADD_NORMAL
    std_dev: float = 0.07


@pytest.mark.parametrize(
    ("config", "path", "wanted"),
    [
        ({"forward": {"inp_res": 254.0}}, "dac", arrays.DAC(bits=8.0)),
        ({"forward": {"inp_res": -1.0, "inp_noise": 0.1}}, "dac", arrays.DAC(noise=0.1)),
        ({"forward": {"inp_res": 0.0, "inp_bound": 0.0}}, "dac", None),
        ({"forward": {"out_asymmetry": 0.02, "out_res": -1}}, "adc", arrays.ADC(bound=12.0, asymmetry=0.02)),
        ({"forward": {"out_noise_std": 0.1}}, "output_noise", arrays.OutputNoise(sigma=0.06, spread=0.1)),
        ({"forward": {"w_noise": 0.01, "w_noise_type": "AdditiveConstant"}}, "weight_noise.kind", "constant"),
        ({"forward": {"v_offset_std": 0.1, "r_series": 0.01}}, "read_voltage.reference", jnp.float32(-1)),
        ({"forward": {"out_nonlinearity": 0.3}}, "nonlinearity", arrays.SShape(strength=0.3)),
        ({"forward": {"noise_management": "CONSTANT", "nm_thres": 2.0}}, "inputs", arrays.FixedRange(range=2.0)),
        ({"forward": {"noise_management": "NONE"}}, "inputs", None),
        ({"forward": {"ir_drop": 1.0, "ir_drop_g_ratio": 1e5}}, "wires.scale", jnp.float32(1)),
        ({"modifier": {"type": "MULT_NORMAL", "std_dev": 0.1}}, "modifier", arrays.Multiplicative(sigma=0.1)),
        ({"modifier": {"type": "DISCRETIZE", "res": 0.1}}, "modifier", arrays.Discretize(levels=21.0)),
        ({"modifier": {"type": "DropConnect", "pdrop": 0.2}}, "modifier", arrays.DropConnect(probability=0.2)),
        ({"modifier": Modifier()}, "modifier", arrays.Additive(sigma=0.07)),
        ({"drift_compensation": None}, "compensation", None),
        ({"drift_compensation": "PerColumnDriftCompensation"}, "compensation.per", "column"),
        ({"mapping": {"weight_scaling_omega": 0.6}}, "mapping", arrays.Differential(scale_by="array", fill=0.6)),
        ({"noise_model": "HermesNoiseModel"}, "device.g_max", jnp.float32(20.7e-6)),
        ({"noise_model": "ReRamCMONoiseModel"}, "mapping", arrays.Offset(scale_by="none")),
    ],
)
def test_settings_have_their_counterparts(config, path, wanted):
    found = imports.from_aihwkit(config)
    value = found.hardware
    for part in path.split("."):
        value = getattr(value, part)
    assert repr(value) == repr(wanted)
    assert found.ignored == {}


def test_scaled_noise_models_and_pairs():
    model = {"class": "PCMLikeNoiseModel", "g_max": 20.0, "drift_scale": 0.5}
    model["g_converter"] = {"class": "DualPairConductanceConverter", "f_lst": [1.0, 3.0]}
    hw = imports.from_aihwkit({"noise_model": model}).hardware
    wanted = anajax.devices.presets.pcm(g_max=20e-6).replace(nu_scale=0.5)
    assert repr(hw.device) == repr(wanted)
    np.testing.assert_array_equal(hw.mapping.significance, [1, 3])


def test_what_has_no_counterpart_is_said():
    found = imports.from_aihwkit(
        {
            "forward": {"inp_sto_round": True, "mv_type": "POS_NEG_SEPARATE", "noise_management": "AVERAGE_ABS_MAX"},
            "modifier": {"type": "DOREFA"},
            "mapping": {"digital_bias": False},
            "noise_model": {"class": "PCMLikeNoiseModel", "prog_coeff": [1.0]},
            "runtime": {"data_type": "float"},
        }
    )
    assert list(found.ignored) == [
        "noise_model.prog_coeff",
        "runtime",
        "forward.noise_management",
        "forward.inp_sto_round",
        "forward.mv_type",
        "mapping.digital_bias",
        "modifier.type",
    ]
    assert "without counterpart:\n  noise_model.prog_coeff: has no counterpart" in str(found)


def test_a_json_file_is_a_configuration(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"forward": {"out_noise": 0.02}}))
    assert float(imports.from_aihwkit(path).hardware.output_noise.sigma) == pytest.approx(0.02)
    path.write_text('{"forward": ')
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        imports.from_aihwkit(path)
    with pytest.raises(FileNotFoundError, match="no configuration at"):
        imports.from_aihwkit(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1], r"config must be a table; got \[1\]"),
        ({"class": "os.system"}, "class must be one of InferenceRPUConfig, .*; got 'os.system'"),
        ({"forward": {"inp_res": "fine"}}, r"forward\.inp_res must be a finite number; got 'fine'"),
        ({"forward": {"out_noise": float("nan")}}, r"forward\.out_noise must be a finite number; got nan"),
        ({"forward": {"is_perfect": 1}}, r"forward\.is_perfect must be true or false; got 1"),
        ({"forward": {"noise_management": "BEST"}}, r"forward\.noise_management must be one of NONE, ABS_MAX"),
        ({"forward": {"inp_bound": 0}}, r"forward\.inp_bound must be greater than 0 where"),
        ({"noise_model": "Best"}, r"noise_model\.class must be one of PCMLikeNoiseModel, .*; got 'Best'"),
        ({"noise_model": 3}, "noise_model must be a table"),
        ({"drift_compensation": "Best"}, r"drift_compensation\.class must be one of Global.*; got 'Best'"),
        ({"modifier": {"type": "DISCRETIZE"}}, r"modifier\.res must be greater than 0 to discretize; got 0"),
        ({"pre_post": {"input_range": {"enable": "yes"}}}, r"pre_post\.input_range\.enable must be true or false"),
    ],
)
def test_malformed_configurations_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        imports.from_aihwkit(config)
