import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax._record import record
from anajax.devices import (
    ConstantStep,
    Leak,
    OneSidedPair,
    ReferencePair,
    Significance,
    SoftBounds,
    Vector,
    presets,
)
from anajax.testing import check_moments

uS = 1e-6
UNIT = {"g_min": 0.0, "g_max": 2 * uS}  # a state of x stands for 1 uS (1 + x)


def states(compound, cells, **x):
    """The cells with the states of single-device parts set, by dotted name."""
    for path, value in x.items():
        device, chain, c = compound, [], cells
        for name in path.split("__"):
            chain.append((c, name))
            device, c = device.parts()[name][0], c.parts[name]
        c = device.at(c, value)
        for parent, name in reversed(chain):
            c = parent.replace(parts=parent.parts | {name: c})
        cells = c
    return cells


def test_visible_weight_of_two_significances():
    """gamma (a - b) + (c - d), a = 0.47, b = 0.21, c = 0.64, d = 0.12, gamma = 0.1."""
    pair = ReferencePair(device=ConstantStep(**UNIT))
    cell = Significance(high=pair, low=pair, factor=0.1)
    cells = cell.fabricate(None, (1,))
    cells = states(cell, cells, high__device=0.47, high__reference=0.21, low__device=0.64, low__reference=0.12)
    np.testing.assert_allclose(cell.conductance(cells) / uS, 0.1 * 0.26 + 0.52, rtol=1e-5)


@pytest.mark.parametrize(("rest", "wanted"), [(0.3, 0.055666), (-0.3, 0.161812)])
def test_decay_of_four_devices(rest, wanted):
    """Two steps of decay by 0.95, 0.28, 0.33, 0.12 towards the rest level: x <- (x - rest) s**2 + rest."""
    total = 0.0
    for x, scale, weight in ((0.47, 0.95, 0.1), (0.21, 0.28, -0.1), (0.64, 0.33, 1.0), (0.12, 0.12, -1.0)):
        device = ConstantStep(rest=rest, leak=Leak(lifetime=-1 / np.log(scale)))
        cells = device.wait(None, device.at(device.fabricate(None, (1,)), x), 2.0)
        total += weight * float(device.state(cells)[0])
    np.testing.assert_allclose(total, wanted, atol=1e-6)


# -- vector ----------------------------------------------------------------------------------------------------


def hits(policy, key, calls=6, n=3):
    """How many pulses each device had after `calls` calls of one pulse."""
    cell = Vector(device=ConstantStep(dx=0.01), n=n, policy=policy)
    cells = cell.fabricate(None, (2,))
    for k in range(calls):
        cells = cell.pulse(None if key is None else jax.random.fold_in(key, k), cells, jnp.asarray(1.0))
    return [round(float(cell.device.state(cells.parts[str(i)])[0]) / 0.01) for i in range(n)]


def test_vector_policies(key):
    assert hits("all", None) == [6, 6, 6]
    assert hits("fixed", None) == [6, 0, 0]
    assert hits("sequential", None) == [2, 2, 2]
    many = hits("random", key, calls=60)
    assert sum(many) == 60
    assert min(many) > 5  # each of 3 has 20 +- 3.7: odds below 1e-4


def test_vector_is_the_weighted_sum():
    cell = Vector(device=SoftBounds(**UNIT), n=2, weights=[1.0, 0.25])
    cells = states(cell, cell.fabricate(None, (1,)), **{"0": 0.5, "1": -0.2})
    np.testing.assert_allclose(cell.conductance(cells) / uS, 1.5 + 0.25 * 0.8, rtol=1e-5)
    np.testing.assert_allclose([cell.g_min, cell.g_max], [0.0, 2.5 * uS], rtol=1e-6)
    wanted = jnp.asarray([1.3 * uS])
    np.testing.assert_allclose(cell.conductance(cell.program(None, cells, wanted)), wanted, rtol=1e-5)


def test_spread_of_a_vector_averages_out(key):
    """Steps of n devices average: the relative spread of one pulse falls as 1 / sqrt(n)."""
    one = ConstantStep(dx=0.01, dx_d2d=0.2, **UNIT)
    cell = Vector(device=one, n=4)
    cells = cell.fabricate(key, (20_000,))
    moved = cell.conductance(cell.pulse(None, cells, jnp.asarray(1.0))) - cell.conductance(cells)
    check_moments(moved / uS, 0.01, 0.01 * 0.2 / 2, rounding=2e-6)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"n": 0}, ("Vector.n", "got 0")),
        ({"weights": [1.0]}, ("Vector.weights", "(2,)", "(1,)")),
        ({"policy": "both"}, ("Vector.policy", "'both'", "'sequential'")),
    ],
)
def test_vector_refuses(change, parts):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the message is what is tested)
        Vector(**{"device": ConstantStep()} | change)
    assert all(part in str(error.value) for part in parts)


