"""Cells that pulses change, and the trains of pulses, of AIHWKit's training configurations.

Source: the equations and defaults of AIHWKit (Rasch et al., AICAS 2021), as its code has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anajax import devices
from anajax.arrays import PulseTrain
from anajax.devices import Leak, Reference, StepResponse
from anajax.devices.presets.pulsed import one_sided_steps
from anajax.imports.table import Table

#: the configurations name no conductances; the lower end leaves room for cells whose own bound lies below
WINDOW = {"g_min": 50e-6, "g_max": 100e-6}


def cell(table: Table) -> tuple[devices.ReferencePair, float]:
    """Return a cell by the names of a `PulsedDevice`, against a reference whose state is 0, and its largest state."""
    kind = table.take("class", "ConstantStepDevice")
    if table.unused.get("dw_min_dtod_log_normal") and table.unused.get("up_down"):
        table.why[table.name("dw_min_dtod_log_normal")] = "with up_down, the mean steps are a few percent larger"
    if kind not in _KINDS:
        raise ValueError(f"device.class must be one of {', '.join(_KINDS)}; got {kind!r}")
    make, own = _KINDS[kind]
    device = make(**WINDOW, **_population(table), **own(table))
    if device.x_min >= 0:
        raise ValueError(
            "device.w_min must be less than 0: cells of one direction work in pairs, devices.OneSidedPair;"
            f" got {float(device.x_min):g}"
        )
    table.take("construction_seed", None)  # keys
    table.take("count_pulses", None)  # optim.pulses
    table.lacks("enforce_consistency", True, "bounds and steps keep their signs")
    table.lacks("corrupt_devices_prob", 0.0, "put devices.Faulty(device=..., drawn=...) around the cell")
    table.take("corrupt_devices_range", None)
    table.lacks("perfect_bias", False, "biases are digital")
    table.lacks("drift", None, "drift between pulses is devices.Drift of the cell, in conductance")
    full = {name: getattr(device, name) for name in ("g_min", "g_max", "x_min", "x_max")}
    return devices.ReferencePair(device=device, reference=devices.ConstantStep(**full)), float(device.x_max)


def trains(table: Table) -> PulseTrain:
    """Return the trains of a table of the names of `UpdateParameters`."""
    kinds = {
        "STOCHASTIC_COMPRESSED": "stochastic",
        "STOCHASTIC": "stochastic",
        "MEAN_COUNT": "mean-count",
        "DETERMINISTIC_IMPLICIT": "deterministic",
    }
    kind = kinds[table.choice("pulse_type", "STOCHASTIC_COMPRESSED", tuple(kinds))]
    length, step = table.number("desired_bl", 31), table.number("res", 0.0)
    if length < 1 or length != int(length):
        raise ValueError(f"update.desired_bl must be a positive integer; got {length:g}")
    shorter = table.flag("update_bl_management", True)
    managed = table.flag("update_management", True) or shorter
    if not table.flag("fixed_bl", True) and not managed:
        table.why["update.fixed_bl"] = "without management trains have their full length"
    table.lacks("sto_round", False, "rounding is to the nearest")
    table.lacks("um_grad_scale", 1.0, "the largest error counts in full")
    for key, default in (("x_res_implicit", 0.0), ("d_res_implicit", 0.0), ("d_sparsity", False)):
        table.lacks(key, default, "has no counterpart")
    resolution = (1 / step if step > 1 else step) if step > 0 else None
    return PulseTrain(
        length=int(length), kind=kind, update_management=managed, length_management=shorter, resolution=resolution
    )


def _population(table: Table) -> dict[str, Any]:
    """Return what all kinds share: spreads, noise, and what time does."""
    lifetime, diffusion = table.number("lifetime", 0.0), table.number("diffusion", 0.0)
    spreads = table.number("lifetime_dtod", 0.0), table.number("diffusion_dtod", 0.0)
    leak = None
    if lifetime > 0 or diffusion > 0:
        for name in ("lifetime",) * (lifetime > 0) + ("diffusion",) * (diffusion > 0):
            table.why[table.name(name)] = "counts mini-batches, if optim.periodically lets a second pass after each"
        leak = Leak(
            lifetime=lifetime or None,
            lifetime_d2d=(lifetime and spreads[0]) or None,
            diffusion=diffusion or None,
            diffusion_d2d=(diffusion and spreads[1]) or None,
        )
    table.take("apply_write_noise_on_set", None)
    return {
        "x_min_d2d": table.number("w_min_dtod", 0.3) or None,
        "x_max_d2d": table.number("w_max_dtod", 0.3) or None,
        "c2c": table.number("dw_min_std", 0.3) or None,
        "dx_law": "lognormal" if table.flag("dw_min_dtod_log_normal", False) else "normal",
        "rest": table.number("reset", 0.0),
        "rest_d2d": table.number("reset_dtod", 0.0) or None,
        "reset_noise": table.number("reset_std", 0.01) or None,
        "leak": leak,
    }


def _steps(table: Table) -> dict[str, Any]:
    """Return bounds and steps."""
    numbers = {"dw_min": 0.001, "dw_min_dtod": 0.3, "up_down": 0.0, "up_down_dtod": 0.01, "write_noise_std": 0.0}
    bounds = {"x_min": table.number("w_min", -0.6), "x_max": table.number("w_max", 0.6)}
    return bounds | one_sided_steps(*(table.number(name, default) for name, default in numbers.items()))


def _linear(table: Table) -> dict[str, Any]:
    spreads = [table.number(f"gamma_{d}_dtod", 0.05) for d in ("up", "down")]
    if spreads[0] != spreads[1]:
        table.why[table.name("gamma_down_dtod")] = "slopes up and down spread alike, as those up do"
    for key in ("allow_increasing", "reverse_up", "reverse_down"):
        table.lacks(key, False, "steps shrink towards the bound ahead")
    table.take("reverse_offset", None)
    return {
        "gamma_up": table.number("gamma_up", 0.0),
        "gamma_down": table.number("gamma_down", 0.0),
        "gamma_d2d": spreads[0] or None,
        "slope_at": "mean" if table.flag("mean_bound_reference", True) else "own",
        **_soft(table),
    }


def _soft(table: Table, multiplicative: bool = True) -> dict[str, Any]:
    noise = "multiplicative" if table.flag("mult_noise", multiplicative) else "additive"
    return {"noise": noise, **_steps(table)}


def _soft_against_reference(table: Table) -> dict[str, Any]:
    for key in ("slope_up_dtod", "slope_down_dtod"):
        table.lacks(key, 0.0, "the spreads of bounds and steps are those of slopes")
    return _soft(table, multiplicative=False) | _reference(table)


def _reference(table: Table) -> dict[str, Any]:
    mean, spread = table.number("reference_mean", 0.0), table.number("reference_std", 0.0)
    symmetry = table.flag("subtract_symmetry_point", False)
    table.take("n_estimation_steps", None)
    known = Reference(mean=mean, spread=spread or None, symmetry=symmetry)
    return {"reference": known if mean or spread or symmetry else None}


def _soft_by_pulses(table: Table) -> dict[str, Any]:
    numbers = {"p_max": 1000.0, "alpha": 0.0005, "range_min": -1.0, "range_max": 1.0}
    numbers |= {"dw_min_dtod": 0.3, "up_down_dtod": 0.01}
    p_max, alpha, low, high, dtod, skew = (table.number(name, default) for name, default in numbers.items())
    noise = "multiplicative" if table.flag("mult_noise", True) else "additive"
    spreads = {"dx_d2d": dtod or None, "up_down_d2d": skew or None}
    return {"p_max": p_max, "alpha": alpha, "x_min": low, "x_max": high, "noise": noise, **spreads}


def _exponential(table: Table) -> dict[str, Any]:
    numbers = {"a_up": ("A_up", 0.00081), "a_down": ("A_down", 0.36833), "slope": ("a", 0.244), "offset": ("b", 0.2425)}
    numbers |= {"gamma_up": ("gamma_up", 12.44625), "gamma_down": ("gamma_down", 12.78785)}
    own: dict[str, Any] = {ours: table.number(*theirs) for ours, theirs in numbers.items()}
    own |= {f"c2c_{n}": table.number(f"dw_min_std_{m}", 0.0) or None for n, m in (("floor", "add"), ("slope", "slope"))}
    return own | _steps(table)


def _power(table: Table) -> dict[str, Any]:
    gamma, skew = table.number("pow_gamma", 1.0), table.number("pow_up_down", 0.0)
    mean = 1 - abs(skew) / 2  # of the exponents, too, the skew is taken off one only
    return {
        "gamma": gamma * mean,
        "gamma_d2d": table.number("pow_gamma_dtod", 0.1) / mean or None,
        "gamma_up_down": gamma * skew / 2,
        "gamma_up_down_d2d": gamma * table.number("pow_up_down_dtod", 0.0) or None,
        **_steps(table),
    }


def _piecewise(table: Table) -> dict[str, Any]:
    nodes = {}
    for direction in ("up", "down"):
        key = f"piecewise_{direction}"
        given = table.take(key, (1.0,))
        known = isinstance(given, list | tuple) and all(isinstance(v, int | float) for v in given)
        if not known or not given:
            raise ValueError(f"{table.name(key)} must be a list of numbers; got {given!r}")
        nodes[f"nodes_{direction}"] = tuple(map(float, 2 * given if len(given) == 1 else given))
    return nodes | _steps(table)


_KINDS: dict[str, tuple[type[StepResponse], Callable[[Table], dict[str, Any]]]] = {
    "ConstantStepDevice": (devices.ConstantStep, _steps),
    "LinearStepDevice": (devices.LinearStep, _linear),
    "SoftBoundsDevice": (devices.SoftBounds, _soft),
    "SoftBoundsReferenceDevice": (devices.SoftBounds, _soft_against_reference),
    "SoftBoundsPmaxDevice": (devices.SoftBoundsPmax, _soft_by_pulses),
    "ExpStepDevice": (devices.ExpStep, _exponential),
    "PowStepDevice": (devices.PowStep, _power),
    "PowStepReferenceDevice": (devices.PowStep, lambda table: _power(table) | _reference(table)),
    "PiecewiseStepDevice": (devices.PiecewiseStep, _piecewise),
}
