"""Study files: records by name, errors that name the key, and a study from a file, stopped and gone on with."""

import io
import re

import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread
from rich.console import Console

import anajax
from anajax import _tables, chips, cli, study_file
from anajax.arrays import ADC
from anajax.devices import presets

# -- records -----------------------------------------------------------------------------------------------------------


def test_tables_make_the_records_that_they_name():
    hw = anajax.presets.standard_aimc()
    table = {
        "preset": "standard_aimc",
        "device": {"preset": "rram_lognormal", "arguments": {"spread_on": 0.1}, "g_min": 2e-6},
        "mapping": {"type": "Offset", "scale_by": "array"},
        "array_shape": [128, 64],
        "dac": False,
        "adc": {"bits": 6},
        "output_noise": {"sigma": 0.02},
    }
    wanted = hw.replace(
        device=presets.rram_lognormal(spread_on=0.1).replace(g_min=2e-6),
        mapping=anajax.arrays.Offset(scale_by="array"),
        array_shape=(128, 64),
        dac=None,
        **{"adc.bits": 6, "output_noise.sigma": 0.02},
    )
    assert repr(_tables.build(table, "hardware")) == repr(wanted)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"type": "ADCs"}, "part.type is 'ADCs', which there is not; did you mean .*ADC"),
        ({"preset": "pcn"}, "part.preset is 'pcn', which there is not; did you mean .*pcm"),
        ({"type": "ADC", "preset": "pcm"}, "part must have a type or a preset; got both"),
        ({"type": "ADC", "bit": 6}, "part has no field 'bit'; did you mean bits"),
        ({"type": "ADC", "bits": -1}, "ADC.bits must be .*got -1"),
        ({"type": "ADC", "arguments": {}}, "part has arguments, which only a preset takes"),
        ({"bits": 6}, "part must have a type or a preset, as nothing is there to change; got bits"),
        ({"typ": "ADC"}, "part must have a type or a preset, .*; got typ"),
        ({"preset": "standard_aimc", "output_noize": {"sigma": 0.1}}, "no field 'output_noize'; did you mean output_"),
        ({"preset": "standard_aimc", "device": "pcm"}, "device must be a number, a table with a type .*; got 'pcm'"),
        ({"preset": "standard_aimc", "adc": True}, r"part\.adc must be a number, a table .*, or false; got True"),
        ({"type": "Hardware", "adc": {"bits": {"value": 3}}}, "adc must have a type or a preset"),
        ({"preset": "standard_aimc", "adc": {"bits": {"value": 3}}}, r"part\.adc\.bits must have a type or a preset"),
        ({"preset": "pcm", "arguments": {"x": 1}}, "part: pcm.* unexpected keyword argument 'x'"),
        ("ADC", "part must be a table; got 'ADC'"),
        ({"type": "os.system"}, "part.type is 'os.system', which there is not"),
    ],
)
def test_tables_of_nothing_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        _tables.build(table, "part")


def test_a_part_that_is_no_record_has_fields_of_its_own():
    assert repr(_tables.build({"bits": 5}, "adc", ADC(bits=8))) == repr(ADC(bits=5))


def test_settings_keep_their_kind():
    made = _tables.build({"type": "PulseTrain", "update_management": False, "length_management": False}, "pulses")
    assert made.update_management is False
    assert _tables.build({"type": "Hardware", "array_shape": [128, 64]}, "hardware").array_shape == (128, 64)


# -- files -------------------------------------------------------------------------------------------------------------

FILE = """
title = "bits"
chips = 4
times = [20, "1 year"]
threshold = 0.5
{top}

[data]
images = 40

[network]
hidden = [16]

[training]
epochs = 12
aware = 1
modifier = {{type = "DeviceNoise", scale = 2.0}}

[hardware]
preset = "standard_aimc"
wires = false

[sweep]
adc.bits = [4, 8]
{rest}
"""


def written(folder, top="", rest=""):
    path = folder / "bits.toml"
    path.write_text(FILE.format(top=top, rest=rest))
    return path


def test_a_file_is_trained_measured_kept_and_gone_on_with(tmp_path, capsys):
    path, out = written(tmp_path), tmp_path / "out"
    study_file.run(path, out=out)
    found = chips.load(out / "study.nc")
    assert dict(found["accuracy"].sizes) == {"adc.bits": 2, "chip": 4, "time": 2}
    assert found.attrs["study_file"] == path.read_text()
    assert found["time"].values.tolist() == [20.0, 365 * 86400.0]
    assert float(found["accuracy"].mean()) > 0.5  # 0.1 is chance
    assert imread(out / "study.png").shape[2] == 4
    printed = capsys.readouterr().out
    assert re.search(r"8 +20 s +\d\d\.\d\d ± \d", printed)

    with pytest.raises(ValueError, match="out holds a study already; go on with it by --resume"):
        study_file.run(path, out=out)
    chunks = sorted((out / "chunks").glob("*.chunk"))
    chunks[0].unlink()
    again = study_file.run(path, out=out, resume=True)
    xr.testing.assert_identical(again, found)
    text = path.read_text()
    path.write_text(text.replace("epochs = 12", "epochs = 13"))  # the network that is there is another one
    with pytest.raises(ValueError, match=r"holds another study \(training\.epochs: 12 there, 13 here"):
        study_file.run(path, out=out, resume=True)
    path.write_text(text.replace("wires = false", "output_noise.sigma = 0.03"))
    with pytest.raises(ValueError, match=r"holds another study .*hardware\.output_noise\.sigma: 0\.0\d+ there, 0\.0"):
        study_file.run(path, out=out, resume=True)
    path.write_text(text.replace("chips = 4", "chips = 5"))
    with pytest.raises(ValueError, match=r"holds another study \(chips: 4 there, 5 here"):
        study_file.run(path, out=out, resume=True)


