"""Pulsed devices of every kind, for the tests, and how to walk with them."""

import jax
import jax.numpy as jnp

from anajax.devices import (
    ConstantStep,
    ExpStep,
    LinearStep,
    NeuroSim,
    PiecewiseStep,
    PowStep,
    SoftBounds,
    SoftBoundsPmax,
    StepResponse,
    TableStep,
    leaf,
    record,
)


@record
class Tanh(StepResponse):
    """A user's own device, as in the docstring of StepResponse."""

    steep: jax.Array | float = leaf(default=1.0, ge=0)

    def response(self, cell, x, up):
        bend = jnp.tanh(self.steep * x)
        return jnp.where(up, cell["up"] * (1 - bend), -cell["down"] * (1 + bend))


TABLE = {
    "x": [-1.0, -0.4, 0.1, 0.6, 1.0],
    "up_mean": [0.05, 0.04, 0.03, 0.025, 0.01],
    "down_mean": [-0.005, -0.02, -0.03, -0.05, -0.06],
}
KINDS = {
    "constant": (ConstantStep, {"dx": 0.03}),
    "linear": (LinearStep, {"dx": 0.03, "gamma_up": 0.5, "gamma_down": 0.3, "gamma_d2d": 0.1}),
    "growing": (LinearStep, {"dx": 0.03, "gamma_up": -0.5, "gamma_down": 1.5, "slope_at": "own"}),
    "soft": (SoftBounds, {"dx": 0.03}),
    "soft, one by one": (SoftBounds, {"dx": 0.03, "one_by_one": True}),
    "pmax": (SoftBoundsPmax, {"p_max": 40, "alpha": 0.05}),
    "exp": (ExpStep, {"dx": 0.03}),
    "pow": (PowStep, {"dx": 0.05, "gamma": 1.5, "gamma_up_down": 0.2, "gamma_d2d": 0.1, "gamma_up_down_d2d": 0.1}),
    "piecewise": (PiecewiseStep, {"dx": 0.03, "nodes_up": [1.5, 1.0, 0.2], "nodes_down": [0.1, 0.7, 1.0, 1.2]}),
    "table": (TableStep, TABLE),
    "neurosim": (NeuroSim, {"nl_up": 1.75, "nl_down": -1.46, "p_up": 32, "p_down": 40, "nl_d2d": 0.1}),
    "tanh": (Tanh, {"dx": 0.03, "steep": 1.2}),
}
SPREAD = {"x_min_d2d": 0.1, "x_max_d2d": 0.1, "dx_d2d": 0.2, "up_down_d2d": 0.05}
JUMPS = ("constant", "linear", "growing", "soft", "pmax", "neurosim")


def make(kind, **more):
    """A device of this kind."""
    cls, settings = KINDS[kind]
    return cls(**settings | more)


def noise(kind):
    """Settings that give this kind cycle-to-cycle noise."""
    if kind == "table":
        return {"up_std": [0.01] * 5, "down_std": [0.02] * 5}
    return {"c2c": 0.01 if kind == "neurosim" else 0.3}


def cells_at(device, x, **scores):
    """Cells in the state `x`, of these scores."""
    x = jnp.asarray(x, float)
    cells = device.at(device.fabricate(None, x.shape), x)
    return cells.replace(scores=cells.scores | {name: jnp.asarray(s, float) for name, s in scores.items()})


@jax.jit
def trace(device, cells, counts):
    """The cells after each of a sequence of noise-free calls of `pulse`."""

    def call(cells, n):
        cells = device.pulse(None, cells, n)
        return cells, cells

    return jax.lax.scan(call, cells, counts)[1]


def walk(device, *counts, x=0.0):
    """The state of one mean cell after pulses, as many as said, in turns."""
    return float(trace(device, cells_at(device, [x]), jnp.asarray(counts, float)).state["x"][-1, 0])
