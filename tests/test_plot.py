"""Pictures of devices: what is drawn is what the device does, with units; and the command that draws them."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax import catalogue, cli, plot
from anajax.devices import (
    ConstantStep,
    Device,
    LinearStep,
    OneSidedPair,
    PartialSET,
    SoftBounds,
    _catalogue,
    _characteristics,
    conduction,
    leaf,
    memristor,
    presets,
    record,
)
from anajax.devices.faults import Faulty

SOFT = SoftBounds(g_min=2e-6, g_max=22e-6, dx=0.05, up_down=0.1, dx_d2d=0.2, x_max_d2d=0.1, c2c=0.1)
PRESETS = [n for n, f in vars(presets).items() if inspect.isfunction(f) and n != "pcm_with_drift_table"]


@record
class Bare(Device):
    """A device that can do nothing but be programmed, and be read without noise."""

    gain: jax.Array | float = leaf(default=1.0)

    def conductance(self, cells, time=0.0):
        return self.gain * cells.target


KEY = jax.random.split(jax.random.key(0))[0]  # that of the cells of seed 0


def lines(axes):
    return {line.get_label(): np.asarray(line.get_xydata()) for line in axes.get_lines()}


def labels(axes):
    return axes.get_xlabel(), axes.get_ylabel()


# -- under pulses ------------------------------------------------------------------------------------------------------


def test_the_mean_of_a_pulse_response_is_the_mean_cell():
    (axes,) = plot.pulse_response(SOFT, pulses=30, cycles=2, cells=40).axes
    assert labels(axes) == ("pulses, up then down", "conductance (µS)")
    at, g = lines(axes)["mean cell"].T
    assert at.tolist() == list(range(121))
    cells = SOFT.pulse(None, SOFT.fabricate(None, (1,)), -float(_characteristics.trains(SOFT).first))
    for n, sign in ((0, 0), (30, 1), (30, -1), (30, 1), (30, -1)):
        cells = SOFT.pulse(None, cells, sign * float(n))
    np.testing.assert_allclose(g[120], 1e6 * SOFT.conductance(cells)[0], rtol=1e-5)
    up = SOFT.pulse(None, SOFT.at(SOFT.fabricate(None, (1,)), SOFT.x_min), 7.0)
    np.testing.assert_allclose(g[7], 1e6 * SOFT.conductance(up)[0], rtol=0.04)  # 97 % of the way down is the start
    band = axes.collections[0].get_paths()[0].vertices
    noisy = lines(axes)["one cell"][:, 1]
    assert band[:, 1].min() < g.min()
    assert band[:, 1].max() > g.max()
    assert not np.allclose(noisy, g)


def test_many_pulses_are_read_a_hundred_times_and_all_counted():
    (axes,) = plot.pulse_response(presets.ecram_mo(), pulses=3001, cells=4).axes
    at, g = lines(axes)["mean cell"].T
    assert (len(at), at[100], at[-1]) == (201, 3001, 6002)
    device = presets.ecram_mo()
    first = _characteristics.trains(device).first
    cells = device.pulse(None, device.pulse(None, device.fabricate(None, (1,)), -float(first)), 3001.0)
    np.testing.assert_allclose(g[100], 1e6 * device.conductance(cells)[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("device", "up", "down"),
    [
        (ConstantStep(dx=0.01), 194, 194),  # 97 % of 200
        (SoftBounds(dx=0.01), 350, 350),  # ln(1 / 0.03) / 0.01
        (PartialSET(mean_memory=None, std_memory=None, std=None), 40, 5),  # ln(1 / 0.03) / 0.088; a RESET
    ],
)
def test_trains_lead_through_the_window(device, up, down):
    found = _characteristics.trains(device)
    np.testing.assert_allclose(found.up, up, rtol=0.04)
    np.testing.assert_allclose(found.down, down, rtol=0.04)


def test_steps_are_those_of_the_mean_cell_and_cross_at_the_symmetry_point():
    (axes,) = plot.steps(SOFT, cells=50).axes
    assert labels(axes) == ("conductance (µS)", "change by one pulse (nS)")
    drawn = lines(axes)
    x = -1 + (drawn["up"][:, 0] - 2) / 10
    np.testing.assert_allclose(drawn["up"][:, 1], 1e4 * 0.05 * 1.1 * (1 - x), rtol=1e-3)
    np.testing.assert_allclose(drawn["down, sign reversed"][:, 1], 1e4 * 0.05 * 0.9 * (1 + x), rtol=1e-3)
    (label,) = (name for name in drawn if name.startswith("symmetry point"))
    assert label == "symmetry point, 13 µS"
    x = float(SOFT.symmetry_point(SOFT.fabricate(None, (1,))))  # 0.1
    np.testing.assert_allclose(drawn[label], [[12 + 10 * x, 1e4 * 0.05 * 1.1 * (1 - x)]], rtol=1e-4)


def test_a_band_of_steps_holds_only_cells_that_can_be_there():
    up, down = plot.devices._steps(SOFT, 0, 400)
    at = _characteristics.grid(SOFT)
    bounds = 1e-6 * (12 + 10 * np.abs(1 + 0.1 * np.asarray(SOFT.fabricate(KEY, (400, 1)).score("x_max"))))
    inside = at < bounds - 1e-8
    assert np.isfinite(up[inside]).all()
    assert np.isnan(up[at > bounds + 3e-8]).all()
    assert np.nanmin(up) >= -1e-9  # µS: rounding, far below a step
    assert np.nanmax(down) <= 1e-9


def test_alternating_pulses_end_at_the_dashed_line():
    (axes,) = plot.symmetry(SOFT).axes
    assert labels(axes) == ("pulses, up and down in turn", "conductance (µS)")
    *tracks, dashed = axes.get_lines()
    x = SOFT.symmetry_point(SOFT.fabricate(None, (1,)))
    np.testing.assert_allclose(dashed.get_ydata(), 1e6 * SOFT.conductance(SOFT.at(SOFT.fabricate(None, (1,)), x))[0])
    ends = np.array([np.mean(t.get_ydata()[-2:]) for t in tracks])
    starts = np.array([t.get_ydata()[0] for t in tracks])
    assert len(tracks) == 5
    assert np.ptp(starts) > 15
    np.testing.assert_allclose(ends, dashed.get_ydata()[0], atol=0.3)


@pytest.mark.parametrize(
    "device",
    [
        ConstantStep(dx=0.01),  # everywhere
        ConstantStep(dx=0.01, up_down=0.2),  # at the bound
        LinearStep(dx=0.01, gamma_up=0.3, gamma_down=-0.3),  # everywhere, by steps that change alike
        PartialSET(),
        OneSidedPair(device=PartialSET()),
    ],
    ids=["even", "bound", "alike", "SET", "pair"],
)
def test_no_symmetry_point_no_line(device):
    assert _characteristics.symmetry(device) is None


def test_histograms_show_what_scores_make_of_cells():
    figure = plot.population(SOFT, cells=300)
    bounds, sizes = figure.axes
    assert labels(bounds) == ("bounds (µS)", "cells")
    assert labels(sizes) == ("step at mid-window (nS)", "cells")
    cell = SOFT.realise(SOFT.fabricate(KEY, (300,)))
    np.testing.assert_allclose(sum(p.get_height() for p in bounds.patches[50:]), 300, atol=6)
    at = np.average([p.get_x() + p.get_width() / 2 for p in bounds.patches[50:]], weights=_heights(bounds)[50:])
    np.testing.assert_allclose(at, 12 + 10 * np.asarray(cell["high"]).mean(), rtol=0.01)


def _heights(axes):
    return [p.get_height() for p in axes.patches]


# -- in time, and currents ---------------------------------------------------------------------------------------------


def test_spread_noise_and_drift_of_a_programmed_device():
    pcm = presets.pcm()
    (axes,) = plot.programming_error(pcm).axes
    assert labels(axes) == ("target conductance (µS)", "programming spread (µS)")
    target, spread = axes.get_lines()[0].get_data()
    np.testing.assert_allclose(spread, 1e6 * pcm.programming_noise(jnp.asarray(target) * 1e-6), rtol=1e-5)
    (axes,) = plot.read_noise(pcm, times={"1 h": 3600.0}).axes
    assert labels(axes) == ("target conductance (µS)", "standard deviation of one read (nS)")
    cells = pcm.program(None, pcm.fabricate(None, (1,)), jnp.asarray([25e-6]))
    np.testing.assert_allclose(lines(axes)["1 h"][-1], [25, 1e9 * pcm.read_noise(cells, 3600.0)[0]], rtol=1e-5)
    (axes,) = plot.drift(pcm, cells=2000).axes
    assert labels(axes) == ("time since programming", "conductance (µS)")
    drawn = lines(axes)
    assert list(drawn) == ["5 µS", "15 µS", "25 µS"]
    year = pcm.conductance(cells, drawn["25 µS"][-1, 0])[0]
    np.testing.assert_allclose(drawn["25 µS"][-1, 1], 1e6 * year, rtol=0.02)
    assert "1 year" in [t.get_text() for t in axes.get_xticklabels()]


def test_drift_of_a_pulsed_device_has_its_leak():
    (axes,) = plot.drift(presets.capacitor().replace(**{"leak.lifetime": 1e4}), cells=20).axes
    g = lines(axes)["20 µS"][:, 1]
    assert g[0] > 18
    np.testing.assert_allclose(g[-1], 12, rtol=0.01)  # the rest level


def test_population_of_a_programmed_device_moves_in_a_day():
    (axes,) = plot.population(presets.pcm(), cells=200).axes
    assert labels(axes) == ("conductance (µS)", "cells")
    assert {t.get_text() for t in axes.get_legend().get_texts()} == {"5 µS", "15 µS", "25 µS", "a day later"}


def test_currents_of_a_law():
    law = conduction.Sinh(v_0=0.2, v_ref=0.1)
    left, right = plot.iv(law, (1e-6, 4e-6), v_max=0.4).axes
    assert labels(left) == ("voltage (V)", "current (µA)")
    assert labels(right) == ("voltage (V)", "chord over chord at half the voltage")
    v, i = lines(left)["4 µS"].T
    np.testing.assert_allclose(i, 1e6 * law.current(4e-6, v), rtol=1e-5)
    assert np.ptp(v) == pytest.approx(0.8)
    np.testing.assert_allclose(lines(right)["1 µS"][-1, 1], law.nonlinearity(1e-6, 0.4), rtol=1e-5)
    population = conduction.siox_high_resistance().replace(std_c=0.1)
    assert len(plot.iv(population, (1e-6,)).axes[0].collections) == 1


def test_a_loop_is_the_current_over_the_voltage():
    time = jnp.linspace(0.0, 1.0, 101)
    volts = jnp.sin(2 * jnp.pi * time)
    trace = memristor.Trace(time=time, voltage=volts, state=volts, current=2e-3 * volts[:, None] * jnp.ones(2))
    left, right = plot.iv_loop(trace).axes
    assert labels(left) == ("voltage (V)", "current (mA)")
    assert labels(right) == ("voltage (V)", "magnitude of the current (mA)")
    assert len(left.get_lines()) == 2
    np.testing.assert_allclose(left.get_lines()[1].get_ydata(), 2 * volts, rtol=1e-5)


# -- all of it ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "panels"),
    [
        (presets.rram_milo(), 2),
        (SOFT, 5),
        (presets.pcm_set_pair(), 4),
        (Faulty(device=SOFT, low=0.1), 4),
        (Faulty(device=presets.pcm(), low=0.1), 2),
        (Bare(), 1),
    ],
    ids=["programmed", "pulsed", "compound", "wrapped and pulsed", "wrapped", "bare"],
)
def test_overview(device, panels, tmp_path):
    figure = plot.overview(device, cells=20)
    assert len(figure.axes) == panels
    for axes in figure.axes:
        assert all(labels(axes))
        assert any(unit in text for unit in ("(µS)", "(nS)") for text in labels(axes))
    figure.savefig(tmp_path / "figure.png", dpi=40)


# -- the catalogue and the command -------------------------------------------------------------------------------------


def test_catalogue_has_every_preset_with_its_source():
    entries = {entry.name: entry for entry in _catalogue.catalogue()}
    assert set(entries) == {*PRESETS, "pcm_with_drift_table"}
    assert entries["ecram"].kind == "pulsed"
    assert entries["pcm_pair"].kind == "compound"
    assert entries["sonos"].kind == "programmed"
    assert entries["ecram"].citation == "Tang et al., IEDM 2018"
    assert entries["idealized"].citation == "Rasch, Gokmen, Haensch, arXiv:1906.02698 (2019)"
    assert entries["rram_es"].summary.startswith("HfO2 RRAM with exponential steps")
    assert entries["pcm_with_drift_table"].device is None
    assert entries["pcm_with_drift_table"].signature == "pcm_with_drift_table(g, nu_mean, nu_std, g_max=2.5e-05)"
    assert [n for n, e in entries.items() if not e.source] == ["ideal", "pcm_with_drift_table"]


def test_fields_of_a_device_and_of_its_parts():
    rows = {row.name: row for row in _catalogue.rows(presets.capacitor_3t1c(lifetime=0.5))}
    assert rows["g_max"][1:] == ("20", "µS", "highest conductance that programming aims at")
    assert rows["leak.lifetime"][1:] == ("0.5", "s", "mean time constant tau of the decay")
    assert rows["nl_up"].unit == "1"
    assert not {"dx", "up_down", "drift", "noise", "_apart", "dx_law"} & set(rows)
    assert _catalogue.rows(presets.pcm())[2].value == "0.26348 + 1.965 u − 1.1731 u^2"
    names = [row.name for row in _catalogue.rows(presets.pcm_pair())]
    assert {"device", "device.a_up", "upper"} <= set(names)
    assert "g_max" not in names
    assert {r.name: r.value for r in _catalogue.rows(presets.rram_array_om())}["noise"] == "additive"


def test_states_are_the_window_over_a_step():
    assert _characteristics.states(ConstantStep(dx=0.01)) == pytest.approx(200, rel=1e-3)
    assert _characteristics.states(presets.rram_array_hfo2()) == pytest.approx(2 / 0.4622, rel=1e-3)
    reset = PartialSET(mean_memory=None)
    assert _characteristics.states(reset) == pytest.approx(12 / (0.88 - 0.084 * 6), rel=1e-3)


@pytest.mark.slow
def test_command_lists_all_devices(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    cli.main(["devices"])
    printed = capsys.readouterr().out
    words = ("pcm_with_drift_table(g,", "OneSidedPair", "9 to 88.2", "Tang et al.", "states", "devices.memristor")
    for word in (*PRESETS, *words):
        assert word in printed, word


def test_command_shows_one_device(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    cli.main(["devices", "rram_cmo"])
    printed = capsys.readouterr().out
    for word in ("Falcone", "program_offset", "µS", "duration of one read", "figure: rram_cmo.png"):
        assert word in printed
    assert (tmp_path / "rram_cmo.png").read_bytes().startswith(b"\x89PNG")
    cli.main(["devices", "rram_cmo", "--out", "new/picture.svg"])
    assert "<svg" in (tmp_path / "new" / "picture.svg").read_text()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["picture.svg"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["ecram_m"], "there is no device 'ecram_m'; did you mean ecram_mo, ecram"),
        (["xyzzy"], "there is no device 'xyzzy'; `anajax devices` lists them"),
        (["pcm_with_drift_table"], "pcm_with_drift_table needs arguments"),
        (["sonos", "--out", "sonos.doc"], "out must end in one of"),
    ],
)
def test_command_errors_are_one_line(args, message):
    with pytest.raises(SystemExit) as error:
        cli.main(["devices", *args])
    assert str(error.value).startswith(f"anajax: {message}")
    assert "\n" not in str(error.value)


def test_a_broken_figure_leaves_no_file(tmp_path, monkeypatch):
    def fail(device):
        raise ValueError("no picture")

    monkeypatch.setattr(plot, "overview", fail)
    with pytest.raises(ValueError, match="no picture"):
        catalogue.show("ideal", tmp_path / "ideal.png")
    assert not list(tmp_path.iterdir())
