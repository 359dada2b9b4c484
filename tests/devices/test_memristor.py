"""Memristor simulations against closed forms, independent integrations and finite differences."""

import itertools
import math
import subprocess
import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from transients import constant, spread

from anajax.devices.memristor import (
    JART,
    VTEAM,
    Biolek,
    Drive,
    Joglekar,
    LinearIonDrift,
    Memristor,
    Messaris,
    Pulses,
    Sampled,
    Sine,
    StanfordPKU,
    Triangle,
    Yakopcic,
    messaris_2021,
    pulse_response,
    simulate,
)

close = np.testing.assert_allclose
MODELS = (LinearIonDrift, VTEAM, Yakopcic, StanfordPKU, Messaris, messaris_2021, JART)


# --- closed forms ----------------------------------------------------------------------------------------


def charge_and_flux(model):
    """Without a window, R^2 falls linearly with flux: R dR/dt = -(R_off - R_on) mu_v R_on / D^2 v."""
    drive, times = Sine(amplitude=1.2, frequency=1.0, cycles=2), np.linspace(0, 2, 21)
    trace = simulate(model, drive, times, 0.3, tolerance=1e-6)
    R_0 = 100 * 0.3 + 16e3 * 0.7
    flux = 1.2 / (2 * np.pi) * (1 - np.cos(2 * np.pi * times))
    R = np.sqrt(R_0**2 - 2 * 15.9e3 * 1e4 * flux)
    close(trace.state, (16e3 - R) / 15.9e3, atol=2e-5)
    close(trace.current, 1.2 * np.sin(2 * np.pi * times) / R, rtol=1e-4, atol=1e-10)


def test_linear_ion_drift_is_a_function_of_flux(x64):
    charge_and_flux(LinearIonDrift())
    with pytest.raises(AssertionError):
        charge_and_flux(LinearIonDrift(mu_v=1.02e-14))
    with pytest.raises(AssertionError):
        charge_and_flux(LinearIonDrift(window=Joglekar(p=5.0)))


def constant_voltage(model):
    """At constant voltage the state moves linearly, stops on the rail, and waits there."""
    times = np.linspace(0, 1e-6, 11)
    trace = simulate(model, constant(0.2, 1e-6), times, 1e-9)
    close(trace.state, np.minimum(1e-9 + 5e-4 * 9 * times, 3e-9), rtol=1e-6)
    close(trace.voltage, 0.2)


def test_vteam_moves_linearly_to_its_rail(x64):
    constant_voltage(VTEAM())
    with pytest.raises(AssertionError):
        constant_voltage(VTEAM(alpha_off=1.01))
    with pytest.raises(AssertionError):
        constant_voltage(VTEAM(d=3.1e-9))


def test_a_cell_leaves_its_rail(x64):
    """213 times the range in one direction, and the way back starts on the rail."""
    drive = Sampled(times=[0, 1e-12, 1e-9, 1.001e-9, 2e-9], volts=[0, -1.0, -1.0, 0.2, 0.2])
    times = np.array([0, 0.5e-9, 1e-9, 1.5e-9, 2e-9])
    x = simulate(VTEAM(k_off=1.0), drive, times, 2e-9).state
    ramp = 1.0 * (0.2 - 0.02) ** 2 / (2 * 0.02) * 1e-12 / 1.2  # what moves while the voltage rises to 0.2 V
    close(x, [2e-9, 0, 0, np.minimum(ramp + 9 * 0.499e-9, 3e-9), 3e-9], rtol=1e-5, atol=1e-17)


def test_yakopcic_saturates_exponentially(x64):
    model = Yakopcic(alpha_p=0.0)
    g = 4000 * (math.exp(0.5) - math.exp(0.16))
    times = np.array([0.0, 2e-4, 1e-3, 2e-2])
    trace = simulate(model, constant(0.5, 2e-2), times, 0.3)
    close(trace.state, 1 - 0.7 * np.exp(-g * times / 0.7), rtol=1e-6)


