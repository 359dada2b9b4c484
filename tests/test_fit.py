"""Fits recover what data were made of, with errors of the right size, and say so where a model is wrong."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import TIMES, Z, within

from anajax import devices, fit
from anajax.devices import conduction as laws
from anajax.devices import memristor
from anajax.devices.pulsed import Leak
from anajax.fit import _result, _solve, cells, pulses
from anajax.testing import check_moments

UP_DOWN = np.r_[np.ones(100), -np.ones(200), np.ones(100)]
NOISE = {"c2c": 0.3, "write_noise": 0.5}
BOUNDS = {"x_min": -0.8, "x_max": 0.9}


@functools.partial(jax.jit, static_argnums=3)
def measured(device, directions, key, n):
    """States `[n, pulses]` of n cells after each pulse."""
    made, first, *keys = jax.random.split(key, len(directions) + 2)

    def pulse(cells, now):
        cells = device.pulse(now[0], cells, jnp.full((n,), now[1]))
        return cells, device.state(cells)

    _, x = jax.lax.scan(
        pulse,
        device.fabricate(made, (n,)).replace(scores=_scores(device, made, first, n)),
        (jnp.stack(keys), directions),
    )
    return x.T


def _scores(device, made, first, n):
    scores = device.fabricate(made, (n,)).scores
    return scores if device.write_noise is None else scores | {"write": jax.random.normal(first, (n,))}


def test_coordinates_go_there_and_back_with_the_right_slopes():
    inf = np.inf
    free = _solve.Free(("a", "b", "c", "d"), ((-inf, inf), (0.0, inf), (-inf, 1.0), (-1.0, 2.0)), ((), (), (), (2,)))
    values = {"a": 3.0, "b": 2.0, "c": -1.0, "d": [0.5, 1.0]}
    z = free.coordinates(values)
    for path, value in free.values(z).items():
        np.testing.assert_allclose(value, values[path])
    assert free.names == ("a", "b", "c", "d[0]", "d[1]")

    def flat(z):
        return np.concatenate([np.ravel(v) for v in free.values(z).values()])

    for k, step in enumerate(1e-6 * np.eye(5)):
        difference = (flat(z + step) - flat(z - step)) / 2e-6
        np.testing.assert_allclose(difference, free.slopes(z) * (np.arange(5) == k), rtol=1e-6, atol=1e-9)


# device -> (the device that made the data, the one the fit starts from)
DEVICES = {
    "ConstantStep": (devices.ConstantStep(dx=0.03, up_down=0.1, **BOUNDS, **NOISE), devices.ConstantStep()),
    "LinearStep": (
        devices.LinearStep(dx=0.03, up_down=0.1, gamma_up=0.5, gamma_down=0.7, **BOUNDS, **NOISE),
        devices.LinearStep(),
    ),
    "SoftBounds": (devices.SoftBounds(dx=0.03, up_down=0.1, **BOUNDS, **NOISE), devices.SoftBounds()),
    "SoftBoundsPmax": (devices.SoftBoundsPmax(p_max=70, alpha=0.02, **BOUNDS, **NOISE), devices.SoftBoundsPmax()),
    "ExpStep": (
        devices.ExpStep(
            dx=0.03,
            up_down=0.1,
            a_up=0.02,
            a_down=0.02,
            gamma_up=8,
            gamma_down=8,
            slope=0.5,
            offset=0,
            c2c=0.2,
            write_noise=0.1,
        ),
        devices.ExpStep(slope=0.5, offset=0),
    ),
    "PowStep": (
        devices.PowStep(dx=0.06, up_down=0.1, gamma=1.5, gamma_up_down=0.2, c2c=0.2, write_noise=0.1, **BOUNDS),
        devices.PowStep(),
    ),
    "PiecewiseStep": (
        devices.PiecewiseStep(dx=0.03, nodes_up=[1.5, 1, 0.7, 0.2], nodes_down=[0.2, 0.6, 1.2, 1.4], **NOISE),
        devices.PiecewiseStep(dx=0.03, nodes_up=[1.0] * 4, nodes_down=[1.0] * 4),
    ),
    "TableStep": (
        devices.TableStep(
            x=[-1, 0, 1],
            up_mean=[0.04, 0.03, 0.003],
            down_mean=[-0.003, -0.03, -0.04],
            up_std=[0.01] * 3,
            down_std=[0.01] * 3,
            write_noise=0.01,
        ),
        devices.TableStep(
            x=[-1, 0, 1], up_mean=[0.02] * 3, down_mean=[-0.02] * 3, up_std=[0.01] * 3, down_std=[0.01] * 3
        ),
    ),
    "NeuroSim": (
        devices.NeuroSim(nl_up=2, nl_down=3, p_up=60, p_down=70, c2c=0.003, write_noise=0.2),
        devices.NeuroSim(),
    ),
}


@pytest.mark.parametrize("name", DEVICES)
def test_curve_of_one_cell_gives_its_device_back(name, key):
    true, start = DEVICES[name]
    x = measured(true, UP_DOWN, key, 1)[0]
    found = fit.pulse_response(start, UP_DOWN, x, starts=3)
    assert found.explained
    assert found.spec.write_noise is not None
    within(found, {n: getattr(true, n) for n in found.values if n != "x_0"} | {"x_0": 0.0})
    assert {n for n in found.std if not np.all(np.isfinite(found.std[n]))} == set()


def test_conductances_give_the_window(key):
    true = devices.SoftBounds(dx=0.03, g_min=2e-6, g_max=20e-6, **NOISE)
    x = measured(true, UP_DOWN, key, 1)[0]
    found = fit.pulse_response(devices.SoftBounds(), UP_DOWN, 11e-6 + 9e-6 * x, conductance=True, starts=3)
    within(found, {"g_min": 2e-6, "g_max": 20e-6, "c2c": 0.3})
    # the window that stands for states does not matter to what is predicted
    other = fit.pulse_response(
        devices.SoftBounds(), UP_DOWN, 11e-6 + 9e-6 * x, conductance=True, window=(1e-6, 30e-6), starts=3
    )
    np.testing.assert_allclose(
        [other.values[n] for n in ("g_min", "g_max")], [found.values[n] for n in ("g_min", "g_max")], rtol=1e-3
    )
    np.testing.assert_allclose(other.rms, found.rms, rtol=1e-3)
    cells = found.spec.fabricate(None, (1,))
    top = found.spec.pulse(None, cells, jnp.asarray([2000.0]))
    np.testing.assert_allclose(found.spec.conductance(top), found.values["g_max"], rtol=1e-4)


def test_standard_errors_of_curves_are_right(key):
    """Over 300 curves the distances in standard errors have mean 0 and deviation 1, within 4 errors of each."""
    true = devices.SoftBounds(dx=0.05, up_down=0.1, **BOUNDS, **NOISE)
    d = np.r_[np.ones(30), -np.ones(60), np.ones(30)]
    x = np.asarray(measured(true, d, key, 300), float)
    free = _solve.free(true, ("dx", "up_down", "x_min", "x_max", "c2c", "write_noise"), {"x_0": (0.0, -np.inf)})
    truth = free.coordinates(_solve.float_fields(true) | {"x_0": 0.0})
    noisy = np.isin(free.names, ("c2c", "write_noise"))
    data = (np.tile(d, (300, 1)), x, np.full(300, 1e-6))
    solved = _solve.solve(
        _solve.look(pulses.moments, free, true, data, each=True), np.tile(truth, (300, 1)), noisy, "alike"
    )
    spread, lost = _solve.covariance(solved.seen, noisy, pooled=True)
    assert not lost.any()
    z = (solved.z - truth) / np.sqrt(np.einsum("bii->bi", spread))
    for name, column in zip(np.array(free.names)[~noisy], z[:, ~noisy].T, strict=True):
        check_moments(column, 0.0, 1.0, z=Z, name=name)
    shared = np.sqrt(np.diag(spread[0]))[noisy]
    assert np.all(np.abs(solved.z[0] - truth)[noisy] < Z * shared)
    with pytest.raises(AssertionError):  # errors that take the residuals for a random walk's white ones are too small
        check_moments(2 * z[:, 0], 0.0, 1.0, z=Z)


def test_standard_errors_of_sweeps_are_right():
    v, rng = np.linspace(0.02, 0.5, 25), np.random.default_rng(0)
    i = 1e-6 * 0.3 * np.sinh(v / 0.3)
    rows = []
    for _ in range(100):
        found = fit.conduction(laws.Sinh(v_0=0.5), v, i * (1 + 0.02 * rng.normal(size=25)), starts=1)
        rows.append([(found.values[n] - t) / found.std[n] for n, t in (("v_0", 0.3), ("g", 1e-6), ("noise", 0.02))])
    for name, column in zip(("v_0", "g", "noise"), np.array(rows).T, strict=True):
        check_moments(column, 0.0, 1.0, z=Z, rounding=0.1, name=name)


# --- populations ------------------------------------------------------------------------------------------

SPREADS = {"x_min_d2d": 0.1, "x_max_d2d": 0.15, "dx_d2d": 0.3, "up_down_d2d": 0.05}
SHORT = np.r_[np.ones(40), -np.ones(80), np.ones(40)]


@pytest.fixture(scope="module")
def population():
    true = devices.SoftBounds(dx=0.08, up_down=0.1, c2c=0.4, write_noise=0.5, **BOUNDS, **SPREADS)
    return true, np.asarray(measured(true, SHORT, jax.random.key(3), 200))


def test_population_gives_means_and_spreads_back(population):
    true, x = population
    found = fit.population(devices.SoftBounds(), SHORT, x)
    assert found.explained
    within(found, {n: getattr(true, n) for n in ("x_min", "x_max", "dx", "up_down", "c2c", "write_noise", *SPREADS)})
    assert float(found.spec.dx_d2d) == pytest.approx(found.values["dx_d2d"])
    assert found.residual.shape == x.shape


@pytest.mark.slow
def test_spreads_with_the_errors_of_the_estimates_in_them_are_rejected(population, monkeypatch):
    true, x = population
    monkeypatch.setattr(cells, "spread", lambda s, e, good=None: _spread(s, 0 * e, good))
    found = fit.population(devices.SoftBounds(), SHORT, x)
    with pytest.raises(AssertionError):
        within(found, {n: getattr(true, n) for n in SPREADS})


_spread = cells.spread


@pytest.mark.slow
def test_population_with_hard_bounds_and_slopes(key):
    true = devices.LinearStep(
        dx=0.06, up_down=0.1, gamma_up=0.4, gamma_down=0.6, gamma_d2d=0.1, c2c=0.3, write_noise=0.3, **BOUNDS, **SPREADS
    )
    x = measured(true, SHORT, key, 80)
    found = fit.population(devices.LinearStep(), SHORT, x)
    within(found, {n: getattr(true, n) for n in ("dx", "up_down", "gamma_up", "gamma_down", "x_min", "x_max", "c2c")})
    within(found, {n: getattr(true, n) for n in ("dx_d2d", "up_down_d2d", "gamma_d2d", "x_min_d2d", "x_max_d2d")})


@pytest.mark.slow
def test_population_whose_law_has_fields_that_all_cells_share(key):
    true = DEVICES["ExpStep"][0].replace(dx=0.08, dx_d2d=0.2, up_down_d2d=0.03)
    found = fit.population(devices.ExpStep(slope=0.5, offset=0), SHORT, measured(true, SHORT, key, 60))
    names = ("dx", "up_down", "dx_d2d", "up_down_d2d", "a_up", "a_down", "gamma_up", "gamma_down", "c2c", "write_noise")
    assert found.explained
    assert set(found.names) == set(names)
    within(found, {n: getattr(true, n) for n in names})


@pytest.mark.slow
def test_cells_that_are_alike_have_no_spread_to_speak_of(key):
    true = devices.SoftBounds(dx=0.08, **NOISE, **BOUNDS)
    x = np.asarray(measured(true, SHORT, key, 40))
    found = fit.population(devices.SoftBounds(), SHORT, x)
    for name in SPREADS:
        value = getattr(found.spec, name)
        assert value is None or float(value) ** 2 < Z * 2 * float(value) * found.std[name], found
    other = fit.population(devices.SoftBounds(), SHORT, x[::-1])  # the order of the cells does not matter
    for name in ("dx", "x_max", "c2c", "write_noise"):
        assert abs(found.values[name] - other.values[name]) < 0.05 * found.std[name], name


def test_spread_of_scores_is_that_of_cells(key):
    """Moments of 2,000 cells with errors of their own, each error known; a third of them not determined."""
    n = 2000
    drawn, wrong, size = jax.random.normal(key, (3, n, 1))
    errors = np.asarray(0.2 + 2 * jnp.abs(size))
    scores = np.asarray(1.5 + 0.7 * drawn + jnp.sqrt(errors) * wrong)
    good = (np.arange(n) % 3 > 0)[:, None]
    over = _spread(scores, errors, good)
    for value, shares, true in ((over.mean, over.mean_shares, 1.5), (over.variance, over.variance_shares, 0.49)):
        assert abs(value[0] - true) < Z * shares.std() / np.sqrt(n)
    assert abs(_spread(scores, 0 * errors, good).variance[0] - 0.49) > 10 * over.variance_shares.std() / np.sqrt(n)


def test_clipped_moments_are_those_of_clipped_normals(key):
    x = 0.3 + 0.2 * jax.random.normal(key, (400_000,))
    for low, high in ((-5.0, 5.0), (0.2, 0.9), (-1.0, 0.35), (0.6, 0.9)):
        mean, variance = pulses.clipped(jnp.asarray(0.3), jnp.asarray(0.04), low, high)
        check_moments(jnp.clip(x, low, high), float(mean), float(jnp.sqrt(variance)))
    with pytest.raises(AssertionError):
        check_moments(x, float(mean), float(jnp.sqrt(variance)))


# --- what a model cannot explain --------------------------------------------------------------------------


def test_a_wrong_device_is_told(key):
    x = measured(DEVICES["SoftBounds"][0], UP_DOWN, key, 1)[0]
    with pytest.warns(fit.PoorFit, match="ConstantStep does not explain the data: the residuals are not independent"):
        found = fit.pulse_response(devices.ConstantStep(), UP_DOWN, x, starts=3)
    assert not found.explained
    assert "explained: NO" in found.summary()


def test_stated_noise_is_held_against_the_fit():
    v, rng = np.linspace(0.02, 0.5, 50), np.random.default_rng(1)
    i = 1e-6 * v * (1 + 0.02 * rng.normal(size=(4, 50)))
    assert fit.conduction(laws.Ohmic(), v, i, noise=0.02).explained
    with pytest.warns(fit.PoorFit, match="times the stated noise"):
        found = fit.conduction(laws.Ohmic(), v, i, noise=0.01)
    assert 3 < found.chi2 < 5


@pytest.mark.parametrize("law", [laws.Sinh(v_0=0.4), laws.Power(gamma=2.5, v_ref=0.1)], ids=lambda x: type(x).__name__)
def test_a_wrong_law_is_told(law):
    v, rng = np.linspace(0.02, 0.5, 50), np.random.default_rng(1)
    i = np.asarray(law.current(1e-6, v)) * (1 + 0.01 * rng.normal(size=(3, 50)))
    with pytest.warns(fit.PoorFit, match="Ohmic"):
        fit.conduction(laws.Ohmic(), v, i)


@pytest.mark.parametrize("n", [20, 40])
def test_a_wrong_law_is_told_from_few_points(n):
    """Its residuals are a slow wave, too short for correlations to be sure."""
    v, rng = np.linspace(0.02, 0.5, n), np.random.default_rng(0)
    i = np.asarray(laws.Sinh(v_0=0.3).current(1e-6, v)) * (1 + 0.01 * rng.normal(size=n))
    with pytest.warns(fit.PoorFit, match="slow waves"):
        fit.conduction(laws.PooleFrenkel(d_eps=1e-16), v, i)
    assert fit.conduction(laws.Sinh(v_0=0.5), v, i).explained


def test_too_few_data_for_a_verdict_are_told():
    t = np.array([1.0, 10.0, 100.0, 1000.0])
    found = fit.drift(t, 1e-5 * np.exp(-t / 500))  # no power law at all
    assert "a wrong model might not be told" in found.summary()
    assert not fit.drift(np.logspace(0, 3, 20), 1e-5 * np.logspace(0, 3, 20) ** -0.05).notes[1:]


def test_data_without_noise_are_explained():
    """What a model leaves of its own data is rounding, whose correlations mean nothing."""
    v = np.linspace(0.02, 0.5, 40)
    i = 1e-6 * 0.3 * np.sinh(v / 0.3)
    for found in (
        fit.conduction(laws.Sinh(v_0=1.0), v, i),
        fit.conduction(laws.Sinh(v_0=1.0), v, i.astype(np.float32)),
        fit.drift(TIMES, 1e-5 * TIMES ** -np.full((10, 1), 0.05)),
    ):
        assert found.explained, found
        assert "to rounding" in found.summary()
    with pytest.warns(fit.PoorFit):
        fit.conduction(laws.Ohmic(), v, i)


def test_a_population_that_did_not_settle_is_told(population, monkeypatch):
    _, x = population
    monkeypatch.setattr(cells, "_PASSES", 1)
    with pytest.warns(fit.PoorFit, match="the mean cell did not settle"):
        fit.population(devices.SoftBounds(), SHORT, x)


def test_what_the_data_do_not_determine_is_told(key):
    """Steps that never meet a bound do not tell where it is."""
    true = devices.ConstantStep(dx=0.002, x_min=-2.0, x_max=2.0, c2c=0.1, write_noise=0.5)
    d = np.r_[np.ones(60), -np.ones(60)]
    x = measured(true, d, key, 1)[0]
    found = fit.pulse_response(true, d, x, starts=1)
    assert found.std["x_max"] == np.inf
    assert "not determined" in found.summary()
    within(found, {"dx": 0.002, "up_down": 0.0})


def test_tests_of_residuals_keep_their_odds():
    """Of 400 right sets of residuals none fails, of wrong ones all."""
    rng = np.random.default_rng(0)
    for shape in ((100,), (20, 50), (400, 10)):
        e = rng.normal(size=(100, *shape))
        assert not any(_result.judge(x, 1).reasons for x in e)
        wrong = e + 0.5 * np.sin(np.arange(shape[-1]) / 3)
        assert all(_result.judge(x, 1).reasons for x in wrong[:10]) or len(shape) == 1
    assert _result.judge(np.cumsum(rng.normal(size=300)) / 10, 1).reasons
    for n in (8, 20, 60):  # what a fit of a parabola leaves
        base, _ = np.linalg.qr(np.arange(n)[:, None] ** np.arange(3.0))
        e = rng.normal(size=(200, n))
        assert not any(_result.judge(x, 3).reasons for x in e - e @ base @ base.T)
    assert not _result.judge(rng.normal(size=300), 1, (300.0, 300.0)).reasons
    assert _result.judge(rng.normal(size=300), 1, (450.0, 300.0)).reasons


# --- any residual -----------------------------------------------------------------------------------------


def _line(law, v, i):
    return law.current(1.0, v) - i


def test_least_squares_agrees_with_the_closed_form():
    """A residual linear in its field: weighted least squares by hand."""
    v, rng = jnp.linspace(0.1, 1.0, 40), np.random.default_rng(0)
    true = laws.Polynomial(coefficients=(devices.Polynomial(coefficients=[2.0, 3.0]),), orders=(2,))
    i = np.asarray(5.0 * v**2) + 0.1 * rng.normal(size=40)
    sigma = np.where(np.arange(40) < 20, 0.1, 0.3)
    start = true.replace(coefficients=(devices.Polynomial(coefficients=[0.0, 3.0]),))
    found = fit.least_squares(
        lambda law: (law.coefficients[0].coefficients[0] + 3.0) * v**2 - i,
        start,
        ["coefficients.0.coefficients"],
        noise=sigma,
    )
    w, x = 1 / sigma**2, np.asarray(v) ** 2
    a = np.sum(w * x * (i - 3 * x)) / np.sum(w * x * x)
    assert found.values["coefficients.0.coefficients"][0] == pytest.approx(a, rel=1e-6)
    assert found.std["coefficients.0.coefficients"][0] == pytest.approx(1 / np.sqrt(np.sum(w * x * x)), rel=1e-6)
    assert found.std["coefficients.0.coefficients"][1] == np.inf  # it is not in the residual


def test_reverse_mode_gives_the_same():
    v = jnp.linspace(0.1, 1.0, 30)
    i = laws.Sinh(v_0=0.4).current(1.0, v) + 0.01 * jax.random.normal(jax.random.key(0), (30,))
    one, other = (
        fit.least_squares(_line, laws.Sinh(v_0=1.0), ["v_0"], args=(v, i), starts=2, reverse=reverse)
        for reverse in (False, True)
    )
    assert one.values["v_0"] == pytest.approx(other.values["v_0"], rel=1e-8)
    assert one.starts == (2, 2)
    assert one.std["v_0"] == pytest.approx(other.std["v_0"], rel=1e-6)


def test_fields_stay_within_their_bounds():
    """Data that ask for an exponent below 2, which `Power` refuses."""
    v, rng = np.linspace(0.05, 0.5, 40), np.random.default_rng(0)
    i = 1e-6 * v**0.9 * (1 + 0.1 * rng.normal(size=40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fit.PoorFit)
        found = fit.conduction(laws.Power(gamma=2.2, v_ref=0.1), v, i)
    assert float(found.spec.gamma) >= 2


@pytest.mark.parametrize("double", [False, True])
def test_precision_of_the_session_stays(double):
    v = np.linspace(0.1, 1.0, 30)
    i = np.asarray(laws.Sinh(v_0=0.4).current(1e-6, v)) * (1 + 0.01 * np.random.default_rng(0).normal(size=30))
    with jax.enable_x64(double):
        found = fit.conduction(laws.Sinh(v_0=1.0), v, i)
        assert found.spec.v_0.dtype == (jnp.float64 if double else jnp.float32)
        assert jnp.zeros(1).dtype == (jnp.float64 if double else jnp.float32)
    assert not jax.config.jax_enable_x64
    within(found, {"v_0": 0.4})


# --- bad input --------------------------------------------------------------------------------------------

SOFT = devices.SoftBounds()
BAD = {
    "device must be a step-response device; got PCM": lambda: fit.pulse_response(
        devices.presets.pcm(), UP_DOWN, UP_DOWN
    ),
    "device.leak must be None": lambda: fit.pulse_response(SOFT.replace(leak=Leak(lifetime=1.0)), UP_DOWN, UP_DOWN),
    "directions must have shape": lambda: fit.pulse_response(SOFT, [1.0, 2.0], [1.0, 2.0]),
    "responses must have shape": lambda: fit.pulse_response(SOFT, UP_DOWN, UP_DOWN[1:]),
    "responses must be finite; got nan": lambda: fit.pulse_response(SOFT, UP_DOWN, UP_DOWN * np.nan),
    "directions must be > 0": lambda: fit.pulse_response(SOFT, 0 * UP_DOWN, UP_DOWN),
    "responses must change": lambda: fit.pulse_response(SOFT, UP_DOWN, 0 * UP_DOWN),
    "window is for conductances": lambda: fit.pulse_response(SOFT, UP_DOWN, UP_DOWN, window=(0, 1)),
    "window must be two conductances": lambda: fit.pulse_response(
        SOFT, UP_DOWN, UP_DOWN, conductance=True, window=(2e-6, 1e-6)
    ),
    "fields must be among .* got 'gamma'": lambda: fit.pulse_response(SOFT, UP_DOWN, UP_DOWN, fields=("gamma",)),
    "at least 8 cells": lambda: fit.population(SOFT, UP_DOWN, np.stack([UP_DOWN] * 3)),
    "v must have shape": lambda: fit.conduction(laws.Ohmic(), 1.0, 1.0),
    "i must have shape": lambda: fit.conduction(laws.Ohmic(), [1.0, 2.0, 3.0], [1.0, 2.0]),
    "i must have the sign of v": lambda: fit.conduction(laws.Ohmic(), [1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]),
    "law must be that of one cell": lambda: fit.conduction(laws.siox_high_resistance(), [1.0], [1.0]),
    "there is nothing to fit": lambda: fit.conduction(laws.Ohmic(), [1, 2, 3], [1, 2, 3], g=1.0, noise=0.1),
    "starts must be at least 1; got 0": lambda: fit.conduction(laws.Ohmic(), [1, 2, 3], [1, 2, 3], starts=0),
    "v_ref must lie within v": lambda: fit.poole_frenkel_population([0.2, 0.3, 0.4], np.ones((9, 3))),
    "at least 6 sweeps without spikes": lambda: fit.poole_frenkel_population([0.1, 0.3, 0.4], np.ones((2, 3))),
    "times must be >= 0 and ascend": lambda: fit.drift([1.0, 3.0, 2.0], np.ones((9, 3))),
    "g must be greater than 0": lambda: fit.drift([1.0, 2.0, 3.0], np.zeros((9, 3))),
    "device must be a PCM": lambda: fit.drift_table(SOFT, TIMES, np.ones((90, 6))),
    "at least 8 cells for each": lambda: fit.drift_table(devices.presets.pcm(), TIMES, np.ones((9, 6))),
    "currents must have the shape of times": lambda: fit.memristor(
        memristor.VTEAM(), [0.0, 1.0], [0.0, 1.0], [0.0], ("k_on",)
    ),
    "noise must be greater than 0": lambda: fit.least_squares(_line, laws.Ohmic(), noise=0.0),
    "noise must be greater than 0; got -1": lambda: fit.pulse_response(SOFT, UP_DOWN, UP_DOWN, noise=-1.0),
    "noise must be greater than 0; got nan": lambda: fit.conduction(
        laws.Sinh(v_0=1.0), [1, 2, 3], [1, 2, 3], noise=np.nan
    ),
    r"g must be a number or have shape \(2,\), one for each sweep; got \(3,\)": lambda: fit.conduction(
        laws.Ohmic(), [1, 2, 3], np.ones((2, 3)), g=np.ones(3)
    ),
    "fields must be a sequence of names, such as .* got 'dx'": lambda: fit.pulse_response(
        SOFT, UP_DOWN, UP_DOWN, fields="dx"
    ),
    "starts must be at least 1; got -1": lambda: fit.pulse_response(SOFT, UP_DOWN, UP_DOWN, starts=-1),
    "responses must be states, .* got 1e-05 to 3e-05": lambda: fit.pulse_response(SOFT, UP_DOWN, 1e-5 * (2 + UP_DOWN)),
    "responses must be conductances in siemens, less than 1 S; got 3": lambda: fit.pulse_response(
        SOFT, UP_DOWN, 2 + UP_DOWN, conductance=True
    ),
    "window must be conductances in siemens": lambda: fit.pulse_response(
        SOFT, UP_DOWN, 1e-5 * (2 + UP_DOWN), conductance=True, window=(1, 30)
    ),
    "window, by default the extremes of responses,": lambda: fit.pulse_response(
        SOFT, UP_DOWN, 1e-5 * UP_DOWN, conductance=True
    ),
    "g must be conductances in siemens": lambda: fit.drift([1.0, 2.0, 3.0], np.full((9, 3), 20.0)),
    "t_0 .by default the first of times. must be": lambda: fit.drift([0.0, 2.0, 3.0], np.full((9, 3), 1e-5)),
    "temperature must be greater than 0": lambda: fit.poole_frenkel_population(
        [0.1, 0.3, 0.4], np.ones((9, 3)), temperature=-20.0
    ),
    "no finite residuals": lambda: fit.least_squares(lambda law: jnp.full((4,), jnp.nan) * law.v_0, laws.Sinh(v_0=1.0)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message]()
