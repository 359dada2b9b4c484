"""Configurations in the style of AIHWKit."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anajax import arrays
from anajax.arrays import Hardware, mapping
from anajax.devices import Device
from anajax.devices import presets as devices
from anajax.imports import pulsed
from anajax.imports.table import Table, class_of
from anajax.presets import standard_aimc


@dataclasses.dataclass(frozen=True)
class Imported:
    """What a configuration means here.

    Attributes:
      hardware: the spec.
      layer: options for layers and `nn.convert`, such as `learn_output_scale`.
      clip: arguments of `nn.clip` after each step of training, or `None`.
      remap: arguments of `nn.remap`, or `None`.
      ignored: what has no counterpart, by its path, and why.
    """

    hardware: Hardware
    layer: dict[str, Any]
    clip: dict[str, Any] | None
    remap: dict[str, Any] | None
    ignored: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{name}: {why}" for name, why in self.ignored.items()] or ["nothing"]
        return "\n".join([repr(self.hardware), "without counterpart:", *(f"  {line}" for line in lines)])


def from_aihwkit(config: Mapping[str, Any] | str | Path) -> Imported:
    """Return the hardware that a configuration in the style of AIHWKit describes.

    A configuration is a dictionary of the names that AIHWKit's inference configurations have, or such a
    configuration itself, or a JSON file. `class` names the configuration (`InferenceRPUConfig` by
    default, `StandardHWATrainingPreset`, `SingleRPUConfig`, `FloatingPointRPUConfig`), the noise model and the pulsed
    device; enumerations go by name or value. What is left out is as AIHWKit has it by default. Nothing of a file is
    executed.

    Of a `SingleRPUConfig`, cells get a window of 50 to 100 uS, as it names no conductances, and are read against one
    whose state is 0: `nn.in_situ(key, nn.convert(model, hardware))` trains them.

    Args:
      config: a dictionary, or the path of a JSON file.

    Raises:
      ValueError: it is no configuration, or a value is none that AIHWKit takes.

    Example:
      >>> from anajax import imports
      >>> found = imports.from_aihwkit({"noise_model": "PCMLikeNoiseModel", "forward": {"inp_sto_round": True}})
      >>> found.hardware.output_noise
      OutputNoise(sigma=0.06, spread=None)
      >>> found.ignored
      {'forward.inp_sto_round': 'rounding is to the nearest'}
    """
    table = Table(_read(config), "")
    if "class" not in table.unused and "device" in table.unused and "noise_model" not in table.unused:
        raise ValueError("class must be given with a device, such as 'SingleRPUConfig': dataclasses.asdict drops it")
    kind = table.take("class", "InferenceRPUConfig")
    if kind == "FloatingPointRPUConfig":
        return Imported(Hardware(), {}, None, None, table.left())
    if kind == "SingleRPUConfig":
        return _trained_in_place(table)
    if kind not in (*_INFERENCE, "StandardHWATrainingPreset"):
        known = ", ".join((*_INFERENCE, "StandardHWATrainingPreset", "SingleRPUConfig", "FloatingPointRPUConfig"))
        raise ValueError(f"class must be one of {known}; got {kind!r}")
    base = _STANDARD if kind == "StandardHWATrainingPreset" else {}
    sections = {n: Table(table.take(n, {}), n, base.get(n, {})) for n in _SECTIONS}
    device, pairs = _noise_model(table.take("noise_model", {"class": "PCMLikeNoiseModel"}), table)
    layer, scaling = _mapping(sections["mapping"])
    hardware = Hardware(
        device=device,
        **pairs(scaling),
        **_forward(sections["forward"], _input_range(sections["pre_post"])),
        array_shape=layer.pop("array_shape"),
        compensation=_compensation(table.take("drift_compensation", {"class": "GlobalDriftCompensation"})),
        modifier=_modifier(sections["modifier"]),
        backward=standard_aimc().backward,
    )
    clip, remap = _clip(sections["clip"]), _remap(sections["remap"])
    return Imported(hardware, layer, clip, remap, _ignored(table, sections))


def _trained_in_place(table: Table) -> Imported:
    """Return the hardware of a configuration whose weights live in cells that pulses change."""
    names = ("forward", "backward", "update", "mapping", "pre_post", "device")
    sections = {n: Table(table.take(n, {}), n, named=n == "device") for n in names}
    device, largest = pulsed.cell(sections["device"])
    layer, scaling = _mapping(sections["mapping"])
    if scaling["scale_by"] == "none":
        scaling["largest"] = largest
    else:
        if scaling["fill"] > largest:
            got = f"w_max = {largest:g}; got {scaling['fill']:g}"
            raise ValueError(f"mapping.weight_scaling_omega must be at most {got}")
        scaling["fill"] /= largest
    periphery = _forward(sections["forward"], _input_range(sections["pre_post"]), largest)
    back = _forward(sections["backward"], None, largest)
    back.pop("halvings", None)  # bound management is for forward reads only
    hardware = Hardware(
        device=device,
        mapping=mapping.Signed(**scaling),
        pulses=pulsed.trains(sections["update"]),
        **periphery,
        array_shape=layer.pop("array_shape"),
        transposed=Hardware(**back),
    )
    return Imported(hardware, layer, None, None, _ignored(table, sections))


def _ignored(table: Table, sections: Mapping[str, Table]) -> dict[str, str]:
    found = table.left()
    for section in sections.values():
        found |= section.left()
    return found


_INFERENCE = ("InferenceRPUConfig", "TorchInferenceRPUConfig")
_SECTIONS = ("forward", "mapping", "modifier", "clip", "remap", "pre_post")
_STANDARD: dict[str, dict[str, Any]] = {
    "forward": {
        "inp_res": 1 / 254,
        "out_res": 1 / 254,
        "out_bound": 10.0,
        "out_noise": 0.04,
        "w_noise": 0.0175,
        "w_noise_type": "PCM_READ",
        "ir_drop": 1.0,
        "bound_management": "NONE",
        "noise_management": "CONSTANT",
        "nm_thres": 1.0,
    },
    "mapping": {
        "max_output_size": 0,
        "weight_scaling_omega": 1.0,
        "weight_scaling_columnwise": True,
        "learn_out_scaling": True,
        "out_scaling_columnwise": True,
    },
    "pre_post": {"input_range": {"enable": True}},
    "clip": {"type": "FIXED_VALUE", "fixed_value": 1.0},
    "remap": {"type": "CHANNELWISE_SYMMETRIC"},
}


def _read(config: Any) -> Any:
    if not isinstance(config, str | Path):
        return config
    path = Path(config)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration at {path}")
    try:
        return json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _bits(resolution: float) -> float | None:
    """Return bits of a resolution, which is a number of steps above 1, and their inverse below; `None` for no steps."""
    if resolution <= 0:
        return None
    return math.log2((resolution if resolution > 1 else 1 / resolution) + 2)


def _forward(io: Table, learned: Any, largest: float = 1.0) -> dict[str, Any]:
    """Return the periphery of `IOParameters`; outputs count there in weights, here in `largest` ones."""
    if io.flag("is_perfect", False):
        io.unused.clear()
        return {"inputs": learned}
    parts: dict[str, Any] = {}
    bound, noise, asymmetry = io.number("inp_bound", 1.0), io.number("inp_noise", 0.0), io.number("inp_asymmetry", 0.0)
    bits = _bits(io.number("inp_res", 1 / 126))
    if bound <= 0 and bits is not None:
        raise ValueError(f"{io.name('inp_bound')} must be greater than 0 where inp_res has steps; got {bound:g}")
    if bound > 0:
        parts["dac"] = arrays.DAC(bits=bits, bound=bound, noise=noise or None, asymmetry=asymmetry or None)
    elif noise or asymmetry:
        io.why[io.name("inp_noise")] = "noise and asymmetry of inputs need a bound here"
    bound, asymmetry = io.number("out_bound", 12.0), io.number("out_asymmetry", 0.0)
    bits = _bits(io.number("out_res", 1 / 510))
    if bound <= 0 and bits is not None:
        raise ValueError(f"{io.name('out_bound')} must be greater than 0 where out_res has steps; got {bound:g}")
    if bound > 0:
        parts["adc"] = arrays.ADC(bits=bits, bound=bound / largest, asymmetry=asymmetry or None)
    sigma, spread = io.number("out_noise", 0.06), io.number("out_noise_std", 0.0)
    if sigma > 0:
        parts["output_noise"] = arrays.OutputNoise(sigma=sigma / largest, spread=spread or None)
    kinds = {"ADDITIVE_CONSTANT": "constant", "PCM_READ": "pcm", "NONE": None}
    sigma, kind = io.number("w_noise", 0.0), kinds[io.choice("w_noise_type", "NONE", tuple(kinds))]
    if sigma > 0 and kind is not None:
        # outputs err by sigma |x|, or sigma sqrt(sum |w| x**2): both sides over `largest`
        unit = largest if kind == "constant" else math.sqrt(largest)
        parts["weight_noise"] = arrays.WeightNoise(sigma=sigma / unit, kind=kind)
    drop, ratio = io.number("ir_drop", 0.0), io.number("ir_drop_g_ratio", 1 / 0.35 / 5e-6)
    if drop > 0:
        parts["wires"] = arrays.IRDrop(scale=drop, resistance=0.35, conductance=1 / (0.35 * ratio))
    offset, resistance = io.number("v_offset_std", 0.0), io.number("r_series", 0.0)
    level = io.number("v_offset_w_min", -1.0)
    if offset or resistance:
        parts["read_voltage"] = arrays.ReadVoltage(offset=offset, series_resistance=resistance, reference=level)
    strength, spread = io.number("out_nonlinearity", 0.0), io.number("out_nonlinearity_std", 0.0)
    calibration = io.number("slope_calibration", 0.0)
    if strength:
        parts["nonlinearity"] = arrays.SShape(strength=strength, spread=spread or None, calibration=calibration)
    if largest != 1 and {"wires", "read_voltage"} & parts.keys():
        io.why[io.name("ir_drop")] = f"wires and voltages meet fractions of w_max = {largest:g}, not weights"
    parts["inputs"] = _scaling(io, learned)
    if (
        io.choice("bound_management", "ITERATIVE", ("NONE", "ITERATIVE", "ITERATIVE_WORST_CASE", "SHIFT"))
        == "ITERATIVE"
    ):
        parts["halvings"] = 10
    for key in ("inp_sto_round", "out_sto_round"):
        io.lacks(key, False, "rounding is to the nearest")
    io.lacks("out_scale", 1.0, "a fixed factor of all outputs: multiply in the model")
    io.lacks("mv_type", "ONE_PASS", "inputs of both signs are read in one pass")
    io.lacks("w_read_asymmetry_dtod", 0.0, "cells read the same in both polarities")
    for key, default in (("max_bm_factor", 1000), ("max_bm_res", 0.25), ("bm_test_negative_bound", True)):
        io.lacks(key, default, "inputs are halved at most 10 times, while either bound is exceeded")
    return parts


def _scaling(io: Table, learned: Any) -> Any:
    names = ("NONE", "ABS_MAX", "CONSTANT", "ABS_MAX_NP_SUM", "MAX", "AVERAGE_ABS_MAX")
    kind, threshold = io.choice("noise_management", "ABS_MAX", names), io.number("nm_thres", 0.0)
    if learned is not None:
        return learned
    if kind == "ABS_MAX":
        return arrays.AbsMax(cap=threshold or None)
    if kind == "CONSTANT":
        return arrays.FixedRange(range=threshold or 1.0)
    if kind != "NONE":
        io.why[io.name("noise_management")] = f"{kind}: inputs are scaled by their largest value instead"
        return arrays.AbsMax(cap=threshold or None)
    return None


def _input_range(table: Table) -> Any:
    part = Table(table.take("input_range", {}), "pre_post.input_range")
    enabled = part.flag("enable", False)
    initial, decay = part.number("init_value", 3.0), part.number("decay", 0.001)
    share = part.number("input_min_percentage", 0.95)
    for key in ("learn_input_range", "init_from_data", "init_std_alpha"):
        part.take(key, None)  # nn.init_input_ranges
    if enabled:
        table.why |= part.left()
    return arrays.LearnedRange(initial=initial, decay=decay, coverage=share) if enabled else None


def _mapping(table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    limit = (table.number("max_input_size", 512), table.number("max_output_size", 512))
    rows, cols = (int(n) if n > 0 else 2**20 for n in limit)  # 0 is no limit
    omega, columns = table.number("weight_scaling_omega", 0.0), table.flag("weight_scaling_columnwise", False)
    scale_by = ("column" if columns else "array") if omega > 0 else "none"
    learned = table.flag("learn_out_scaling", False)
    table.take("out_scaling_columnwise", None)  # learned scales are always of columns
    table.lacks("digital_bias", True, "biases are digital")
    table.lacks("weight_scaling_lr_compensation", False, "learning rates are those of the optimiser")
    shape = (rows, cols) if max(limit) > 0 else None
    layer = {"learn_output_scale": learned, "array_shape": shape}
    return layer, {"scale_by": scale_by, "fill": omega or 1.0}


def _compensation(table: Any) -> Any:
    if table is None:
        return None
    kind = class_of(table, "drift_compensation")
    made = {
        "GlobalDriftCompensation": arrays.DriftCompensation(),
        "PerColumnDriftCompensation": arrays.DriftCompensation(per="column"),
        "GlobalDriftCompensationWithExactReference": arrays.DriftCompensation(reference="target"),
        "NoDriftCompensation": None,
    }
    if kind not in made:
        raise ValueError(f"drift_compensation.class must be one of {', '.join(made)}; got {kind!r}")
    return made[kind]


def _modifier(table: Table) -> Any:
    names = ("NONE", "COPY", "ADD_NORMAL", "MULT_NORMAL", "POLY", "PROG_NOISE", "PCM_NOISE", "DISCRETIZE")
    names += ("DISCRETIZE_ADD_NORMAL", "DROP_CONNECT", "DOREFA")
    kind, sigma = table.choice("type", "NONE", names), table.number("std_dev", 0.0)
    step, dropped = table.number("res", 0.0), table.number("pdrop", 0.0)
    time = table.number("pcm_t_inference", 0.0)
    coefficients = table.take("coeffs", (0.0105392, 0.0768, -0.046925))
    for key in ("dorefa_clip", "g_max", "assumed_wmax", "enable_during_test", "copy_last_column", "sto_round"):
        table.take(key, None)
    if kind == "DOREFA":
        table.why["modifier.type"] = "DOREFA is left out"
    if kind.startswith("DISCRETIZE") and step <= 0:
        raise ValueError(f"modifier.res must be greater than 0 to discretize; got {step:g}")
    levels = (2 / step if 0 < step < 1 else step) + 1
    if kind == "DROP_CONNECT":
        return arrays.DropConnect(probability=dropped)
    if dropped:
        table.why["modifier.pdrop"] = f"dropping comes alone, not with {kind}"
    made = {
        "ADD_NORMAL": lambda: arrays.Additive(sigma=sigma),
        "MULT_NORMAL": lambda: arrays.Multiplicative(sigma=sigma),
        "POLY": lambda: arrays.PolynomialNoise(sigma=sigma, coefficients=tuple(coefficients)),
        "PROG_NOISE": lambda: arrays.DeviceNoise(scale=sigma),
        "PCM_NOISE": lambda: arrays.DeviceNoise(time=time, scale=sigma),
        "DISCRETIZE": lambda: arrays.Discretize(levels=levels),
        "DISCRETIZE_ADD_NORMAL": lambda: arrays.Discretize(levels=levels, sigma=sigma),
    }
    return made[kind]() if kind in made else None


def _clip(table: Table) -> dict[str, Any] | None:
    kind = table.choice("type", "NONE", ("NONE", "FIXED_VALUE", "LAYER_GAUSSIAN", "AVERAGE_CHANNEL_MAX"))
    value, sigma = table.number("fixed_value", -1.0), table.number("sigma", 2.5)
    if kind == "FIXED_VALUE":
        return {"value": value}
    if kind == "NONE":
        return None
    if value > 0:
        table.why["clip.fixed_value"] = f"a second bound beside {kind}"
    return {"sigmas": sigma} if kind == "LAYER_GAUSSIAN" else {"mean_column_max": True}


def _remap(table: Table) -> dict[str, Any] | None:
    kind = table.choice("type", "NONE", ("NONE", "LAYERWISE_SYMMETRIC", "CHANNELWISE_SYMMETRIC"))
    table.lacks("remapped_wmax", 1.0, "the largest weight becomes 1")
    return None if kind == "NONE" else {"per": "layer" if kind == "LAYERWISE_SYMMETRIC" else "column"}


def _noise_model(given: Any, table: Table) -> tuple[Device, Any]:
    """Return the device of a noise model, and a function from scaling to how pairs of it hold weights."""
    model = Table({} if isinstance(given, str) else given, "noise_model")
    kind = class_of(given, "noise_model")
    model.take("class", None)
    scales = {"program_scale": "prog_noise_scale", "nu_scale": "drift_scale", "read_scale": "read_noise_scale"}
    if kind in ("PCMLikeNoiseModel", "StateIndependentNoiseModel"):
        make = devices.pcm if kind == "PCMLikeNoiseModel" else devices.state_independent
        device = make(g_max=1e-6 * model.number("g_max", 25.0))
        numbers = {name: model.number(theirs, 1.0) for name, theirs in scales.items()}
        times = {"t_0": model.number("t_0", 20.0), "t_read": model.number("t_read", 250e-9)}
        device = device.replace(**numbers, **times)
    elif kind == "HermesNoiseModel":
        count = model.number("num_devices", 2)
        if count not in (1, 2):
            raise ValueError(f"noise_model.num_devices must be 1 or 2; got {count:g}")
        device = devices.hermes_one_device() if count == 1 else devices.hermes_two_devices()
    elif kind == "ReRamWan2022NoiseModel":
        device = devices.rram_wan(g_max=1e-6 * model.number("g_max", 25.0))
        device = device.replace(spread_scale=model.number("noise_scale", 1.0))
    elif kind == "ReRamCMONoiseModel":
        percent = model.number("acceptance_range", 2.0)
        if percent not in (0.2, 2.0):
            raise ValueError(f"noise_model.acceptance_range must be 0.2 or 2, in percent; got {percent:g}")
        device = devices.rram_cmo(acceptance=percent / 100)
    else:
        known = "PCMLikeNoiseModel, StateIndependentNoiseModel, HermesNoiseModel, ReRamWan2022NoiseModel"
        raise ValueError(f"noise_model.class must be one of {known}, ReRamCMONoiseModel; got {kind!r}")
    default = "SingleDeviceConductanceConverter" if kind == "ReRamCMONoiseModel" else "SinglePairConductanceConverter"
    converter = model.take("g_converter", {"class": default})
    holds = class_of(converter, "noise_model.g_converter")
    factors = converter.get("f_lst", (1.0,)) if isinstance(converter, Mapping) else (1.0,)
    table.why |= model.left()
    if holds == "SingleDeviceConductanceConverter":
        return device, lambda scaling: {"mapping": mapping.Offset(**scaling)}
    if holds in ("SinglePairConductanceConverter", "DualPairConductanceConverter", "NPairConductanceConverter"):
        return device, lambda scaling: {"mapping": mapping.Differential(significance=tuple(factors), **scaling)}
    raise ValueError(
        "noise_model.g_converter.class must be SinglePair-, DualPair-, NPair- or SingleDeviceConductanceConverter;"
        f" got {holds!r}"
    )