# -- pairs -----------------------------------------------------------------------------------------------------


def test_pulses_leave_the_reference_alone(key):
    cell = ReferencePair(device=presets.rram_sb())
    cells = cell.fabricate(key, (50,))
    after = cell.pulse(key, cells, jnp.full(50, 7.0))
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool((a == b).all()), after.parts["reference"], cells.parts["reference"])
    )
    assert float(jnp.abs(cell.conductance(after) - cell.conductance(cells)).min()) > 0


def test_zero_shifting_reads_zero_at_the_symmetry_point(key):
    device = SoftBounds(dx=0.01, up_down_d2d=0.2, x_max_d2d=0.2, x_min_d2d=0.2)
    cell = ReferencePair(device=device, reference=device.replace(up_down_d2d=None, x_max_d2d=None, x_min_d2d=None))
    cells = cell.zero(None, cell.fabricate(key, (40,)))
    for _ in range(900):
        cells = cell.pulse(None, cell.pulse(None, cells, jnp.asarray(1.0)), jnp.asarray(-1.0))
    # between the two pulses of a pair the state is half a step off
    assert float(jnp.abs(cell.conductance(cells)).max()) < 0.01 * float(device.window)


def raises_only(cell, key):
    """Pulses of either sign raise one of the two, never lower one."""
    cells = cell.fabricate(key, (200,))
    for sign in (10.0, -10.0):  # away from the lower bound
        cells = OneSidedPair.pulse(OneSidedPair(device=cell.device), None, cells, jnp.asarray(sign))
    counts = jnp.where(jnp.arange(200) % 2 == 0, 3.0, -3.0)
    after = cell.pulse(None, cells, counts)
    for name, sign in (("plus", 1), ("minus", -1)):
        moved = np.asarray(cell.device.conductance(after.parts[name]) - cell.device.conductance(cells.parts[name]))
        assert (moved[counts * sign > 0] > 0).all()
        assert (moved[counts * sign < 0] == 0).all()


@record
class BothWays(OneSidedPair):
    def route(self, key, cells, counts):
        return {"plus": counts / 2, "minus": -counts / 2}


def test_one_sided_pairs_only_rise(key):
    raises_only(presets.pcm_pair(), key)
    raises_only(presets.pcm_set_pair(), key)
    with pytest.raises(AssertionError):
        raises_only(BothWays(device=presets.pcm_exp()), key)


def test_refresh_triggers_at_its_thresholds():
    """Larger above 0.75 and smaller above 0.25 of the window, each at 1 uS (1 + x) of 2 uS: x > 0.5 and x > -0.5."""
    cell = OneSidedPair(device=ConstantStep(**UNIT, rest=-1.0))
    plus, minus = jnp.asarray([0.51, 0.49, 0.51, -0.4, 0.6]), jnp.asarray([-0.49, -0.4, -0.51, 0.6, 0.8])
    cells = states(cell, cell.fabricate(None, (5,)), plus=plus, minus=minus)
    np.testing.assert_array_equal(cell.full(cells), [True, False, False, True, True])
    after = cell.refresh(None, cells)
    np.testing.assert_allclose(cell.conductance(after), cell.conductance(cells), atol=1e-12)
    np.testing.assert_allclose(after.parts["plus"].state["x"], [0.0, 0.49, 0.51, -1.0, -1.0], atol=1e-5)
    np.testing.assert_allclose(after.parts["minus"].state["x"], [-1.0, -0.4, -0.51, 0.0, -0.8], atol=1e-5)


def test_refresh_conserves_the_difference_of_noisy_pairs(key):
    """Within the write noise of one device and the spread of its reset, an update granularity."""
    device = presets.pcm_exp()
    cell = OneSidedPair(device=device)
    made, up, down, again = jax.random.split(key, 4)
    cells = cell.pulse(up, cell.fabricate(made, (500,)), jnp.full(500, 60.0))
    cells = cell.pulse(down, cells, jnp.full(500, -40.0))
    due = cell.full(cells)
    assert 0.1 < float(due.mean()) < 1
    after = cell.refresh(again, cells)
    moved = jnp.abs(cell.conductance(after) - cell.conductance(cells))
    assert float(moved[~due].max()) == 0
    assert float(moved.max()) < float(device.step(cells.parts["plus"], 1.0).mean() * device.window / 2)
    assert not cell.full(after)[due].any()


def test_programming_pairs_reaches_both_signs(key):
    cell = presets.pcm_set_pair()
    wanted = jnp.linspace(-11.5, 11.5, 9) * uS
    cells = cell.program(key, cell.fabricate(key, (9,)), wanted)
    np.testing.assert_allclose(cell.conductance(cells), wanted, atol=1e-12)
    np.testing.assert_allclose([cell.g_min, cell.g_max], [-12 * uS, 12 * uS], rtol=1e-6)
    read = cell.read(key, cells)
    assert float(read[0]) < 0 < float(read[-1])


