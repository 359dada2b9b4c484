"""Studies: designs, what they refuse, and that nothing of how they run changes what they find."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import nnx

import anajax
from anajax import chips, nn
from anajax.chips import running

DAY = 86400.0


@pytest.fixture(scope="module")
def job():
    hw = anajax.presets.standard_aimc()
    model = nn.Linear(12, 4, hardware=hw, rngs=nnx.Rngs(0))
    apply, params, hw, _ = nn.split(model)
    x = jax.random.normal(jax.random.key(1), (50, 12))
    y = jnp.argmax(apply(params, anajax.Hardware(), x), axis=-1)
    return {"apply": apply, "params": params, "hardware": hw, "x": x, "y": y}


# -- designs -----------------------------------------------------------------------------------------------------------

RANGES = {"a": (1.0, 100.0), "b": (0.0, 2.0)}


def test_a_grid_has_all_combinations():
    found = chips.grid({"a": [1, 2], "b": [3, 4, 5]})
    assert found.values.tolist() == [[1, 3], [1, 4], [1, 5], [2, 3], [2, 4], [2, 5]]
    assert found.point(4) == {"a": 2.0, "b": 4.0}
    assert len(chips.grid({})) == 1


def test_a_list_has_what_is_listed():
    found = chips.points({"a": [1, 2, 3], "b": [4, 5, 6]})
    assert found.values.tolist() == [[1, 4], [2, 5], [3, 6]]
    with pytest.raises(ValueError, match=r"fields must have as many values each; got \{'a': 2, 'b': 1\}"):
        chips.points({"a": [1, 2], "b": [3]})


@pytest.mark.parametrize("design", [chips.random, chips.sobol, chips.latin_hypercube])
def test_drawn_points_lie_within_their_ranges_and_repeat(design):
    found = design(RANGES, 64, seed=1)
    assert found.values.shape == (64, 2)
    np.testing.assert_array_equal(found.values, design(RANGES, 64, seed=1).values)
    assert (found.values != design(RANGES, 64, seed=2).values).any()
    for k, (low, high) in enumerate(RANGES.values()):
        assert low <= found.values[:, k].min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < found.values[:, k].max() <= high
    medians = np.median(design({"a": (1.0, 100.0)}, 64, log=True).values)
    assert 5 < medians < 20  # half of the decades, not half of the range


@pytest.mark.parametrize(("design", "parts"), [(chips.sobol, 8), (chips.latin_hypercube, 64)])
def test_designs_are_even(design, parts):
    """A Latin hypercube has one point in each 64th of both ranges, a Sobol sequence eight in each eighth."""
    unit = design({"a": (0.0, 1.0), "b": (0.0, 1.0)}, 64).values
    for k in range(2):
        assert set(np.histogram(unit[:, k], parts, (0, 1))[0]) == {64 // parts}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: chips.grid({"a": []}), "sweep of 'a' must be a list of at least one value"),
        (lambda: chips.grid({"a": [np.nan]}), "sweep of 'a' must be finite"),
        (lambda: chips.random({}, 3), "ranges must name at least one field"),
        (lambda: chips.random(RANGES, 0), "n must be an integer of at least 1; got 0"),
        (lambda: chips.sobol({"a": (2.0, 1.0)}, 3), r"range of 'a' must be \(low, high\) with low < high"),
        (lambda: chips.sobol({"b": (0.0, 2.0)}, 3, log=True), "with 0 < low < high"),
    ],
)
def test_impossible_designs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- what a study refuses, and what it says of itself ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"chips": 0}, ValueError, "chips must be an integer of at least 1; got 0"),
        ({"times": []}, ValueError, "times must be a list of at least one number of seconds"),
        ({"sweep": {"adc.bit": [8]}}, TypeError, r"ADC has no field 'bit'; it has bits, bound"),
        ({"sweep": {"adc": [8]}}, ValueError, "sweep of 'adc' must name a number of the hardware; it is ADC"),
        ({"sweep": {"adc.bits": []}}, ValueError, "sweep of 'adc.bits' must be a list of at least one value"),
        ({"sweep": {"adc.bits": [8, 0.5]}}, ValueError, r"ADC\.bits must be greater than 1; got 0\.5"),
        ({"sweep": {"adc.bits": [8, 4, 8]}}, ValueError, r"must not repeat a value; got \[8\.0, 4\.0, 8\.0\]"),
        ({"sweep": [4, 6]}, TypeError, r"sweep must be a dictionary of fields and values, or a design; got \[4, 6\]"),
        ({"chips": 2.5}, ValueError, r"chips must be an integer of at least 1; got 2\.5"),
        ({"times": [20, 20]}, ValueError, r"times must not repeat a value; got \[20, 20\]"),
        ({"times": 20.0}, ValueError, r"times must be a list of at least one number of seconds; got 20\.0"),
        ({"times": ["1 day"]}, ValueError, r"times must be numbers of seconds; got \['1 day'\]"),
        ({"y": jnp.zeros(7)}, ValueError, "x and y must have as many examples; got x: 50, y: 7"),
        ({"y": None}, ValueError, r"y must be arrays \[n, ...\]; got None"),
        ({"x": jnp.full((50, 12), jnp.nan)}, ValueError, "x must be finite; got nan in 600 of 600 places"),
        ({"metric": "accuracy"}, TypeError, r"metric must be a function metric\(outputs, y\); got 'accuracy'"),
        ({"hardware": anajax.presets.standard_aimc}, TypeError, "hardware must be a Hardware; got <function standard"),
        ({"apply": lambda *args: None}, TypeError, r"apply must be from anajax\.nn\.split; got function"),
        ({"chips": 10**12}, ValueError, "too many combinations: .* GB, more than a quarter of the memory"),
    ],
)
def test_impossible_studies_are_refused_before_any_work(job, changes, error, message):
    with pytest.raises(error, match=message):
        chips.Study(**(job | changes))


def test_points_are_a_dimension_with_the_fields_as_coordinates(job):
    design = chips.points({"adc.bits": [4, 8], "output_noise.sigma": [0.0, 0.1]})
    found = chips.Study(**job, chips=3, sweep=design).run()
    assert found["accuracy"].dims == ("point", "chip", "time")
    np.testing.assert_array_equal(found["adc.bits"], [4, 8])
    one = chips.evaluate(**job, chips=3, sweep={"adc.bits": [8], "output_noise.sigma": [0.1]})
    np.testing.assert_array_equal(found["accuracy"][1], one["accuracy"][0, 0])


def test_results_say_where_they_come_from(job):
    attrs = chips.evaluate(**job, chips=2, seed=5).attrs
    assert attrs["seed"] == 5
    assert "PCM" in attrs["hardware"]
    assert "jax " in attrs["versions"]
    assert set(attrs) >= {"revision", "platform", "examples"}
    others = [chips.evaluate(**job | {"x": job["x"] + dx}, chips=2).attrs["x"] for dx in (0.0, 1e-6)]
    assert attrs["x"] == others[0] != others[1]


# -- devices and processes ---------------------------------------------------------------------------------------------


def in_new_process(code, out, devices=1, **environment):
    """Start a script that knows `study()`, and writes to the file `OUT`."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OUT": str(out)} | cache | environment,
    )