def test_a_dry_run_estimates_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["study", str(written(tmp_path)), "--dry-run"])
    printed = capsys.readouterr().out
    assert re.search(r"^4 chips at 2 points in about .* of compiling; [\d,]+ MB for.*\ntraining", printed)
    assert [p.name for p in tmp_path.iterdir()] == ["bits.toml"]


def test_what_is_stopped_by_hand_says_how_to_go_on(tmp_path, monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_file, "run", stopped)
    with pytest.raises(SystemExit, match="stopped; the same command with --resume goes on"):
        cli.main(["study", str(written(tmp_path))])
    with pytest.raises(SystemExit, match=r"devices must be from 1 to .*, the cores of this machine; got 0"):
        cli.main(["study", str(written(tmp_path)), "--devices", "0"])
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    with pytest.raises(SystemExit, match=r"out must be a folder; .*file is a file"):
        cli.main(["study", str(written(tmp_path)), "--out", str(tmp_path / "file")])
    with pytest.raises(SystemExit, match="no study file at"):
        cli.main(["study", str(tmp_path)])


def test_no_number_is_cut_on_a_narrow_terminal(tmp_path):
    out = io.StringIO()
    plan = study_file.read(written(tmp_path))
    coords = {"adc.bits": [4, 8], "chip": [0, 1], "time": [20.0, 365 * 86400.0]}
    found = xr.Dataset({"accuracy": (tuple(coords), np.full((2, 2, 2), 0.9123))}, coords=coords)
    study_file._print(study_file._table(found, plan), Console(file=out, width=40))
    assert "100.0 (15.8 to 100.0)" in out.getvalue()
    assert "…" not in out.getvalue()
    assert "± half of the 95 % interval of the mean" in out.getvalue()


def test_drawn_designs_and_times_in_words():
    plan = study_file.Plan(hardware=anajax.presets.standard_aimc(), sweep={})
    assert plan.times == [0.0]
    for text, seconds in (("20 s", 20), ("1.5 h", 5400), ("2 days", 172800), ("1e1 years", 10 * 365 * 86400)):
        assert study_file._seconds(text) == seconds


def test_drawn_designs_are_read(tmp_path):
    text = FILE.format(top="", rest='\n[design]\nkind = "sobol"\npoints = 2\n')
    path = tmp_path / "sobol.toml"
    path.write_text(text)
    found = study_file.run(path, out=tmp_path / "out")
    assert dict(found["accuracy"].sizes) == {"point": 2, "chip": 4, "time": 2}
    assert ((found["adc.bits"] >= 4) & (found["adc.bits"] <= 8)).all()
    assert np.ptp(found["adc.bits"].values) > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("images = 40", 'name = "digit"', "^data.name must be one of .digits"),
        ("images = 40", "images = 36000", "data.images must be at most 360; got 36000"),
        ("threshold = 0.5", "threshold = 95", "threshold must be an accuracy from 0 to 1; got 95"),
        ("images = 40", "images = 0", r"data\.images must be an integer of at least 1; got 0"),
        ("hidden = [16]", 'hidden = ["a"]', r"network\.hidden\[0\] must be an integer of at least 1; got 'a'"),
        ("hidden = [16]", 'checkpoint = "there"', r"training has no effect on a network\.checkpoint"),
        ("DeviceNoise", "DeviceNoisy", r"training\.modifier\.type is 'DeviceNoisy', which there is not"),
        ('"DeviceNoise", scale = 2.0', '"ADC"', r"training\.modifier must be a Modifier; got ADC"),
        ('"1 year"', "inf", "times must be finite"),
        ("adc.bits = [4, 8]", 'adc.bits = ["six"]', r"sweep of 'adc\.bits' must be a list of numbers; got \['six'\]"),
        ('"1 year"', "true", "times must be seconds"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_values_that_would_fail_later_fail_at_once(old, new, message, dry_run, tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        study_file.run(path, out=tmp_path / "out", dry_run=dry_run)
    assert not (tmp_path / "out" / "network").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all that I have")
    with pytest.raises(ValueError, match="holds something else than a study"):
        study_file.run(written(tmp_path), out=tmp_path)


@pytest.mark.parametrize(
    ("top", "rest", "message"),
    [
        ("chip = 3", "", "^chip is not a key of a study file; did you mean chips"),
        ('seed = "a"', "", "^seed must be an integer; got 'a'"),
        ("", "adc.bit = [3]", r"sweep\.adc\.bit: ADC has no field 'bit'"),
        ("", "dac.bound = []", "sweep of 'dac.bound' must be a list of at least one value"),
        ("", '[design]\nkind = "sobel"', "design.kind must be one of grid, points, .*; got 'sobel'"),
        ("[data", "", "bits.toml is not TOML"),
        ("seed = -1", "", "seed must be an integer of at least 0; got -1"),
        ('chunk = "3"', "", "^chunk must be an integer; got '3'"),
        ("", "[design]\npoints = 0", "design.points must be an integer of at least 1; got 0"),
        ("chunk = -1", "", "chunk must be an integer of at least 0; got -1"),
        ("", "[design]\npoints = 5", "points, seed and log of design are of drawn kinds; a grid takes values"),
    ],
)
def test_files_with_mistakes_are_refused(top, rest, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        study_file.run(written(tmp_path, top, rest), out=tmp_path / "out")


def test_files_that_are_not_there_and_times_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no study file at"):
        study_file.read(tmp_path / "none.toml")
    with pytest.raises(ValueError, match=r"times must be seconds or text such as '1 day', in s, min, .*got '1 week'"):
        study_file._seconds("1 week")
    with pytest.raises(ValueError, match="times must be seconds"):
        study_file._seconds(True)