def test_messaris_has_a_closed_form(x64):
    times = np.array([0.0, 1e-6, 1e-5, 1e-3])
    trace = simulate(Messaris(), constant(1.0, 1e-3), times, 5e3)
    s = 743.47 * math.expm1(1 / 6.51)
    close(trace.state, 16719 - 1 / (1 / (16719 - 5e3) + s * times), rtol=1e-5)


# --- hysteresis ------------------------------------------------------------------------------------------

LOOPS = {
    "LinearIonDrift": (LinearIonDrift(window=Biolek()), 1.0, (1.0, 10.0, 100.0)),
    "VTEAM": (VTEAM(initial=1.5e-9), 0.5, (3e8, 3e9, 3e10)),
    "Yakopcic": (Yakopcic(), 0.4, (1e3, 1e4, 1e5)),
    "StanfordPKU": (StanfordPKU(initial=0.8e-9), 1.3, (1e7, 1e8, 1e9)),
    "Messaris": (Messaris(), 0.4, (3e6, 3e7, 3e8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_pinched_and_shrink_with_frequency(name):
    model, amplitude, frequencies = LOOPS[name]
    phase = np.linspace(0, 2, 129)

    def loop(f):
        return simulate(model, Sine(amplitude=amplitude, frequency=f, cycles=2), jnp.asarray(phase) / f)

    trace = jax.jit(jax.vmap(loop))(jnp.asarray(frequencies))
    zeros = phase % 0.5 == 0
    assert float(jnp.abs(trace.current[:, zeros]).max()) < 1e-5 * float(jnp.abs(trace.current).max())
    v, i = np.asarray(trace.voltage[:, 64:97]), np.asarray(trace.current[:, 64:97])  # one lobe of the second cycle
    area = np.abs(np.trapezoid(i, v, axis=1))
    assert area[0] > 3 * area[1] > 9 * area[2] > 0, area


# --- accuracy --------------------------------------------------------------------------------------------


def runge_kutta(model, drive, times, steps):
    """Return states by a fixed-step integration in NumPy's precision, clipped at the rails after every step."""
    low, high = (np.asarray(b) for b in model.bounds)
    rate = jax.jit(lambda x, t: model.rate(jnp.clip(x, low, high), drive(t)))
    h = (times[-1] - times[0]) / steps

    @jax.jit
    def advance(x, start):
        def step(x, k):
            t = start + k * h
            a = rate(x, t)
            b = rate(x + h / 2 * a, t + h / 2)
            c = rate(x + h / 2 * b, t + h / 2)
            d = rate(x + h * c, t + h)
            return jnp.clip(x + h / 6 * (a + 2 * b + 2 * c + d), low, high), None

        return jax.lax.scan(step, x, jnp.arange(steps // (len(times) - 1)))[0]

    x = jnp.broadcast_to(model.initial, jnp.shape(sum(jax.tree.leaves(model))))
    states = [x]
    for start in times[:-1]:
        states.append(advance(states[-1], start))
    return np.stack(states)


def crowd(name, key, n=200):
    """Return cells that differ in every way that matters, a drive, and its duration [s]."""
    k = iter(jax.random.split(key, 8))
    if name == "VTEAM":
        model = VTEAM(
            k_on=-spread(next(k), 10.0, n),
            k_off=spread(next(k), 5e-4, n),
            alpha_on=spread(next(k), 3.0, n, 0.1),
            alpha_off=spread(next(k), 1.0, n, 0.1),
            v_on=-spread(next(k), 0.2, n),
            v_off=spread(next(k), 0.02, n),
        )
        return model, Sine(amplitude=1.0, frequency=2e6, cycles=1), 5e-7
    if name == "thresholds":
        model = LinearIonDrift(
            mu_v=spread(next(k), 1e-14, n),
            window=Joglekar(p=spread(next(k), 2.0, n)),
            v_positive=spread(next(k), 0.55, n, 0.3),
            v_negative=-spread(next(k), 0.55, n, 0.3),
        )
        return model, Sine(amplitude=1.0, frequency=1.0, cycles=1), 1.0
    if name == "Yakopcic":
        model = Yakopcic(V_p=spread(next(k), 0.16, n), A_p=spread(next(k), 4000.0, n), alpha_n=spread(next(k), 5.0, n))
        return model, Sine(amplitude=0.5, frequency=100.0, cycles=1), 0.01
    if name == "StanfordPKU":
        model = StanfordPKU(E_a=spread(next(k), 0.6, n, 0.02), F_min=spread(next(k), 1.4e9, n, 0.05))
        return model, Triangle(amplitude=1.8, period=1e-5, cycles=1), 1e-5
    model = Messaris(A_p=spread(next(k), 743.47, n), A_n=-spread(next(k), 68012.0, n))
    return model, Triangle(amplitude=0.5, period=1e-4, cycles=1), 1e-4


def worst_cell(found, wanted, model, allowed):
    low, high = model.bounds
    error = np.max(np.abs(np.asarray(found) - wanted) / np.asarray(high - low))
    assert error < allowed, f"the worst cell is off by {error:.2g} of the range"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VTEAM", "thresholds", "Yakopcic", "StanfordPKU", "Messaris"])
def test_worst_cell_agrees_with_twenty_thousand_small_steps(name, x64):
    model, drive, duration = crowd(name, jax.random.key(0))
    times = np.linspace(0, duration, 21)
    wanted = runge_kutta(model, drive, times, 20_000)
    assert np.ptp(wanted, axis=0).max() > 0.3 * float(jnp.max(jnp.asarray(model.bounds[1])))
    worst_cell(simulate(model, drive, times).state, wanted, model, 5e-5)
    faster = drive.replace(amplitude=1.005 * drive.amplitude)
    with pytest.raises(AssertionError):
        worst_cell(simulate(model, faster, times).state, wanted, model, 5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Yakopcic", "Biolek", "Messaris"])
def test_rates_ten_thousand_times_as_fast(name, x64):
    """Stiff cells against LSODA; an explicit step of the same length would be wrong by half the range."""
    model, drive = {
        "Yakopcic": (Yakopcic(A_p=4e7, A_n=4e7), Sine(amplitude=0.5, frequency=100.0, cycles=1)),
        "Biolek": (LinearIonDrift(mu_v=1e-10, window=Biolek()), Sine(amplitude=1.0, frequency=1.0, cycles=1)),
        "Messaris": (Messaris(A_p=7.4e6, A_n=-6.8e8), Sine(amplitude=0.5, frequency=1e4, cycles=1)),
    }[name]
    duration = float(1 / drive.frequency)
    times = np.linspace(0, duration, 9)
    low, high = (float(b) for b in model.bounds)
    rate = jax.jit(lambda u, s: model.rate(low + (high - low) * jnp.clip(u, 0, 1), drive(s * duration)))

    def field(s, u):
        f = float(rate(u[0], s)) * duration / (high - low)
        return [0.0 if (u[0] >= 1 and f > 0) or (u[0] <= 0 and f < 0) else f]

    u, wanted = (float(model.initial) - low) / (high - low), []
    for a, b in zip(times[:-1] / duration, times[1:] / duration, strict=True):
        wanted.append(u)
        solved = solve_ivp(field, (a, b), [u], method="LSODA", rtol=1e-8, atol=1e-10, max_step=0.01)
        u = float(np.clip(solved.y[0, -1], 0, 1))
    wanted = low + (high - low) * np.array([*wanted, u])
    assert np.ptp(wanted) > 0.2 * (high - low)
    worst_cell(simulate(model, drive, times).state, wanted, model, 1e-4)


@pytest.mark.slow
def test_other_solvers_agree():
    drive, times = Sine(amplitude=0.3, frequency=100.0, cycles=1), np.linspace(0, 0.01, 6)
    ours = simulate(Yakopcic(), drive, times).state
    close(simulate(Yakopcic(), drive, times, method=diffrax.Tsit5(), tolerance=1e-6).state, ours, atol=1e-4)
    close(simulate(Yakopcic(), drive, times, method=diffrax.Kvaerno3()).state, ours, atol=2e-4)


@pytest.mark.slow
def test_single_precision_is_close(x64):
    for make in (VTEAM, StanfordPKU):

        def run(make=make):
            return simulate(make(), Triangle(amplitude=1.5, period=1e-5, cycles=1), np.linspace(0, 1e-5, 6))

        double = run()
        with jax.enable_x64(False):
            single = run()
        assert single.state.dtype == jnp.float32
        worst_cell(single.state, np.asarray(double.state), make(), 2e-4)


# --- arrays of cells and transformations -----------------------------------------------------------------


def test_cells_take_the_shape_of_fields_and_state(x64):
    drive, times = Sine(amplitude=1.0, frequency=2e7, cycles=1), np.linspace(0, 5e-8, 7)
    model = VTEAM(v_off=jnp.array([[0.02], [0.1]]), k_off=jnp.array([5e-4, 1e-3, 2e-3]))
    x_0 = jnp.array([0.5e-9, 1e-9, 1.5e-9])
    whole = simulate(model, drive, times, x_0)
    assert whole.state.shape == whole.current.shape == (7, 2, 3)
    assert whole.voltage.shape == whole.time.shape == (7,)
    for i in range(2):
        for j in range(3):
            one = simulate(VTEAM(v_off=model.v_off[i, 0], k_off=model.k_off[j]), drive, times, x_0[j])
            close(whole.state[:, i, j], one.state, rtol=1e-12)
            close(whole.current[:, i, j], one.current, rtol=1e-12)


@pytest.mark.slow
def test_vmap_and_jit_change_nothing(key, x64):
    drive, times = Triangle(amplitude=0.4, period=1e-3, cycles=1), np.linspace(0, 1e-3, 5)
    models = Yakopcic(A_p=spread(key, 4000.0, 5))
    axes = jax.tree.map(lambda x: 0 if x.ndim else None, models)
    mapped = jax.vmap(lambda m: simulate(m, drive, times), in_axes=(axes,))(models)
    direct = simulate(models, drive, times)
    close(mapped.state.T, direct.state, rtol=1e-12)
    close(jax.jit(simulate)(models, drive, times).current, direct.current, rtol=1e-12)


@pytest.mark.slow
def test_sweep_of_a_drive(x64):
    def end(amplitude):
        drive = Pulses(amplitude=amplitude, width=1e-4, period=2e-4, count=2)
        return simulate(Yakopcic(), drive, [0.0, 4e-4]).state[-1]

    ends = jax.vmap(end)(jnp.array([0.1, 0.2, 0.4]))
    assert float(ends[0]) == pytest.approx(0.11)
    assert float(ends[0]) < float(ends[1]) < float(ends[2])


@pytest.mark.slow
def test_ten_thousand_cells():
    n, key = 10_000, jax.random.key(1)
    model = VTEAM(v_off=spread(key, 0.02, n), k_on=-spread(jax.random.fold_in(key, 1), 10.0, n))
    drive, times = Sine(amplitude=1.0, frequency=2e7, cycles=1), np.linspace(0, 5e-8, 21)
    states = simulate(model, drive, times).state
    assert states.shape == (21, n)
    assert bool(jnp.isfinite(states).all())
    for k in (0, 17, 9_999):
        one = simulate(VTEAM(v_off=model.v_off[k], k_on=model.k_on[k]), drive, times).state
        close(states[:, k], one, atol=1e-6 * 3e-9)


@pytest.mark.slow
def test_pulse_response_is_that_of_a_train(x64):
    model = Yakopcic(A_p=jnp.array([400.0, 800.0]))
    after = pulse_response(model, 0.4, 1e-4, 4, v_read=0.05, rest=5e-5)
    period = 1e-4 * 1.02 + 5e-5
    train = Pulses(amplitude=0.4, width=1e-4, period=period, count=4)
    times = np.concatenate([[0.0], period * np.arange(1, 5)])
    close(after.state, simulate(model, train, times).state[1:], rtol=2e-5)
    close(after.time, times[1:], rtol=1e-12)
    close(after.current, model.current(after.state, 0.05))
    assert after.state.shape == (4, 2)


# --- drives ----------------------------------------------------------------------------------------------


def test_drives_say_what_they_apply():
    sine = Sine(amplitude=2.0, frequency=50.0, cycles=2)
    close(sine(jnp.array([-1.0, 0.0, 0.005, 0.015, 0.03, 0.05])), [0, 0, 2, -2, 0, 0], atol=1e-5)
    triangle = Triangle(amplitude=2.0, period=4.0, cycles=2)
    close(triangle(jnp.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 9.0])), [0, 1, 2, 0, -2, 0, 2, 0], atol=1e-6)
    pulses = Pulses(amplitude=[1.0, -2.0], width=2.0, period=10.0, count=2, rise=1.0, delay=1.0)
    t = jnp.array([0.0, 1.0, 1.5, 2.0, 3.9, 4.5, 5.0, 12.5, 99.0])
    close(pulses(t), [0, 0, 0.5, 1, 1, 0.5, 0, -2, 0], atol=1e-5)
    close(Pulses(amplitude=1.0, width=1.0, period=2.0, count=1)(0.005), 0.5, rtol=1e-5)
    sampled = Sampled(times=[0.0, 1.0, 3.0], volts=[1.0, 2.0, 0.0])
    close(sampled(jnp.array([-1.0, 0.5, 2.0, 9.0])), [1, 1.5, 1, 0])


@pytest.mark.parametrize(
    "drive",
    [
        Sine(amplitude=1.3, frequency=0.5, cycles=3),
        Sine(amplitude=-1.3, frequency=0.5, cycles=3),
        Triangle(amplitude=1.3, period=2.0, cycles=3),
        Pulses(amplitude=[1.0, -1.3], width=1.0, period=3.0, rise=0.3, count=2),
        Sampled(times=[0.0, 1.0, 4.0, 6.0], volts=[0.3, -1.2, 1.3, 0.1]),
    ],
    ids=lambda d: type(d).__name__,
)
def test_drives_are_monotone_and_of_one_sign_between_corners(drive, x64):
    corners = np.unique(np.round(np.concatenate([[0.0, 6.0], drive.corners()]), 12))
    for a, b in itertools.pairwise(corners):
        v = np.asarray(drive(jnp.linspace(a, b, 33)[1:-1]))
        assert (np.diff(v) >= -1e-12).all() or (np.diff(v) <= 1e-12).all(), (a, b)
        assert (v >= -1e-9).all() or (v <= 1e-9).all(), (a, b)
    for level in (0.4, -0.4):
        t = jnp.linspace(0.0, 6.0, 60_001)
        above = np.asarray(drive(t)) > level
        wanted = np.asarray(t)[1:][above[1:] != above[:-1]]
        found = np.asarray(drive.crossings(level))
        assert len(wanted) >= 2
        assert all(np.abs(found - w).min() < 1e-3 for w in wanted), (found, wanted)


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VTEAM(v_on=0.2), r"VTEAM.v_on must be less than 0; got 0.2"),
        (lambda: VTEAM(resistance="square"), r"VTEAM.resistance must be one of 'linear', 'exponential'"),
        (lambda: StanfordPKU(gap_min=2e-9), r"StanfordPKU.gap_min must be less than gap_max"),
        (lambda: JART(l_det=4e-9), r"JART.l_det must be less than l_cell"),
        (lambda: Sine(amplitude=1.0, frequency=1.0, cycles=0), r"Sine.cycles must be a whole number"),
        (lambda: Triangle(amplitude=1.0, period=1.0, cycles=1.5), r"Triangle.cycles must be a whole number"),
        (lambda: Pulses(amplitude=1.0, width=1.0, period=1.0, count=1), r"Pulses.period must be at least"),
        (lambda: Pulses(amplitude=[1.0, 2.0], width=1.0, period=2.0, count=3), r"Pulses.amplitude must be a number"),
        (lambda: Sampled(times=[0.0, 1.0, 1.0], volts=[0.0] * 3), r"must ascend; got 1 s and then 1 s at place 1"),
        (lambda: Sampled(times=[0.0, 1.0], volts=[0.0]), r"one voltage for each of the 2 times"),
        (lambda: Sampled(times=[0.0, 1.0], volts=[0.0, np.inf]), r"Sampled.volts must be finite"),
        (lambda: simulate(VTEAM(), constant(1.0, 1.0), [0.0]), r"times must be a vector of at least two"),
        (lambda: simulate(VTEAM(), constant(1.0, 1.0), [0.0, -1.0]), r"times must ascend"),
        (lambda: simulate(VTEAM(), constant(1.0, 1.0), [0.0, 1.0], 4e-9), r"x_0 must lie within the bounds of VTEAM"),
        (lambda: simulate(VTEAM(), constant(1.0, 1.0), [0.0, 1.0], tolerance=0.0), r"tolerance must be greater than 0"),
        (lambda: pulse_response(VTEAM(), 1.0, 1e-9, 0), r"count must be a whole number of at least 1; got 0"),
        (lambda: pulse_response(VTEAM(), 1.0, 1e-9, 3.0), r"count must be a whole number of at least 1; got 3.0"),  # type: ignore[arg-type]
        (lambda: simulate(VTEAM(k_on=-np.ones(3)), constant(1.0, 1.0), [0.0, 1.0], np.zeros(2)), r"must broadcast"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_models_and_drives_are_what_they_must_be():
    with pytest.raises(TypeError, match=r"drive must be a Drive, such as Sine\(...\) or Sampled"):
        simulate(VTEAM(), np.sin, [0.0, 1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model must be a Memristor, such as VTEAM\(\)"):
        simulate(VTEAM, constant(1.0, 1.0), [0.0, 1.0])  # type: ignore[arg-type]


def test_a_window_is_a_record_that_can_be_called():
    with pytest.raises(TypeError, match=r"LinearIonDrift.window must be a window"):
        LinearIonDrift(window=VTEAM())


def test_base_classes_say_what_is_missing():
    with pytest.raises(NotImplementedError, match="Memristor has no rate"):
        Memristor(initial=0.0).rate(0.0, 0.0)
    with pytest.raises(NotImplementedError, match="Drive has no corners"):
        Drive().corners()


def test_a_solve_that_fails_is_an_error_or_nan():
    drive, times = Sine(amplitude=0.5, frequency=1e3, cycles=1), np.linspace(0, 1e-3, 4)
    models = Yakopcic(A_p=jnp.array([4000.0, np.inf]))
    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        simulate(models, drive, times, max_steps=300)
    states = simulate(models, drive, times, max_steps=300, throw=False).state
    assert np.isfinite(states[:, 0]).all()
    assert np.isfinite(states[0]).all()
    assert np.isnan(states[1:, 1]).all()


def test_importing_memristors_imports_no_solver():
    code = "import sys, anajax.devices.memristor; print({'diffrax', 'equinox', 'flax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()"), done.stdout


@pytest.mark.parametrize("make", MODELS)
def test_no_current_without_voltage_and_finite_derivatives_there(make, x64):
    model = make()
    low, high = model.bounds
    places = jnp.array([low, 0.5 * (low + high), high])
    for f in (type(model).current, type(model).rate):
        value, slopes = jax.jit(jax.vmap(jax.value_and_grad(f, argnums=(0, 1, 2)), (None, 0, None)))(model, places, 0.0)
        assert (value == 0).all(), f
        assert all(np.isfinite(s).all() for s in jax.tree.leaves(slopes)), f
