"""Derivatives of memristor simulations against finite differences."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transients import constant

from anajax.devices.memristor import (
    JART,
    VTEAM,
    Biolek,
    LinearIonDrift,
    Messaris,
    Pulses,
    Sine,
    StanfordPKU,
    Triangle,
    Yakopcic,
    simulate,
)

close = np.testing.assert_allclose


INTERIOR = {
    "LinearIonDrift": (
        LinearIonDrift(initial=0.4, window=Biolek(p=2.0), v_positive=0.4, v_negative=-0.3, v_width=0.05),
        Sine(amplitude=1.0, frequency=1.0, cycles=1),
    ),
    "VTEAM": (
        VTEAM(initial=1e-9, alpha_off=1.7, k_on=-1e-3, k_off=1e-5, resistance="exponential"),
        Triangle(amplitude=0.5, period=4e-7, cycles=1),
    ),
    "Yakopcic": (Yakopcic(initial=0.6, V_p=0.1, V_n=0.12, x_n=0.2), Sine(amplitude=0.3, frequency=1e3, cycles=1)),
    "StanfordPKU": (StanfordPKU(initial=0.9e-9), Triangle(amplitude=1.3, period=1e-6, cycles=1)),
    "Messaris": (
        Messaris(initial=1e4, r_p1=100.0),
        Pulses(amplitude=[0.3, -0.9], width=1e-7, rise=1e-7, period=3e-7, count=2, delay=1e-8),
    ),
}
DURATION = {"LinearIonDrift": 1.0, "VTEAM": 4e-7, "Yakopcic": 1e-3, "StanfordPKU": 1e-6, "Messaris": 6e-7}
#: fields that these cells cannot feel, such as bounds that are never met
FIXED = {"StanfordPKU": ("gap_min", "gap_max"), "Messaris": ("R_on", "R_off", "a")}


def derivatives(model, drive, duration, fixed=(), rtol=5e-3):
    """Compare derivatives of states and currents with differences, all of which are one batch of cells.

    Steps move with the fields, and where the state crosses a kink of the rate within a step, derivatives are good
    to about the square root of the tolerance: hence 5e-3. Returns the derivatives, per relative change.
    """
    low, high = model.bounds
    kept = {name: getattr(model, name) for name in fixed}
    leaves, treedef = jax.tree.flatten((model, drive, jnp.asarray(duration)))
    ends = np.cumsum([leaf.size for leaf in leaves])
    values = np.concatenate([np.ravel(leaf) for leaf in leaves]).astype(np.float64)

    def seen(factors):
        parts = jnp.split(factors * values, ends[:-1])
        moved = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        model, drive, duration = jax.tree.unflatten(treedef, moved)
        times = duration * jnp.array([0.0, 0.2, 0.45, 0.9])
        trace = simulate(model.replace(**kept), drive, times, tolerance=1e-8, max_steps=100_000)
        places, currents = (trace.state - low) / (high - low), trace.current / scale
        return jnp.sum(places * jnp.array([0.3, -0.7, 1.1, 0.9])) + jnp.sum(currents * jnp.array([0.2, 1.3, -0.6, 0.8]))

    scale = jnp.abs(model.current(model.initial, jnp.max(jnp.abs(drive.amplitude))))
    exact = np.asarray(jax.jit(jax.grad(seen))(np.ones_like(values)))
    move = 1e-3 * np.eye(len(values))
    plus, minus = np.asarray(jax.jit(jax.vmap(seen))(np.concatenate([1 + move, 1 - move]))).reshape(2, -1)
    close(exact, (plus - minus) / 2e-3, rtol=rtol, atol=1e-5)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in _paths((model, drive, duration))]
    return {name: np.abs(part).max() for name, part in zip(names, np.split(exact, ends[:-1]), strict=True)}


def _paths(tree):
    return jax.tree_util.tree_flatten_with_path(tree)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", INTERIOR)
def test_derivatives_by_every_field_and_by_the_drive(name, x64):
    fixed = FIXED.get(name, ())
    model, drive = jax.tree.map(lambda x: x.astype(float), INTERIOR[name])
    slopes = derivatives(model, drive, DURATION[name], fixed)
    assert {k for k, slope in slopes.items() if slope == 0} == {f"0.{f}" for f in fixed}, slopes


@pytest.mark.slow
def test_derivatives_of_jart_by_every_field(x64):
    drive = Pulses(amplitude=[-0.8, 0.8], width=1e-6, rise=1e-6, period=3e-6, count=2)
    slopes = derivatives(JART(initial=0.5), drive, 6e-6, rtol=2e-2)  # exponents of 30 magnify what moving steps do
    assert slopes["0.r_det"] > 0


def test_a_cell_on_its_rail_has_no_derivative(x64):
    @jax.jit
    @jax.grad
    def slope(k_off, end):
        return simulate(VTEAM(k_off=k_off), constant(0.5, 1e-6), jnp.stack([0.0, end])).state[-1]

    assert float(slope(5e-4, 1e-6)) == 0.0
    close(slope(5e-4, 1e-7), 24 * 1e-7, rtol=1e-6)


def test_forward_mode(x64):
    def end(v_off):
        model, drive = VTEAM(v_off=v_off), constant(0.5, 1e-7)
        return simulate(model, drive, [0.0, 1e-7], adjoint=diffrax.ForwardMode()).state[-1]

    _, slope = jax.jvp(end, (0.02,), (1.0,))
    close(slope, -5e-4 * 0.5 / 0.02**2 * 1e-7, rtol=1e-6)