def written(process, out):
    error = process.communicate(timeout=250)[1]
    assert process.returncode == 0, error
    return np.load(out)


PREAMBLE = """
import os

import jax, jax.numpy as jnp, numpy as np
from flax import nnx
import anajax
from anajax import chips, nn

def outputs(out, y):
    return jnp.sum(out * y)

def study(n=20):
    hw = anajax.presets.standard_aimc()
    apply, params, hw, _ = nn.split(nn.Linear(12, 4, hardware=hw, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(1), (50, 12))
    return chips.Study(apply=apply, params=params, hardware=hw, x=x, y=x[:, :4], chips=n, times=[0.0, 86400.0],
                       sweep={"output_noise.sigma": [0.0, 0.04]}, metric=outputs)

def write(found):
    np.save(os.environ["OUT"], found["outputs"])

def draws(index):
    # all random numbers of chips, bit by bit, from a mesh of all devices of this process
    from anajax._random import read_normal
    from anajax.chips.running import mesh_of
    apply, params, hw = study().apply, study().params, study().hardware
    def one(i):
        made, read = chips.keys(0, i)
        scores = jax.tree.leaves((apply.program(made, params, hw), read_normal(read, (64,), jnp.float32)))
        return jnp.concatenate([jax.lax.bitcast_convert_type(a, jnp.uint32).ravel() for a in scores])
    spread = jax.sharding.PartitionSpec("chips")
    each = jax.shard_map(lambda i: jax.lax.map(one, i), mesh=mesh_of(None), in_specs=spread, out_specs=spread)
    return np.asarray(jax.jit(each)(index))
"""


