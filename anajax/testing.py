"""Checks for your own devices and layers: distributions, gradients, and the contract of a device.

Each check raises `AssertionError` with the numbers at hand, and returns what it measured. Statistical checks
state how rarely they reject what is right; with a fixed key they either always pass or always fail.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax.devices import Cells, Device

TIMES = (0.0, 1e-9, 1.0, 1e3, 1e9)  # s: from before the first read to thirty years


def check_moments(
    samples: ArrayLike, mean: float, std: float, *, z: float = 4.5, rounding: float = 0.0, name: str = "samples"
) -> tuple[float, float]:
    """Check the mean and the standard deviation of independent samples by z-tests.

    The standard errors come from `std` and from the samples' own fourth moment, so that any distribution
    will do. At z = 4.5 a right distribution fails with odds of 7e-6 for each of the two tests.

    Args:
      samples: independent draws, any shape.
      mean: expected mean, in the unit of the samples.
      std: expected standard deviation, in the same unit.
      z: largest distance allowed, in standard errors.
      rounding: half a unit of the last printed digit of `mean` and `std`, allowed on top.
      name: what to call the samples in the error.

    Returns:
      The mean and the standard deviation found.

    Example:
      >>> import jax
      >>> found = check_moments(jax.random.normal(jax.random.key(0), (10_000,)), mean=0.0, std=1.0)
    """
    x = np.asarray(samples, np.float64).ravel()
    m, s = x.mean(), x.std(ddof=1)
    fourth = np.mean((x - m) ** 4)
    for what, found, wanted, error in (
        ("mean", m, mean, std / math.sqrt(x.size)),
        ("std", s, std, math.sqrt(max(fourth - s**4, 0.0) / x.size) / (2 * max(s, 1e-300))),
    ):
        assert abs(found - wanted) <= z * error + rounding, (
            f"{name}: the {what} of {x.size} samples must be {wanted:.6g} within {z:g} standard errors of"
            f" {error:.2g}; got {found:.6g}"
        )
    return float(m), float(s)


def check_distribution(
    samples: ArrayLike, cdf: Callable[[Array], Array], *, odds: float = 1e-5, name: str = "samples"
) -> float:
    """Check the whole distribution of independent samples by the Kolmogorov-Smirnov test.

    Args:
      samples: independent draws, any shape; at least about 50.
      cdf: the expected cumulative distribution, elementwise, such as `jax.scipy.stats.norm.cdf`.
      odds: probability of rejecting a right distribution.
      name: what to call the samples in the error.

    Returns:
      The p-value, from the asymptotic distribution of the statistic.

    Example:
      >>> import jax
      >>> p = check_distribution(jax.random.normal(jax.random.key(0), (1000,)), jax.scipy.stats.norm.cdf)
    """
    x = np.sort(np.asarray(samples, np.float64).ravel())
    n = x.size
    f = np.asarray(cdf(jnp.asarray(x)), np.float64)
    steps = np.arange(n + 1) / n
    distance = max(np.max(steps[1:] - f), np.max(f - steps[:-1]))
    root = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    series = sum((-1) ** (k - 1) * math.exp(-2.0 * (k * root) ** 2) for k in range(1, 101))
    p = min(1.0, 2 * series) if root > 0.2 else 1.0
    assert p >= odds, f"{name}: the largest distance of {n} samples to the distribution is {distance:.4g}, p = {p:.2g}"
    return p


def check_gradients(
    f: Callable[..., Any], *args: Any, step: float = 1e-6, tolerance: float = 1e-5, directions: int = 3
) -> dict[str, float]:
    """Check `jax.grad` of `f` against central differences in float64, for every float leaf of every argument.

    The output, any pytree of arrays, is contracted with fixed random numbers. Leaves of up to eight elements
    are moved element by element, larger ones along random directions: by `step` relative to the value, or
    to the largest of the leaf where an element is zero, or to 1 in a leaf of zeros (give fields in SI units
    an interior value). Random keys stay as they are. At a kink of `f` no two derivatives need agree.

    Args:
      f: function of `args`, called under `jax.jit` with float64 leaves; the error names leaves that differ.
      *args: pytrees, such as a `Hardware`, an array, a number.
      step: relative step.
      tolerance: largest difference, relative to the mean magnitude of the two derivatives.
      directions: how many directions a large leaf is moved along.

    Returns:
      For each leaf the largest magnitude of its derivatives, per relative change, by position of the argument
      and path within it, such as `"0.device.nu_scale"`. Look for zeros that should not be.

    Example:
      >>> slopes = check_gradients(lambda x, a: a * x**2, 3.0, 2.0)
      >>> {name: round(slope / slopes["1"], 6) for name, slope in slopes.items()}
      {'0': 2.0, '1': 1.0}
    """
    with jax.enable_x64(True):
        with_paths, treedef = jax.tree_util.tree_flatten_with_path(args)
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in with_paths]
        leaves = [_double(leaf) for _, leaf in with_paths]
        floats = {i: x for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)}
        rng = np.random.default_rng(0)

        def scalar(moved: dict[int, Array]) -> tuple[Array, Array]:
            full = [moved.get(i, x) for i, x in enumerate(leaves)]
            y = jnp.concatenate([y.ravel() for y in jax.tree.leaves(f(*jax.tree.unflatten(treedef, full)))])
            terms = y * np.random.default_rng(1).normal(size=y.shape)
            return jnp.sum(terms), jnp.sum(jnp.abs(terms))

        run = jax.jit(jax.value_and_grad(scalar, has_aux=True))
        (_, size), grads = run(floats)
        floor = 1e-15 / step * float(size)  # rounding of the output over the step: what cannot be seen
        found, wrong = {}, []
        for i, x in floats.items():
            unit = np.where(x == 0, np.max(np.abs(x), initial=0.0) or 1.0, x)
            one_by_one = np.eye(x.size).reshape(x.size, *x.shape)
            ways = one_by_one if x.size <= 8 else rng.normal(size=(directions, *x.shape))
            found[names[i]] = 0.0
            for move in ways * unit:
                (ahead, _), _ = run({**floats, i: x + step * move})
                (behind, _), _ = run({**floats, i: x - step * move})
                numeric, exact = (
                    float(ahead - behind) / (2 * step),
                    float(np.sum(np.asarray(grads[i]) * move)),
                )
                found[names[i]] = max(found[names[i]], abs(exact))
                if not abs(exact - numeric) <= tolerance * (abs(exact) + abs(numeric)) / 2 + floor:
                    wrong.append(f"{names[i]}: grad {exact:.8g}, difference {numeric:.8g} +- {floor:.1g}")
        assert not wrong, "derivatives, per relative change, differ:\n  " + "\n  ".join(wrong)
        return found


def has(device: Device, method: str) -> bool:
    """Return whether `device` implements `method` of the contract."""
    return getattr(type(device), method) is not getattr(Device, method)


def check_device(device: Device, key: Array) -> None:
    """Run every check of `device_checks` on a `device` that can be programmed and read, its cells made from `key`.

    Example:
      >>> import jax
      >>> from anajax import devices
      >>> check_device(devices.Ideal(), jax.random.key(0))
    """
    for check in device_checks.values():
        check(device, key)


def _cells(device: Device, key: Array | None, shape: tuple[int, ...] = (3, 5)) -> Cells:
    made, programmed = (None, None) if key is None else jax.random.split(key)
    u = jnp.linspace(0.0, 1.0, math.prod(shape)).reshape(shape)
    return device.program(programmed, device.fabricate(made, shape), device.g_min + (device.g_max - device.g_min) * u)


def _seen(device: Device, cells: Cells, time: Array | float) -> dict[str, Array]:
    methods = [m for m in ("conductance", "read_noise") if has(device, m)]
    return {m: getattr(device, m)(cells, time) for m in methods}


# one program in the place of many small ones; that compiling changes nothing is a check of its own
_made = jax.jit(_cells, static_argnames="shape")
_look = jax.jit(_seen)


@jax.jit
def _pulse(device: Device, key: Array | None, cells: Cells, counts: Array) -> Cells:
    return device.pulse(key, cells, counts)


def _same(a: Any, b: Any, relative: float = 0.0, absolute: float = 0.0) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, relative, absolute), a, b)


def _close(a: Any, b: Any, device: Device) -> None:
    _same(a, b, 1e-4, 5e-5 * float(device.g_max))  # a square root near zero keeps half of float32's digits


def _scored(cells: Cells, f: Callable[[Array], Array]) -> Cells:
    """Return the cells, and those of their parts, with `f` of their scores."""
    parts = {name: _scored(part, f) for name, part in (cells.parts or {}).items()}
    return cells.replace(scores={name: f(x) for name, x in cells.scores.items()}, parts=parts or None)


def _mean_cell(device: Device, key: Array) -> None:
    """Without a key, a cell is the one whose scores are all zero."""
    none, zero = _made(device, None), _scored(_made(device, key), jnp.zeros_like)
    for time in TIMES:
        _same(_look(device, none, time), _look(device, zero, time), 1e-6, 1e-15)


def _same_key(device: Device, key: Array) -> None:
    """Draw the same bits from the same key."""
    _same(_cells(device, key), _cells(device, key))


def _jit(device: Device, key: Array) -> None:
    """Compiled and not, results agree."""
    cells = _cells(device, key)
    for time in TIMES:
        _close(_look(device, cells, time), _seen(device, cells, time), device)


def _vmap(device: Device, key: Array) -> None:
    """Chips made by `vmap` are those made one by one."""
    keys = jax.random.split(key, 3)
    chips = jax.vmap(lambda k: _seen(device, _cells(device, k), 100.0))(keys)
    for i, k in enumerate(keys):
        _close({name: x[i] for name, x in chips.items()}, _seen(device, _cells(device, k), 100.0), device)


def _physical(device: Device, key: Array) -> None:
    """Conductances and spreads are finite, shaped like the cells, and not negative but where cells are subtracted."""
    for cells, shape in ((_made(device, key, (20, 30)), (20, 30)), (_made(device, None), (3, 5))):
        for time in TIMES:
            for name, x in _look(device, cells, time).items():
                assert x.shape == shape, f"{name} has shape {x.shape}, the cells {shape}"
                signed = name == "conductance" and float(device.g_min) < 0
                good = np.isfinite(x) & ((np.asarray(x) >= 0) | signed)
                assert good.all(), f"{name} at {time:g} s must be finite and >= 0; got {np.asarray(x)[~good][0]}"


def _pytree(device: Device, key: Array) -> None:
    """Taken apart and put together, a device is the same, and its leaves are floats."""
    leaves, treedef = jax.tree.flatten(device)
    again = jax.tree.unflatten(treedef, leaves)
    assert jax.tree.structure(again) == treedef, f"{treedef} became {jax.tree.structure(again)}"
    assert all(jnp.issubdtype(x.dtype, jnp.floating) for x in leaves), f"not all floats: {device!r}"
    _same(_look(again, _made(again, key), 10.0), _look(device, _made(device, key), 10.0))


def _inside(device: Device) -> Device:
    """Return the device with a lower end of its window where derivatives exist: not at zero."""
    own = {f.name: getattr(device, f.name) for f in dataclasses.fields(device)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {name: _inside(part) for name, part in own.items() if isinstance(part, Device)}
    if "x_min" in own:
        changes["x_min"] = jnp.minimum(own["x_min"], -0.05 * own["x_max"])
    if "g_min" in own:
        changes["g_min"] = jnp.maximum(device.g_min, 0.03 * device.g_max)
    return device.replace(**changes)


def _four(device: Device, key: Array) -> Cells:
    """Return four virgin cells with scores away from zero and from each other."""
    made, programmed = jax.random.split(key)
    count = itertools.count()
    cells = device.program(programmed, device.fabricate(made, (4,)), jnp.full(4, device.g_max))
    virgin = device.fabricate(made, (4,))
    spread = jnp.asarray([0.31, -0.62, 0.87, -0.23])

    def draw(x: Array) -> Array:
        return spread * (1 - 0.4 * next(count))

    scores = _scored(cells, draw)
    return _with_scores(virgin, scores)


def _with_scores(cells: Cells, scored: Cells) -> Cells:
    parts = {name: _with_scores(part, (scored.parts or {})[name]) for name, part in (cells.parts or {}).items()}
    return cells.replace(scores=scored.scores, parts=parts or None)


def _gradients(device: Device, key: Array) -> None:
    """Compare derivatives by every field, target, score and time with central differences."""
    device = _inside(device)
    unit, cells = float(device.g_max), _four(device, key)

    def seen(device: Device, share: Array, cells: Cells, time: Array) -> list[Array]:
        target = device.g_min + (device.g_max - device.g_min) * share
        return [x / unit for x in _seen(device, cells.aimed(target), time).values()]

    slopes = check_gradients(seen, device, jnp.asarray([0.13, 0.37, 0.61, 0.83]), cells, 1.3e5)
    assert slopes["1"] > 0, "conductance must depend on the target"


def _pulsed(device: Device, cells: Cells) -> bool:
    try:
        device.pulse(None, cells, jnp.zeros(()))
    except NotImplementedError:
        return False
    return True


def _pulses(device: Device, key: Array) -> None:
    """Without noise, n pulses in one call are n calls; the same key gives the same bits; results are finite."""
    cells = device.fabricate(key, (6,))
    if not _pulsed(device, cells):
        return
    counts = jnp.asarray([3.0, -2.0, 0.0, 1.0, 3.0, -3.0])
    at_once, one_by_one = _pulse(device, None, cells, counts), cells
    for k in range(3):
        one_by_one = _pulse(device, None, one_by_one, jnp.sign(counts) * (k < jnp.abs(counts)))
    _close(device.conductance(at_once), device.conductance(one_by_one), device)
    noisy = device.pulse(key, cells, counts)
    _same(noisy, device.pulse(key, cells, counts))
    _close(_pulse(device, key, cells, counts), noisy, device)
    far = _pulse(device, key, cells, jnp.asarray([300.0, -300.0, 40.0, -40.0, 7.0, -7.0]))
    assert np.isfinite(device.conductance(far)).all(), "pulses must lead to finite conductances"


def _pulse_gradients(device: Device, key: Array) -> None:
    """Compare derivatives of what pulses lead to, by every field, score and count, with central differences."""
    device = _inside(device)
    unit, cells = float(device.g_max), _four(device, key)
    if not _pulsed(device, cells):
        return
    cells = cells.aimed(device.g_min + (device.g_max - device.g_min) * jnp.asarray([0.4, 0.58, 0.55, 0.45]))

    def seen(device: Device, counts: Array, cells: Cells) -> Array:
        one, two, reading = jax.random.split(key, 3)
        after = device.pulse(two, device.pulse(one, cells, counts), -0.3 * counts)
        return device.read(reading, after, 10.0) / unit

    slopes = check_gradients(seen, device, jnp.asarray([3.3, -2.6, 2.7, -1.2]), cells)
    assert slopes["1"] > 0, "conductance must depend on the pulses"


#: The battery, by name: each takes a device and a key, and raises `AssertionError`.
device_checks: dict[str, Callable[[Device, Array], None]] = {
    check.__name__[1:]: check
    for check in (
        _mean_cell,
        _same_key,
        _jit,
        _vmap,
        _physical,
        _pytree,
        _gradients,
        _pulses,
        _pulse_gradients,
    )
}


def _double(x: Any) -> Any:
    """Return numbers as NumPy arrays of float64, and random keys as they are."""
    if jnp.issubdtype(getattr(x, "dtype", float), jnp.floating):
        return np.asarray(x, np.float64)
    return x
