"""Measured data in CSV files: what is read, and which line is wrong."""

import numpy as np
import pytest

from anajax import fit


def test_csv_of_pulses(tmp_path):
    path = tmp_path / "pulses.csv"
    path.write_text(
        "# my device\ncell, pulse, conductance_S\na,1,1e-6\nb,1,2e-6 # read twice\n\na,-1,3e-6\nb,-1,4e-6\n"
    )
    data = fit.read_csv(path)
    assert isinstance(data, fit.PulseData)
    np.testing.assert_array_equal(data.directions, [1, -1])
    np.testing.assert_array_equal(data.responses, [[1e-6, 3e-6], [2e-6, 4e-6]])
    assert data.conductance
    path.write_text("state,direction\n0.1,1\n0.2,1\n")
    data = fit.read_csv(path)
    assert not data.conductance
    np.testing.assert_array_equal(data.responses, [[0.1, 0.2]])


def test_csv_of_sweeps_and_retention(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("voltage_V,current_A\n0.1,1e-6\n0.2,3e-6\n")
    sweep = fit.read_csv(str(path))
    assert isinstance(sweep, fit.SweepData)
    np.testing.assert_array_equal(sweep.i, [[1e-6, 3e-6]])
    path.write_text("time_s,conductance_S,cell\n1,1e-6,1\n10,9e-7,1\n1,2e-6,2\n10,1e-6,2\n")
    kept = fit.read_csv(path)
    assert isinstance(kept, fit.RetentionData)
    np.testing.assert_array_equal(kept.times, [1, 10])
    np.testing.assert_array_equal(kept.g, [[1e-6, 9e-7], [2e-6, 1e-6]])


CSV = {
    "line 1: the header must have a column 'pulse' or 'direction' or 'voltage_V' or 'time_s'; got ['a']": "a\n1\n",
    "line 1: the header must have a column": "",
    "line 2: beside 'pulse' there must be one 'conductance_S' or 'state'; got ['pulse', 'x']": "# x\npulse,x\n",
    "line 1: beside 'pulse' there must be one": "pulse,state,conductance_S\n",
    "line 1: columns must be pulse, state and perhaps cell; got sweep too": "pulse,state,sweep\n",
    "line 1: columns must differ; got 'state' twice": "pulse,state,state\n",
    "must have data below its header; got none": "pulse,state\n# nothing\n",
    "line 3, column 'state': must be a finite number; got 'x'": "pulse,state\n1,0.1\n1,x\n",
    "line 2, column 'state': must be a finite number; got 'nan'": "pulse,state\n1,nan\n",
    "line 2, column 'state': must be a finite number; got ''": "pulse,state\n1,\n",
    "line 2, column 'pulse': must be 1 or -1; got '2'": "pulse,state\n2,0.1\n",
    "line 2: must have 2 values, like the header; got 3": "pulse,state\n1,0.1,5\n",
    "column 'cell': all must have as many lines; got 2 of 'a' and 1 of 'b'": "cell,pulse,state\na,1,0\na,1,0\nb,1,0\n",
    "column 'pulse': all of column 'cell' must have the same; got 1 of 'a' and -1 of 'b' in their line 1": (
        "cell,pulse,state\na,1,0\nb,-1,0\n"
    ),
}


@pytest.mark.parametrize("message", CSV)
def test_csv_errors_name_file_line_column_and_value(message, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(CSV[message])
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the message is compared as it stands)
        fit.read_csv(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_utf8_is_named(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("voltage_V,current_A # µA\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.csv: must be text in UTF-8; got byte 0xb5"):
        fit.read_csv(path)


def test_a_file_that_is_missing():
    with pytest.raises(FileNotFoundError):
        fit.read_csv("no such file.csv")