@pytest.mark.slow
def test_devices_and_processes_share_the_chips(tmp_path):
    """One device; eight, in chunks that do not divide; two processes: the same draws, outputs up to float rounding."""
    outs = [tmp_path / f"{k}.npy" for k in range(4)]
    one = in_new_process("write(study().run()); np.save(os.environ['OUT'] + '.bits', draws(np.arange(16)))", outs[0])
    wanted, bits = written(one, outs[0]), np.load(f"{outs[0]}.bits.npy")
    assert bits.shape == (16, 2 * 2 * 12 * 4 + 3 * 4 + 64)
    assert wanted.std(axis=1).min() > 0.1
    eight = """
    assert len(jax.devices()) == 8
    values = [study().run(chunk=chunk)["outputs"] for chunk in (1, 7, 20)]
    np.save(os.environ["OUT"], values)
    np.save(os.environ["OUT"] + ".bits", draws(np.arange(16)))
    """
    for found in written(in_new_process(eight, outs[1], devices=8), outs[1]):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(np.load(f"{outs[1]}.bits.npy"), bits)
    half = f"""
    jax.distributed.initialize("localhost:{20000 + os.getpid() % 20000}", 2, int(os.environ["RANK"]))
    assert jax.process_count() == 2
    write(study().run(chunk=7, folder={str(tmp_path / "kept")!r}))
    np.save(os.environ["OUT"] + ".bits", draws(8 * int(os.environ["RANK"]) + np.arange(8)))
    """
    both = [in_new_process(half, outs[2 + k], RANK=str(k)) for k in range(2)]
    for process, out in zip(both, outs[2:], strict=True):
        np.testing.assert_allclose(written(process, out), wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(np.concatenate([np.load(f"{out}.bits.npy") for out in outs[2:]]), bits)


def test_too_many_devices_are_refused(job):
    with pytest.raises(ValueError, match="devices must be from 1 to 1, as many as this process has; got 2"):
        running.mesh_of(2)
    with pytest.raises(ValueError, match="devices must name at least one; got none"):
        chips.evaluate(**job, chips=1, devices=[])


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_and_folders_change_nothing(job, chunk, tmp_path):
    study = chips.Study(**job, chips=20, times=[0.0, DAY], sweep={"output_noise.sigma": [0.0, 0.04]})
    whole = study.run()
    xr.testing.assert_identical(study.run(chunk=chunk, folder=tmp_path), whole)
    xr.testing.assert_identical(study.run(chunk=chunk, folder=tmp_path), whole)


def test_broken_chunks_are_found_and_computed_again(job, tmp_path, monkeypatch):
    study = chips.Study(**job, chips=12, times=[DAY])
    whole = study.run(chunk=3, folder=tmp_path)
    cut, spoiled, gone, *_ = files = sorted(tmp_path.glob("*.chunk"))
    assert len(files) == 4
    cut.write_bytes(cut.read_bytes()[:-5])
    body = bytearray(spoiled.read_bytes())
    body[-1] ^= 1
    spoiled.write_bytes(bytes(body))
    gone.unlink()
    calls, program = [], running.program

    def counting(*args):
        run = program(*args)
        return lambda hardware, index: calls.append(int(index[0])) or run(hardware, index)

    monkeypatch.setattr(running, "program", counting)
    xr.testing.assert_identical(study.run(chunk=3, folder=tmp_path), whole)
    assert calls == [0, 3, 6]


def test_a_study_goes_on_after_a_full_disk(job, tmp_path, monkeypatch):
    study, whole, synced = chips.Study(**job, chips=12), chips.evaluate(**job, chips=12), os.fsync
    with monkeypatch.context() as patch:
        room = iter([True] * 3)  # the description, and two chunks of four

        def full(file):
            if not next(room, False):
                raise OSError(errno.ENOSPC, "No space left on device")
            synced(file)

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            study.run(chunk=3, folder=tmp_path)
    assert sorted(p.name[-13:] for p in tmp_path.iterdir()) == ["0000000.chunk", "0000003.chunk", "study.json"]
    xr.testing.assert_identical(study.run(chunk=3, folder=tmp_path), whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"chips": 5}, "chips: 4 there, 5 here"),
        ({"sweep": {"adc.bits": [6]}}, r"sweep\.adc\.bits: None there, \[6\.0\] here"),
        ({"metric": lambda out, y: jnp.mean(out)}, "metric: accuracy there, <lambda> here"),
    ],
)
def test_another_study_does_not_go_on_in_a_folder(job, changes, message, tmp_path):
    chips.evaluate(**job, chips=4, chunk=2, folder=tmp_path)
    with pytest.raises(ValueError, match=f"holds another study .*{message}.*take a new folder"):
        chips.evaluate(**(job | {"chips": 4, "chunk": 2} | changes), folder=tmp_path)
    with pytest.raises(ValueError, match="was begun with chunk=2; go on with that"):
        chips.evaluate(**job, chips=4, chunk=3, folder=tmp_path)
    noisy = job["hardware"].replace(**{"output_noise.sigma": 0.5})
    with pytest.raises(ValueError, match=r"hardware\.output_noise\.sigma: 0\.03\d* there, 0\.5 here"):
        chips.evaluate(**(job | {"hardware": noisy}), chips=4, chunk=2, folder=tmp_path)


def named(f):
    f.__name__ = "score"
    return f


