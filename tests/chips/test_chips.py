"""Ensembles: chip i depends on (seed, i) alone, and studies are kept whole."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import nnx

import anajax
from anajax import chips, nn

DAY = 86400.0


@pytest.fixture(scope="module")
def job():
    hw = anajax.presets.standard_aimc()
    model = nn.Linear(12, 4, hardware=hw, rngs=nnx.Rngs(0))
    apply, params, hw, _ = nn.split(model)
    x = jax.random.normal(jax.random.key(1), (50, 12))
    y = jnp.argmax(apply(params, anajax.Hardware(), x), axis=-1)
    return model, apply, params, hw, x, y


def _outputs(job, **changes):
    """Read one chip a day after programming."""
    _, apply, params, hw, x, _ = job
    hw = hw.replace(**changes)
    return lambda chip, key: apply(params, hw, x[:5], key=key, chip=chip, time=DAY)


def test_a_thousand_chips_by_map_equal_a_thousand_one_by_one(job):
    """Another program may round its last bit differently; without ADC that is all it can do."""
    fleet, read = chips.fabricate(7, job[0], 1000), _outputs(job, dac=None, adc=None)
    mapped = chips.map(read, fleet, chunk=300)  # 300 does not divide 1,000
    one = jax.jit(lambda i: read(chips.one(7, i, job[0]), chips.ensemble.keys(7, i)[1]))
    single = np.stack([one(i) for i in range(1000)])
    np.testing.assert_allclose(mapped, single, rtol=1e-5, atol=1e-5)
    assert mapped.std(axis=0).min() > 0.05  # and the chips do differ


@pytest.mark.parametrize("chunk", [1, 7, 64, None])
def test_chunk_size_changes_nothing(job, chunk):
    fleet = chips.fabricate(7, job[0], 64)
    whole = chips.map(_outputs(job), fleet, chunk=64)
    np.testing.assert_array_equal(chips.map(_outputs(job), fleet, chunk=chunk), whole)


def test_side_by_side_equals_one_by_one(job):
    fleet, read = chips.fabricate(7, job[0], 10), _outputs(job, dac=None, adc=None)
    np.testing.assert_allclose(chips.map(read, fleet, batch_size=4), chips.map(read, fleet), rtol=1e-5, atol=1e-5)


def test_chips_are_described_and_indexed(job):
    fleet = chips.fabricate(7, job[0], 10)
    assert len(fleet) == 10
    jax.tree.map(np.testing.assert_array_equal, fleet[3], chips.one(7, 3, job[0]))
    with pytest.raises(IndexError, match="from 0 to 9; got 10"):
        fleet[10]
    with pytest.raises(ValueError, match="n must be at least 1 chip; got 0"):
        chips.fabricate(7, job[0], 0)
    with pytest.raises(ValueError, match="chunk must be at least 1; got 0"):
        chips.map(_outputs(job), fleet, chunk=0)


def test_evaluate_is_what_single_chips_give(job):
    model, apply, params, hw, x, y = job
    times = [20.0, DAY]
    study = chips.evaluate(apply, params, hw, x, y, chips=6, times=times, seed=3, chunk=4)
    assert study["accuracy"].dims == ("chip", "time")
    assert study["time"].attrs["units"] == "s"
    for i in range(6):
        made, read = chips.ensemble.keys(3, i)
        chip = nn.program(made, model)
        for k, time in enumerate(times):
            out = apply(params, hw, x, key=jax.random.fold_in(read, k), chip=chip, time=time)
            assert float(study["accuracy"][i, k]) == pytest.approx(float(chips.accuracy(out, y)))


def test_more_chips_leave_the_first_ones_alone(job):
    _, apply, params, hw, x, y = job
    few = chips.evaluate(apply, params, hw, x, y, chips=3, times=[DAY])
    many = chips.evaluate(apply, params, hw, x, y, chips=9, times=[DAY])
    np.testing.assert_array_equal(few["accuracy"], many["accuracy"][:3])


def test_sweeps_are_dimensions_over_the_same_chips(job):
    _, apply, params, hw, x, y = job
    sweep = {"device.nu_scale": [0.0, 1.0], "output_noise.sigma": [0.0, 0.04, 0.5]}
    study = chips.evaluate(apply, params, hw, x, y, chips=4, times=[DAY], sweep=sweep)
    assert dict(study.sizes) == {"device.nu_scale": 2, "output_noise.sigma": 3, "chip": 4, "time": 1}
    single = chips.evaluate(apply, params, hw, x, y, chips=4, times=[DAY])
    at = study["accuracy"].sel({"device.nu_scale": 1.0, "output_noise.sigma": 0.04})
    np.testing.assert_array_equal(at, single["accuracy"])
    with pytest.raises(TypeError, match=r"PCM has no field 'nu_scal'; it has .*nu_scale"):
        chips.evaluate(apply, params, hw, x, y, chips=1, sweep={"device.nu_scal": [1.0]})


def test_memory_does_not_grow_with_the_number_of_chips(job):
    """The compiled program of 1,000 chips needs the temporary memory of that of 10, but for its results."""
    _, apply, params, hw, x, y = job
    from anajax.chips.running import measured

    def temporary(n):
        args = (params, hw, x, y, jnp.asarray([DAY]), jax.random.key(0), None, jnp.arange(n, dtype=jnp.uint32))
        return measured.lower(apply, chips.accuracy, *args).compile().memory_analysis().temp_size_in_bytes

    assert temporary(1000) <= temporary(10) + 64 * 1000


def test_summary_of_known_values():
    values = np.linspace(0.9, 1.0, 101)[:, None]
    study = xr.Dataset({"accuracy": (("chip", "time"), values)}, coords={"time": [1.0]})
    s = chips.summarise(study, threshold=0.95).isel(time=0)
    assert float(s["mean"]) == pytest.approx(0.95)
    assert float(s["p05"]) == pytest.approx(0.905, abs=1e-3)
    assert float(s["p95"]) == pytest.approx(0.995, abs=1e-3)
    assert float(s["ci95"]) == pytest.approx(1.98397 * values.std(ddof=1) / 101**0.5, rel=1e-4)  # t at 100 degrees
    assert float(s["yield"]) == pytest.approx(51 / 101)


@pytest.mark.parametrize("name", ["study.nc", "study.zarr"])
def test_study_round_trip(job, tmp_path, name):
    _, apply, params, hw, x, y = job
    study = chips.evaluate(apply, params, hw, x, y, chips=2, times=[DAY])
    path = tmp_path / "deep" / name
    for _ in range(2):  # the second in the place of the first
        assert chips.save(study, path) == path
        assert [p.name for p in path.parent.iterdir()] == [name]  # nothing half-written stays
    back = chips.load(path)
    xr.testing.assert_identical(back, study)
    assert "PCM" in back.attrs["hardware"]
    fields = json.loads(back.attrs["fields"])  # every number of the hardware, whole
    np.testing.assert_allclose(fields["device.program_curve.coefficients"], hw.device.program_curve.coefficients)


def test_broken_results_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no study at .*none.nc"):
        chips.load(tmp_path / "none.nc")
    broken = tmp_path / "broken.nc"
    broken.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r"broken.nc is not a whole NetCDF file"):
        chips.load(broken)
    path = chips.save(xr.Dataset({"a": ("x", np.arange(1000.0))}), tmp_path / "other.nc")
    with pytest.raises(ValueError, match=r"other.nc is a NetCDF file, but not a study of anajax"):
        chips.load(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"other.nc is not a whole NetCDF file"):
        chips.load(path)


def test_a_folder_that_is_no_study_is_not_replaced(tmp_path):
    folder = tmp_path / "precious.zarr"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match=r"precious\.zarr is not a whole Zarr folder"):
        chips.save(xr.Dataset({"a": 1.0}), folder)
    assert [p.name for p in tmp_path.rglob("*")] == ["precious.zarr", "thesis.txt"]


def test_impossible_studies_are_refused(job):
    _, apply, params, hw, x, y = job
    with pytest.raises(ValueError, match="chips must be an integer of at least 1; got 0"):
        chips.evaluate(apply, params, hw, x, y, chips=0)
    with pytest.raises(ValueError, match="times must be at least 0; got -1"):
        chips.evaluate(apply, params, hw, x, y, times=[-1.0])
