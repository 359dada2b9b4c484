"""Fits of currents: sweeps, populations of nonlinear cells, transients."""

import numpy as np
import pytest
from checks import Z, within

from anajax import fit
from anajax.devices import conduction as laws
from anajax.devices import memristor
from anajax.testing import check_moments

LAWS = {
    "Ohmic": (laws.Ohmic(), laws.Ohmic(), {}),
    "Sinh": (laws.Sinh(v_0=0.3), laws.Sinh(v_0=1.0), {"v_0": 0.3}),
    "Power": (laws.Power(gamma=2.6, v_ref=0.1), laws.Power(gamma=2.1, v_ref=0.1), {"gamma": 2.6}),
    "PooleFrenkel": (
        laws.PooleFrenkel(d_eps=2e-17, v_ref=0.1),
        laws.PooleFrenkel(d_eps=1e-16, v_ref=0.1),
        {"d_eps": 2e-17},
    ),
    "Polynomial": (laws.cubic(-0.4), laws.cubic(0.0), {"coefficients.1.coefficients": [0.0, -0.4]}),
}


@pytest.mark.parametrize("name", LAWS)
def test_sweeps_give_their_law_back(name):
    true, start, values = LAWS[name]
    v, g, rng = np.linspace(-0.5, 0.5, 41), np.array([1e-6, 2e-6, 5e-6]), np.random.default_rng(0)
    i = np.asarray(true.current(g[:, None], v))
    floor = 1e-10 * rng.normal(size=i.shape)
    found = fit.conduction(start, v, i * (1 + 0.01 * rng.normal(size=i.shape)) + floor, floor=1e-10)
    within(found, values | {"g": g, "noise": 0.01})
    assert found.explained
    if values:
        known = fit.conduction(start, v, i * (1 + 0.01 * rng.normal(size=i.shape)), g=g, noise=0.01)
        within(known, values)
        assert "g" not in known.values


def poole_frenkel_sweeps(seed, n=200):
    """Sweeps of cells whose d_eps follows a line in ln R; c follows from both, as R is their chord at 0.1 V."""
    rng = np.random.default_rng(seed)
    ln_r = rng.uniform(np.log(4e5), np.log(1.9e6), n)
    ln_d = -0.0901 * ln_r - 37.1 + 0.3 * rng.normal(size=n)
    beta = laws._FIELD / laws.ROOM_TEMPERATURE * np.exp(-ln_d / 2)
    ln_c = -ln_r - beta * np.sqrt(0.1)
    v = np.arange(0, 0.5001, 0.005)
    i = np.exp(ln_c)[:, None] * v * np.exp(beta[:, None] * np.sqrt(v)) * (1 + 0.003 * rng.normal(size=(n, len(v))))
    return v, i, ln_r, ln_c, ln_d


def test_poole_frenkel_population():
    v, i, ln_r, ln_c, _ = poole_frenkel_sweeps(0)
    i[3, 50] *= 1.5  # a spike
    found = fit.poole_frenkel_population(v, i)
    assert set(found) == {"high"}
    high = found["high"]
    assert high.residual.shape[0] == 199
    within(high, {"d_slope": -0.0901, "d_offset": -37.1, "std_d": 0.3})
    line = np.polyfit(ln_r, ln_c, 1)
    within(high, {"c_slope": line[0], "c_offset": line[1], "std_c": np.std(ln_c - np.polyval(line, ln_r), ddof=2)})
    assert high.spec.correlation > 0.9
    low = fit.poole_frenkel_population(v, np.concatenate([i, 1e3 * i[:50]]))
    assert set(low) == {"low", "high"}
    assert set(fit.poole_frenkel_population(v, i, split=None)) == {"all"}


def test_errors_of_a_poole_frenkel_population_are_right():
    rows = []
    for seed in range(1, 101):
        v, i, *_ = poole_frenkel_sweeps(seed, 100)
        found = fit.poole_frenkel_population(v, i)["high"]
        rows.append([(found.values[n] - t) / found.std[n] for n, t in (("d_slope", -0.0901), ("d_offset", -37.1))])
    for column in np.array(rows).T:
        check_moments(column, 0.0, 1.0, z=Z)


def test_transient_gives_its_model_back():
    true = memristor.VTEAM(k_on=-0.2, v_on=-0.3, v_off=0.4, k_off=0.1)
    t = np.linspace(0, 1e-7, 60)
    volts = np.sin(4e7 * np.pi * t)
    i = np.asarray(memristor.simulate(true, memristor.Sampled(times=t, volts=volts), t).current)
    i = i + 1e-3 * np.ptp(i) * np.random.default_rng(0).normal(size=i.shape)
    found = fit.memristor(true.replace(k_off=0.2, R_on=60.0), t, volts, i, ("k_off", "R_on"))
    within(found, {"k_off": 0.1, "R_on": 50.0})
    assert found.explained


def test_transient_of_microamperes_gives_its_model_back():
    """Noise starts at one, a million times the residuals: the fit must not take that for the optimum."""
    true = memristor.VTEAM(k_on=-0.2, v_on=-0.3, v_off=0.4, k_off=0.1, R_on=1e5, R_off=1e6)
    t = np.linspace(0, 1e-7, 60)
    volts = np.sin(4e7 * np.pi * t)
    i = np.asarray(memristor.simulate(true, memristor.Sampled(times=t, volts=volts), t).current)
    i = i + 1e-8 * np.random.default_rng(0).normal(size=i.shape)
    found = fit.memristor(true.replace(k_off=0.2, R_on=1.2e5), t, volts, i, ("k_off", "R_on"))
    within(found, {"k_off": 0.1, "R_on": 1e5, "noise": 1e-8})
    assert found.explained
