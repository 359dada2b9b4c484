"""Yields with exact intervals, paired differences, rare failures, and sensitivities against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from scipy import stats

import anajax
from anajax import chips, nn

# -- intervals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("good", "n"), [(0, 10), (10, 10), (1, 7), (480, 500)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_intervals_are_those_of_scipy(good, n, confidence):
    wanted = stats.binomtest(good, n).proportion_ci(confidence, method="exact")
    np.testing.assert_allclose(chips.clopper_pearson(good, n, confidence), wanted, rtol=1e-9, atol=1e-12)


def test_intervals_hold_what_they_promise():
    drawn = np.random.default_rng(0).binomial(40, 0.93, 4000)
    low, high = chips.clopper_pearson(drawn, 40)
    assert np.mean((low <= 0.93) & (high >= 0.93)) > 0.95


@pytest.mark.parametrize(("expected", "half_width"), [(1.0, 0.005), (0.95, 0.02), (0.5, 0.05)])
def test_so_many_chips_are_enough(expected, half_width):
    n = chips.chips_needed(expected, half_width)
    widths = [np.subtract(*chips.clopper_pearson(round(expected * m), m)[::-1]) / 2 for m in (n, n // 2)]
    assert widths[0] <= half_width < widths[1]


def test_a_summary_has_the_yield_with_its_interval():
    values = np.r_[np.full(47, 0.97), np.full(3, 0.9)][:, None]
    study = xr.Dataset({"accuracy": (("chip", "time"), values)}, coords={"time": [1.0]})
    s = chips.summarise(study, threshold=0.95).isel(time=0)
    low, high = stats.binomtest(47, 50).proportion_ci(method="exact")
    np.testing.assert_allclose([s["yield"], s["yield_low"], s["yield_high"]], [0.94, low, high], rtol=1e-6)


def test_differences_are_paired():
    """Chips differ by 0.05, points by 0.01 on every chip: the difference is known a hundred times better."""
    draw = np.random.default_rng(0)
    chip = 0.9 + 0.05 * draw.standard_normal(50)
    noise = 0.0005 * draw.standard_normal((3, 50))
    values = chip + np.array([0.0, -0.01, 0.02])[:, None] + noise
    study = xr.Dataset({"accuracy": (("bits", "chip"), values)}, coords={"bits": [8, 6, 10]})
    found = chips.compare(study, "bits", 8)
    assert found["difference"].sel(bits=8) == found["ci"].sel(bits=8) == 0
    np.testing.assert_allclose(found["difference"].values[1:], [-0.01, 0.02], atol=2e-4)
    wanted = stats.ttest_rel(values[1], values[0]).confidence_interval(0.95)
    np.testing.assert_allclose(found["ci"].sel(bits=6), (wanted.high - wanted.low) / 2, rtol=1e-9)
    assert found["better"].sel(bits=10) == 1
    with pytest.raises(ValueError, match="baseline must be a value of 'bits', 8, 6, 10; got 7"):
        chips.compare(study, "bits", 7)
    with pytest.raises(ValueError, match="dim must be one of bits; got 'chip'"):
        chips.compare(study, "chip", 0)


def test_impossible_yields_are_refused():
    with pytest.raises(ValueError, match="good must be from 0 to n, and n at least 1; got 5 of 4"):
        chips.clopper_pearson(5, 4)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1; got 95"):
        chips.clopper_pearson(1, 4, 95)
    with pytest.raises(ValueError, match="expected must be from 0 to 1; got 2"):
        chips.chips_needed(2, 0.1)


# -- rare failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [2.0, 4.0, 6.0])
def test_a_linear_margin_fails_as_often_as_its_distance_says(distance, key):
    direction = jnp.asarray(np.random.default_rng(0).standard_normal(300))
    direction = direction / jnp.linalg.norm(direction)
    found = chips.rare(
        key,
        lambda z: distance - z["a"] @ direction[:200] - z["b"].ravel() @ direction[200:],
        {"a": jnp.zeros(200), "b": jnp.zeros((10, 10))},
        4000,
    )
    wanted = stats.norm.sf(distance)
    assert abs(found.probability - wanted) < 5 * found.std < 0.4 * wanted
    np.testing.assert_allclose(found.distance, distance, rtol=1e-4)


def test_a_curved_margin_fails_as_often_as_by_brute_force(key):
    """A product of five noisy gains that falls below a specification."""

    def margin(z):
        return jnp.prod(1 + 0.08 * z) - 0.62

    found = chips.rare(key, margin, jnp.zeros(5), 20_000)
    drawn = jax.random.normal(jax.random.fold_in(key, 1), (1_000_000, 5))
    failed = jnp.mean(jax.vmap(margin)(drawn) < 0)
    error = np.hypot(found.std, np.sqrt(failed / 1e6))
    assert abs(found.probability - failed) < 5 * error < 0.2 * failed
    assert found.effective > 1000


# -- sensitivity -------------------------------------------------------------------------------------------------------


def job():
    hw = anajax.presets.standard_aimc().replace(adc=None, dac=None)
    apply, params, hw, _ = nn.split(nn.Linear(12, 4, hardware=hw, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(1), (50, 12))
    exact = apply(params, anajax.Hardware(), x)

    def loss(hw, i):
        made, read = chips.keys(3, i)
        outputs = apply(params, hw, x, key=read, time=3600.0, chip=apply.program(made, params, hw))
        return jnp.mean((outputs - exact) ** 2)

    return loss, hw


def test_slopes_are_those_of_the_same_chips():
    loss, hw = job()
    found = chips.sensitivity(loss, hw, chips=20)
    mean = jax.jit(lambda hw: jax.lax.map(lambda i: loss(hw, i), jnp.arange(20)).mean())
    np.testing.assert_allclose(found.attrs["loss"], mean(hw), rtol=1e-4)
    for path in ("device.program_scale", "device.nu_scale", "output_noise.sigma"):
        value = float(anajax._record.get(hw, path))
        up, down = (mean(hw.replace(**{path: f * value})) for f in (1.03, 0.97))
        at = found.sel(field=path)
        np.testing.assert_allclose(at["value"], value, rtol=1e-6)
        np.testing.assert_allclose(at["elasticity"], (up - down) / 0.06, rtol=0.03)
        np.testing.assert_allclose(at["slope"] * value, at["elasticity"], rtol=1e-5)
    strengths = np.abs(found["elasticity"].values)
    assert (np.diff(strengths) <= 0).all()


def test_intervals_of_slopes_are_those_of_a_mean():
    found = chips.sensitivity(lambda h, i: h["a"] * jnp.asarray([1.0, 3.0, 5.0])[i], {"a": jnp.asarray(2.0)}, chips=3)
    low, high = stats.t.interval(0.95, 2, 3.0, 2 / np.sqrt(3))
    np.testing.assert_allclose([found["slope"][0], found["slope_ci"][0]], [3.0, (high - low) / 2], rtol=1e-5)
    np.testing.assert_allclose(found["elasticity"][0], 6.0)
    with pytest.raises(ValueError, match="chips must be an integer of at least 2; got 1"):
        chips.sensitivity(lambda h, i: h["a"], {"a": jnp.asarray(2.0)}, chips=1)


# -- one field at a time -----------------------------------------------------------------------------------------------


def raised(curves, chips_n=2000, spread=0.02):
    """Return a study of fields whose mean accuracy is `1 - curve(value)`, on chips that differ alike everywhere."""
    start = {name: values[0] for name, (values, _) in curves.items()}
    points = [start] + [start | {n: v} for n, (values, _) in curves.items() for v in values[1:]]
    chip = spread * np.random.default_rng(0).normal(size=chips_n)
    own = 0.001 * np.random.default_rng(1).normal(size=(len(points), chips_n))
    own -= own.mean(axis=1, keepdims=True)
    lost = np.array([sum(curves[n][1](v) for n, v in p.items()) for p in points])
    accuracy = 1 - lost[:, None] + chip - chip.mean() + own
    coords = {n: ("point", [p[n] for p in points]) for n in curves} | {"time": [0.0]}
    return xr.Dataset({"accuracy": (("point", "chip", "time"), accuracy[:, :, None])}, coords=coords)


def test_thresholds_are_where_the_mean_drops():
    curves = {
        "strong": (np.array([1.0, 2.0, 4.0, 8.0]), lambda v: 0.018 * np.log2(v)),  # straight in the logarithm
        "from nothing": (np.array([0.0, 0.5, 1.0]), lambda v: 0.036 * v),
        "mild": (np.array([1.0, 2.0]), lambda v: 0.001 * (v - 1)),
        "falling": (np.array([8.0, 7.0, 6.0]), lambda v: 0.0091 * (8 - v)),
    }
    found = chips.thresholds(raised(curves), 0.02, chance=0.1).sel(field=list(curves))
    # a drop of 2 % of 0.9 is one of 0.018
    np.testing.assert_allclose(found["threshold"], [2.0, 0.5, np.nan, 7 * (6 / 7) ** (89 / 91)], rtol=1e-6)
    np.testing.assert_allclose(found["factor"], [2.0, np.nan, np.nan, 0.7525], rtol=1e-3)
    np.testing.assert_allclose(found["largest"], [0.06, 0.04, 0.001 / 0.9, 0.0182 / 0.9], rtol=1e-6)
    seen = found.sel(field=["strong", "from nothing", "falling"])
    assert (seen["below"] <= seen["threshold"] + 1e-9).all()
    assert (seen["threshold"] <= seen["above"] + 1e-9).all()
    np.testing.assert_array_equal(found["above"] - found["below"] <= 2, [True, True, False, True])
    for name in ("strong", "from nothing", "falling"):
        one = found.sel(field=name)
        assert one["low"] < one["threshold"] < one["high"]
        # paired: the chips' own spread of 0.02 would make the intervals ten times as wide
        assert 0 < abs(float(one["high"] - one["low"])) < 0.02 * float(one["threshold"])
    order = chips.thresholds(raised(curves), 0.02, chance=0.1)["field"].values.tolist()
    assert order[:2] == ["falling", "strong"]


def test_one_time_of_several_can_be_chosen():
    study = raised({"a": (np.array([1.0, 2.0]), lambda v: 0.02 * v)})
    several = xr.concat([study, study.assign_coords(time=[1.0])], "time")
    xr.testing.assert_identical(chips.thresholds(several.isel(time=0)), chips.thresholds(study))
    with pytest.raises(ValueError, match="at one time"):
        chips.thresholds(several)


def test_one_at_a_time_is_a_study_and_wrong_ones_are_refused():
    hw = anajax.presets.standard_aimc()
    study = raised({"a": (np.array([1.0, 2.0]), lambda v: 0.01 * v)}, 3)
    with pytest.raises(ValueError, match="drop must be between 0 and 1; got 0"):
        chips.thresholds(study, 0.0)
    with pytest.raises(ValueError, match=r"chance must be below the value of the first point, 0\.99; got 1"):
        chips.thresholds(study, chance=1.0)
    with pytest.raises(ValueError, match="study must be of a design by one_at_a_time"):
        chips.thresholds(study.isel(point=0))
    with pytest.raises(ValueError, match="'adc' must be a number of the hardware"):
        chips.one_at_a_time(hw, {"adc": [1.0]})
    with pytest.raises(ValueError, match="fields must name at least one"):
        chips.one_at_a_time(hw, {})


def test_studies_that_thresholds_cannot_read_are_refused():
    both = raised({"a": (np.array([4.0, 2.0, 8.0]), lambda v: 0.01 * v)}, 3)
    with pytest.raises(ValueError, match="values of 'a' must lie on one side of the first, 4"):
        chips.thresholds(both)
    drawn = raised({"a": (np.array([1.0, 2.0]), lambda v: v / 9), "b": (np.array([1.0, 2.0]), lambda v: v / 9)}, 3)
    drawn["a"][2] = 2.0
    with pytest.raises(ValueError, match="several fields differ from the first point at once"):
        chips.thresholds(drawn)
    broken = raised({"a": (np.array([1.0, 2.0]), lambda v: 0.01 * v)}, 3)
    broken["accuracy"][1, 0] = np.nan
    with pytest.raises(ValueError, match="study must be finite; 1 of 6 values are not"):
        chips.thresholds(broken)


def test_chips_without_a_value_are_not_passed_over():
    study = xr.Dataset({"accuracy": (("chip", "time"), [[1.0], [np.nan], [3.0]])}, coords={"time": [1.0]})
    found = chips.summarise(study, threshold=0.5).isel(time=0)
    assert np.isnan([found["mean"], found["p05"], found["ci95"]]).all()
    assert float(found["yield"]) == pytest.approx(2 / 3)


def test_a_search_for_failures_that_misses_them_says_so(key):
    found = chips.rare(key, lambda z: 9.0 - jnp.round(z.sum()), jnp.zeros(10), 200)
    assert np.isnan(found.probability)
    assert found.margin == 9.0
    assert chips.rare(key, lambda z: -1.0 + 0.1 * z.sum(), jnp.zeros(10), 200).distance < 0


@pytest.mark.parametrize("margin", [-2.0, -5.0])
def test_failures_that_are_the_rule_are_counted(margin, key):
    """Where the mean chip fails, plain draws: within 5 standard errors, one false alarm in a million."""
    found = chips.rare(key, lambda z: margin - z.sum() / 10, jnp.zeros(100), 4000)
    wanted = stats.norm.cdf(-margin)
    assert abs(float(found.probability) - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / 4000) + 1e-3
    assert float(found.distance) == pytest.approx(margin, rel=1e-3)


def test_searches_of_nothing_are_refused(key):
    for name, value in (("n", 1), ("steps", 0), ("batch_size", 0), ("n", 1e4)):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least . *; got {value}"):
            chips.rare(key, lambda z: 1 - z.sum(), jnp.zeros(3), **{name: value})
