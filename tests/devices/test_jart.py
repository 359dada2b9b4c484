"""JART VCM v1b against an independent solution of its implicit circuit."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from anajax.devices.memristor import (
    JART,
    pulse_response,
)
from anajax.testing import check_gradients, check_moments

close = np.testing.assert_allclose


def jart_reference(N, V):
    """Current, contact voltage, temperature, dN/dt by SciPy and SI units, from the published equations."""
    e, k, h, eps0, me = 1.602176634e-19, 1.380649e-23, 6.62607015e-34, 8.8541878128e-12, 9.1093837015e-31
    A, n = math.pi * 45e-9**2, N * 1e26
    R_disc = 0.4e-9 / (n * 2 * e * 4e-6 * A)
    R_plug = 2.6e-9 / (20e26 * 2 * e * 4e-6 * A)

    def series(i):
        return 650 + 719.2437 * (1 + 719.2437 * 3.92e-3 * i**2 * 90471.47)

    def contact(vs, i):
        T = 293 + i * (V - i * series(i)) * 15.72e6 * (0.27 if V > 0 else 1)
        psi = max(0.18 - 0.1 - vs, 0)
        phi = e * max(0, 0.18 - (e**3 * 2 * n * psi / (8 * math.pi**2 * (5.5 * eps0) ** 3)) ** 0.25)
        if V > 0:
            return A * 6.01e5 * T**2 * math.exp(-phi / (k * T)) * math.expm1(e * vs / (k * T)), T
        w00 = e * h / (4 * math.pi) * math.sqrt(2 * n / (me * 17 * eps0))
        y = w00 / (k * T)
        root = math.sqrt(math.pi * w00 * (e * abs(vs) + phi / math.cosh(y) ** 2))
        rest = math.exp(-phi * math.tanh(y) / w00) * math.expm1(e * abs(vs) * (y - math.tanh(y)) / w00)
        return -A * 6.01e5 * T / k * root * rest, T

    def mismatch(i):
        vs = V - i * (R_disc + R_plug + series(i))
        return i - contact(vs, i)[0]

    top = brentq(lambda i: V - i * (R_disc + R_plug + series(i)), *sorted((0, 2 * V / 1300)), xtol=1e-18)
    if V > 0.08:  # the solution above the end of the barrier lowering, if there is one
        corner = brentq(lambda i: V - 0.08 - i * (R_disc + R_plug + series(i)), 0, top, xtol=1e-18)
        low, high = (0, corner) if mismatch(corner) > 0 else (corner, top)
    else:
        low, high = sorted((0, top))
    i = brentq(mismatch, low, high, xtol=1e-20, rtol=1e-14)
    vs = V - i * (R_disc + R_plug + series(i))
    T = contact(vs, i)[1]
    E = (V - i * series(i)) / 3e-9 if V > 0 else i * R_disc / 0.4e-9
    g = 2 * 0.25e-9 * E / (math.pi * 1.35)
    wall = [1.35 * e * (math.sqrt(1 - g * g) + s * g * math.pi / 2 + g * math.asin(g)) for s in (-1, 1)]
    hops = math.exp(-wall[0] / (k * T)) - math.exp(-wall[1] / (k * T))
    F = 1 - (0.008 / N) ** 10 if V > 0 else 1 - (N / 20) ** 10
    rate = -(20 + N) / 2 * 0.25e-9 * 2e13 * hops * F / 0.4e-9
    return i, vs, T, rate


def test_jart_agrees_with_an_independent_solution(x64):
    points = np.array(list(itertools.product([0.01, 0.3, 4.0, 18.0], [-1.2, -0.4, -0.05, 0.03, 0.3, 0.9])))
    wanted = np.array([jart_reference(N, V) for N, V in points])

    def found(model):
        at = model.circuit(*points.T)
        return jnp.stack([at.current, at.schottky, at.temperature, model.rate(*points.T)], axis=1)

    close(jax.jit(found)(JART()), wanted, rtol=1e-7)
    for wrong in ({"eps": 17.02}, {"R_th0": 15.7e6}, {"l_det": 0.4001e-9}):
        assert not np.allclose(jax.jit(found)(JART(**wrong)), wanted, rtol=1e-7), wrong


def test_jart_voltages_add_up_and_contact_carries_the_current(x64):
    model = JART()
    v = jnp.linspace(-3.0, 3.0, 601)
    N = jnp.geomspace(0.008, 20.0, 23)[:, None]
    at = jax.jit(model.circuit)(N, v)
    assert all(np.isfinite(part).all() for part in at)
    assert float(jnp.abs(at.schottky + at.disc + at.plug + at.series - v).max()) < 1e-9

    @jax.jit
    @jax.vmap
    def mismatch(N, over):  # of the logarithms of ohmic and contact current
        return model._contact(N, v, jnp.log(over / (v - over)), over < 0.08)

    # not at the end of the barrier lowering, whose slope is infinite, and not at zero
    seen = (jnp.abs(at.schottky - 0.08) > 1e-6) & (jnp.abs(v) > 1e-4)
    assert float(jnp.where(seen, jnp.abs(mismatch(N[:, 0], at.schottky)), 0.0).max()) < 1e-9


def test_jart_current_is_continuous_away_from_the_jump(x64):
    circuit = jax.jit(JART().circuit)
    for N in (0.008, 0.1, 1.0, 20.0):
        v = jnp.linspace(-1.5, 1.5, 30_001)
        at = circuit(N, v)
        step = jnp.abs(jnp.diff(at.current))
        jump = (at.schottky[1:] > 0.08) != (at.schottky[:-1] > 0.08)
        assert int(jump.sum()) <= 2  # where the solution beyond the barrier lowering appears, and where it vanishes
        # a step of 0.1 mV through at least 1369 ohm; thermal feedback makes it a few times as much
        assert float(step[~jump].max()) < 5 * 1e-4 / 1369, N


def test_jart_derivatives_are_those_of_the_implicit_solution():
    for v in (-0.8, 0.4):
        slopes = check_gradients(
            lambda m, x, v: (m.current(x, v) * 1e4, jnp.log(jnp.abs(m.rate(x, v)))), JART(), 2.0, v, step=1e-5
        )
        assert slopes["1"] > 0
        assert slopes["2"] > 0


@pytest.mark.slow
def test_jart_sets_and_resets():
    model = JART()
    set_ = pulse_response(model, -1.2, 1e-6, 1, v_read=-0.2)
    assert float(set_.state[-1]) > 1.0 > float(model.initial)
    reset = pulse_response(model, 1.5, 1e-6, 1, set_.state[-1], v_read=-0.2)
    assert float(reset.state[-1]) < 0.7 * float(set_.state[-1])
    assert abs(float(set_.current[-1])) > 3 * abs(float(model.current(model.initial, -0.2)))


def test_jart_variability(key):
    model, n = JART(), 20_000
    scores = JART.scores(key, (n,))
    cells = model.vary(scores)
    bounds = {"N_min": (0.004, 0.25), "N_max": (18, 22), "r_det": (40.5e-9, 49.5e-9), "l_det": (0.36e-9, 0.44e-9)}
    for name, (low, high) in bounds.items():
        value = np.asarray(getattr(cells, name), np.float64)
        assert low * (1 - 1e-5) <= value.min() < value.max() <= high * (1 + 1e-5), name
        close(np.median(value), getattr(model, name), rtol=0.05)
        # a normal cut at 2 has variance 1 - 4 pdf(2) / (2 cdf(2) - 1); false alarm 7e-6 for each of 2 x 4 tests
        check_moments(scores[name], 0.0, math.sqrt(1 - 4 * 0.0539909665 / 0.9544997361), name=name)
    with pytest.raises(AssertionError):
        check_moments(scores["r_det"], 0.0, 1.0)
    with pytest.raises(ValueError, match="a name in scores"):
        model.vary({"l_cell": scores["r_det"]})
    mean = model.vary({"r_det": jnp.zeros(3)})
    close(mean.r_det, 45e-9, rtol=1e-6)
