"""Fits of drift: exponents, their spread and slopes, tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import TIMES, Z, within

from anajax import devices, fit
from anajax.devices.pulsed import Drift
from anajax.testing import check_moments

_spread = fit.retention.spread


def retention(rng, cells=400, slope=None, noise=0.02):
    law = Drift(nu=0.05, nu_d2d=0.3, nu_slope=slope, t_0=1.0)
    g = jnp.asarray(np.exp(rng.uniform(np.log(2e-6), np.log(2e-5), (cells, 1))))
    y = law.decayed(g, g / 2e-5, jnp.asarray(TIMES), jnp.asarray(rng.normal(size=(cells, 1))))
    return np.asarray(y) * (1 + noise * rng.normal(size=(cells, len(TIMES))))


def test_drift():
    y = retention(np.random.default_rng(0), slope=0.01)
    found = fit.drift(TIMES, y, g_max=2e-5)
    within(found, {"nu": 0.05, "nu_d2d": 0.3, "nu_slope": 0.01, "noise": 0.02})
    assert found.explained
    one = fit.drift(TIMES, y[0])
    assert one.spec.nu_d2d is None
    assert one.std["nu"] == pytest.approx(found.values["noise"] / np.sqrt(np.var(np.log(TIMES)) * 6), rel=0.9)
    assert float(fit.drift(TIMES, y, t_0=10.0).spec.t_0) == 10.0


def test_errors_of_drift_are_right_and_those_of_the_slopes_are_subtracted(monkeypatch):
    def distances():
        rows = []
        for seed in range(200):
            found = fit.drift(TIMES, retention(np.random.default_rng(seed), 60, noise=0.1))
            rows.append([(found.values[n] - t) / found.std[n] for n, t in (("nu", 0.05), ("nu_d2d", 0.3))])
        return np.array(rows).T

    nu, spread = distances()
    check_moments(nu, 0.0, 1.0, z=Z, name="nu")
    check_moments(spread, 0.0, 1.0, z=Z, rounding=0.15, name="nu_d2d")  # its own estimate is in its error
    monkeypatch.setattr(fit.retention, "spread", lambda s, e, good=None: _spread(s, 0 * e, good))
    with pytest.raises(AssertionError):
        check_moments(distances()[1], 0.0, 1.0, z=Z, rounding=0.15)


def test_errors_of_drift_hold_for_few_cells():
    rows = []
    for seed in range(300):
        found = fit.drift(TIMES, retention(np.random.default_rng(seed), 10, noise=0.02))
        rows.append([np.log(found.values["nu_d2d"] / 0.3) * found.values["nu_d2d"] / found.std["nu_d2d"]])
    assert abs(np.std(rows) - 1) < 0.2, np.std(rows)


def test_drift_that_is_no_power_law_is_told():
    y = retention(np.random.default_rng(0)) * np.exp(-np.square(np.log(TIMES)) / 500)
    with pytest.warns(fit.PoorFit, match="share a course"):
        fit.drift(TIMES, y)


def test_drift_table(key):
    device = devices.presets.pcm()
    made, programmed, seen, wanted = jax.random.split(key, 4)
    target = jax.random.uniform(wanted, (1500,), minval=3e-6, maxval=22e-6)
    cells = device.program(programmed, device.fabricate(made, (1500,)), target)
    t = np.array([1.0, 20.0, 100.0, 1e3, 1e4, 1e5, 1e6])
    y = np.asarray(device.conductance(cells, t[:, None])).T * (
        1 + 0.01 * np.asarray(jax.random.normal(seen, (1500, 7)))
    )
    found = fit.drift_table(device, t, y)
    u = found.spec.nu_mean.u
    within(found, {"nu_mean": device.nu_mean(u), "nu_std": device.nu_std(u)})
    aged = found.spec.conductance(cells, 1e6)
    assert abs(float(jnp.mean(aged) / jnp.mean(device.conductance(cells, 1e6))) - 1) < 0.01