@pytest.mark.parametrize("make", [chips.random, chips.sobol, chips.latin_hypercube])
def test_designs_that_no_memory_holds_are_refused_before_they_are_made(make):
    with pytest.raises(ValueError, match="too many combinations: 20,000,000,000 numbers"):
        make({"a": (0, 1), "b": (0, 1)}, 10**10)
    with pytest.raises(ValueError, match="too many combinations"):
        chips.grid({str(k): range(10) for k in range(12)})


def test_fields_of_one_layer_of_many_are_swept(job):
    hw = {"self": job["hardware"]}
    layer = {path: [4.0, 8.0] for path in ("self.adc.bits",)}
    found = chips.evaluate(**(job | {"hardware": hw}), chips=3, sweep=layer)
    alone = chips.evaluate(**job, chips=3, sweep={"adc.bits": [4.0, 8.0]})
    np.testing.assert_array_equal(found["accuracy"].values, alone["accuracy"].values)
    with pytest.raises(TypeError, match=r"there is no 'other' of 'other\.adc\.bits'; there are self"):
        chips.evaluate(**(job | {"hardware": hw}), chips=3, sweep={"other.adc.bits": [4.0]})
    with pytest.raises(ValueError, match="must name a number of the hardware"):
        chips.evaluate(**job, chips=3, sweep={"device.program_curve.coefficients": [1.0]})


def test_what_a_study_computes_is_part_of_it():
    """Functions by what they do, not by name; statistics of the model; the session's precision."""
    x = jax.random.normal(jax.random.key(1), (20, 4))

    def program(activation=nnx.relu, metric=lambda out, y: jnp.mean(out > 0.5), mean=0.0):
        rngs = nnx.Rngs(0)
        norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        norm.mean.set_value(jnp.full(4, mean))
        layer = nn.Linear(4, 2, hardware=anajax.presets.standard_aimc(), rngs=rngs)
        apply, params, hw, _ = nn.split(nnx.Sequential(norm, activation, layer))
        study = chips.Study(apply=apply, params=params, hardware=hw, x=x, y=x, chips=2, metric=named(metric))
        return study.describe()["program"]

    same = program()
    assert same == program()
    others = [
        program(activation=nnx.elu),
        program(activation=lambda x: jnp.sin(x)),
        program(activation=lambda x: jnp.tanh(x)),
        program(metric=lambda out, y: jnp.mean(out > 0.9)),
        program(metric=lambda out, y: jnp.max(out > 0.5) * 1.0),
        program(mean=0.1),
    ]
    with jax.default_matmul_precision("highest"):
        others.append(program())
    assert len({same, *others}) == 8


def test_a_chunk_of_another_study_is_no_chunk(job, tmp_path):
    a, b = (chips.Study(**job, chips=4, seed=seed) for seed in (0, 1))
    a.run(folder=tmp_path / "a")
    whole = b.run(folder=tmp_path / "b")
    (chunk,) = (tmp_path / "a").glob("*.chunk")
    (tmp_path / "b" / chunk.name).write_bytes(chunk.read_bytes())
    xr.testing.assert_identical(b.run(folder=tmp_path / "b"), whole)


def test_metrics_that_are_no_numbers_are_refused(job):
    with pytest.raises(ValueError, match=r"metric must return a scalar; got an array of shape \(50,\)"):
        chips.evaluate(**job, chips=2, metric=lambda out, y: out.max(axis=-1))


def test_a_folder_of_something_else_is_refused(job, tmp_path):
    (tmp_path / "thesis.tex").write_text("all that I have")
    with pytest.raises(ValueError, match=r"holds no study, but 'thesis\.tex'; take an empty one"):
        chips.evaluate(**job, chips=2, folder=tmp_path)
    with pytest.raises(ValueError, match=r"folder must be a folder; .*thesis\.tex is a file"):
        chips.evaluate(**job, chips=2, folder=tmp_path / "thesis.tex")
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study\.json is not a study's description"):
        chips.evaluate(**job, chips=2, folder=tmp_path)


@pytest.mark.slow
def test_a_study_killed_ten_times_ends_to_the_bit(tmp_path):
    """SIGKILL at random moments; a new process goes on with what is whole."""
    folder, outs = tmp_path / "kept", [tmp_path / "resumed.npy", tmp_path / "whole.npy"]
    code = f"write(study(200).run(chunk=1, folder={str(folder)!r}))"

    def chunks():
        return {p.name: p.stat().st_mtime_ns for p in folder.glob("*.chunk")}

    draw = np.random.default_rng(0)
    for _ in range(10):
        more, deadline = len(chunks()) + draw.integers(1, 25), time.monotonic() + 100
        process = in_new_process(code, outs[0])
        while len(chunks()) < more and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = chunks()
    assert 10 <= len(done) < 400
    resumed = written(in_new_process(code, outs[0]), outs[0])
    assert {name: chunks()[name] for name in done} == done  # nothing whole was computed again
    np.testing.assert_array_equal(resumed, written(in_new_process("write(study(200).run())", outs[1]), outs[1]))