# -- 2 PCM + 3T1C ----------------------------------------------------------------------------------------------


def trained(key, mismatch, invert, transfers=4, n=4000):
    """Spread [uS] of cells that had as many pulses up as down between transfers, with the last one done."""
    cell = presets.pcm_3t1c(mismatch=mismatch, invert=invert)

    @jax.jit
    def interval(key, cells):
        for k in range(4):
            cells = cell.pulse(jax.random.fold_in(key, k), cells, jnp.asarray(5.0 if k % 2 == 0 else -5.0))
        return cell.transfer(jax.random.fold_in(key, 9), cells)

    cells = cell.fabricate(key, (n,))
    for k in range(transfers):
        cells = interval(jax.random.fold_in(key, k), cells)
    return float(jnp.std(cell.conductance(cells))) / uS


@pytest.mark.slow
def test_polarity_inversion_cancels_mismatch(key):
    plain, inverted, ideal = trained(key, 0.3, False), trained(key, 0.3, True), trained(key, 0.0, True)
    assert plain > 3 * inverted
    assert inverted < 3 * ideal


def test_transfer_is_closed_loop(key):
    """What the high pair misses by its programming noise, the low cell holds: only the read noise is left."""
    cell = presets.pcm_3t1c(mismatch=0.0)
    cell = cell.replace(**{"high.device.program_curve": presets.pcm().program_curve, "high.device.read_curve": None})
    cells = cell.pulse(key, cell.fabricate(key, (500,)), jnp.linspace(-12, 12, 500))
    after = cell.transfer(key, cells)
    np.testing.assert_allclose(cell.conductance(after), cell.conductance(cells), atol=0.02 * uS)
    high = cell.high.conductance(after.parts["high"])
    assert float(jnp.std(3 * high - cell.conductance(cells))) > 0.3 * uS  # the noise is there
    np.testing.assert_array_equal(after.state["polarity"], -1.0)
    kept = cell.transfer(key, cells, where=jnp.arange(500) < 250)
    np.testing.assert_array_equal(kept.state["polarity"], jnp.where(jnp.arange(500) < 250, -1.0, 1.0))
    np.testing.assert_allclose(cell.conductance(kept)[250:], cell.conductance(cells)[250:], rtol=1e-6)


def test_inverted_cells_still_move_where_they_are_sent(key):
    cell = presets.pcm_3t1c(mismatch=0.0)
    cells = cell.transfer(None, cell.fabricate(None, (3,)))
    moved = cell.conductance(cell.pulse(None, cells, jnp.asarray([4.0, -4.0, 0.0]))) - cell.conductance(cells)
    assert float(moved[0]) > 0 > float(moved[1])
    assert float(moved[2]) == 0


def test_the_capacitor_leaks_and_the_pair_stays():
    cell = presets.pcm_3t1c(lifetime=1e-3, mismatch=0.0)
    cells = cell.transfer(None, cell.pulse(None, cell.fabricate(None, (1,)), jnp.asarray(10.0)))
    pulsed = cell.pulse(None, cells, jnp.asarray(5.0))
    low = cell.low.conductance(pulsed.parts["low"])
    later = cell.wait(None, pulsed, 2e-3)
    np.testing.assert_allclose(cell.low.conductance(later.parts["low"]), low * np.exp(-2), rtol=1e-4)
    np.testing.assert_allclose(
        later.parts["high"].parts["plus"].state["g"], pulsed.parts["high"].parts["plus"].state["g"], rtol=1e-6
    )


@pytest.mark.slow
def test_compounds_nest_and_map(key):
    three = Significance(high=presets.pcm_3t1c(), low=ReferencePair(device=presets.capacitor()), factor=4.0)
    keys = jax.random.split(key, 3)

    def run(key):
        cells = three.pulse(key, three.fabricate(key, (4,)), jnp.asarray([3.0, -3.0, 0.0, 8.0]))
        return three.read(key, three.transfer(key, cells))

    chips = jax.vmap(run)(keys)
    for chip, k in zip(chips, keys, strict=True):
        np.testing.assert_allclose(chip, run(k), atol=1e-4 * uS)


def test_cells_of_another_device_are_refused():
    with pytest.raises(ValueError, match="make them with the compound's fabricate"):
        presets.pcm_pair().conductance(presets.pcm_exp().fabricate(None, (2,)))
    with pytest.raises(NotImplementedError, match="symmetry_point"):
        ReferencePair(device=presets.pcm_set()).zero(
            None, ReferencePair(device=presets.pcm_set()).fabricate(None, (2,))
        )
