"""Pictures of devices: what one measures of cells, drawn from the functions that simulate them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anajax.devices import Cells, Device, StepResponse
from anajax.devices import _characteristics as characteristics
from anajax.devices.conduction import Conduction
from anajax.plot._axes import scaled, time_axis

if TYPE_CHECKING:
    from anajax.devices.memristor import Trace

_UP, _DOWN, _ONE = "C0", "C3", "0.3"
_READINGS = 100  # of one train of pulses
_ALTERNATING = 8000  # most pulses in search of a symmetry point
_SHARES = (0.2, 0.6, 1.0)  # of the window: targets
_DAY = 86400.0


# -- under pulses ------------------------------------------------------------------------------------------------


def pulse_response(
    device: Device,
    *,
    pulses: int | None = None,
    cycles: int = 1,
    cells: int = 200,
    seed: int = 0,
    axes: Axes | None = None,
) -> Figure:
    """Plot the conductance under trains of pulses up and down: the mean cell, the band of cells, one cell.

    Cells start where pulses down have led them; at zero where conductances are differences.

    Args:
      device: a device that takes pulses.
      pulses: how many in each train, or `None` for as many as lead the mean cell through.
      cycles: how many trains up and down.
      cells: cells of the band, from the 5th to the 95th percentile. It holds device-to-device and cycle-to-cycle
        variability and read noise.
      seed: of the cells and of their noise.
      axes: where to draw; `None` for a figure of its own.
    """
    axes = _own(axes)
    first, up, down = characteristics.trains(device)
    counts = np.tile(np.concatenate([_blocks(pulses or up), -_blocks(pulses or down)]), cycles)
    at = np.concatenate([[0], np.cumsum(np.abs(counts))])
    scale, unit = scaled(device.g_max, "S")
    mean = scale * characteristics.mean_train(device, np.concatenate([[-first], counts]))[1:]
    many = scale * _many(device, seed, cells, np.concatenate([[-first], counts]))[1:]
    low, high = np.percentile(many, [5, 95], axis=1)
    axes.fill_between(at, low, high, color=_UP, alpha=0.2, linewidth=0, label=f"5 to 95 % of {cells} cells")
    axes.plot(at, many[:, 0], color=_ONE, linewidth=0.7, label="one cell")
    axes.plot(at, mean, color=_UP, linewidth=2, label="mean cell")
    for turn in at[1:-1][np.diff(np.sign(counts)) != 0]:
        axes.axvline(turn, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(xlabel="pulses, up then down", ylabel=f"conductance ({unit})", xlim=(0, at[-1]))
    axes.legend(frameon=False, fontsize="small")
    return _figure(axes)


def steps(device: Device, *, cells: int = 200, seed: int = 0, axes: Axes | None = None) -> Figure:
    """Plot the mean change of the conductance by one pulse, up and down, against the conductance.

    Lines are the mean cell; bands go from the 5th to the 95th percentile of the cells that reach a conductance.
    Steps down have their sign reversed: where they cross those up is the symmetry point, which is marked.

    Args:
      device: a device that takes pulses.
      cells: cells of the band, which holds device-to-device variability.
      seed: of the cells.
      axes: where to draw; `None` for a figure of its own.
    """
    axes = _own(axes)
    targets = characteristics.grid(device)
    mean, many = _steps(device, None, 1), _steps(device, seed, cells)
    scale, unit = scaled(device.g_max, "S")
    fine, fine_unit = scaled(mean[0][0, characteristics.GRID // 2], "S")
    reach = []
    lines = (("up", _UP, 1.0), ("down, sign reversed", _DOWN, -1.0))
    for (label, color, sign), one, all_ in zip(lines, mean, many, strict=True):
        line, band = fine * sign * one[0], fine * sign * all_
        there = np.mean(np.isfinite(band), axis=0) > 0.05
        low, high = np.nanpercentile(band[:, there], [5, 95], axis=0)
        axes.fill_between(scale * targets[there], low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(scale * targets, line, color=color, label=label)
        reach.append((min(0.0, low.min(), np.nanmin(line)), max(high.max(), np.nanmax(line))))
    if (balance := characteristics.symmetry(device)) is not None:
        size = fine * np.interp(balance, targets, mean[0][0])
        axes.plot(scale * balance, size, "ko", label=f"symmetry point, {scale * balance:.3g} {unit}")
    abrupt = characteristics.erases(device)  # such steps down leave the picture
    lowest, highest = reach[0] if abrupt else np.array(reach).T
    axes.set_ylim(1.2 * np.min(lowest), 1.3 * np.max(highest))
    axes.set(xlabel=f"conductance ({unit})", ylabel=f"change by one pulse ({fine_unit})")
    title, place = ("one pulse down erases", "center right") if abrupt else (None, "best")
    axes.legend(frameon=False, fontsize="small", title=title, title_fontsize="small", loc=place)
    return _figure(axes)


def symmetry(device: Device, *, axes: Axes | None = None) -> Figure:
    """Plot the mean cell under pulses that alternate up and down, from five starts to the symmetry point.

    Long trains are drawn as means of two conductances in turn, through the middle of the zigzag.

    Args:
      device: a device that takes pulses.
      axes: where to draw; `None` for a figure of its own.
    """
    axes = _own(axes)
    scale, unit = scaled(device.g_max, "S")
    g = scale * _alternating(device)
    apart = np.ptp(g, axis=1)
    together = np.flatnonzero(apart < 0.03 * apart[0])
    end = 4 + int(1.3 * together[0]) if together.size else len(g) if apart[-1] < 0.8 * apart[0] else 200
    if end > 300:
        g = (g[1:] + g[:-1]) / 2
    at = np.arange(len(g))[:end][:: max(1, end // 1000)]
    axes.plot(at, g[at], color=_UP, linewidth=1)
    if (balance := characteristics.symmetry(device)) is not None:
        axes.axhline(scale * balance, color="k", linestyle="--", label=f"symmetry point, {scale * balance:.3g} {unit}")
        axes.legend(frameon=False, fontsize="small")
    axes.set(xlabel="pulses, up and down in turn", ylabel=f"conductance ({unit})", xlim=(0, at[-1]))
    return _figure(axes)


def _alternating(device: Device) -> np.ndarray:
    """Return conductances [S] of five mean cells, led over the window, after 0, 1, ... alternating pulses."""
    first, up, _ = characteristics.trains(device)
    at = np.unique(np.round(np.linspace(0, up, 400)).astype(int))
    way = characteristics.mean_train(device, np.concatenate([[-first], np.diff(at)]))[1:]
    starts = at[[np.argmin(np.abs(way - x)) for x in np.linspace(way[0], way[-1], 5)]]
    if device.g_min < 0:  # virgin cells are at zero, and pulses lead both ways
        starts = np.array([-starts[4], -starts[2], 0, starts[2], starts[4]])
    turns = np.where(np.arange(_ALTERNATING) % 2, -1, 1)[:, None] * np.ones(5)
    return characteristics.mean_train(device, np.concatenate([np.full((1, 5), -first), starts[None], turns]))[2:]


def _blocks(pulses: int) -> np.ndarray:
    """Return numbers of pulses from one reading to the next."""
    at = np.unique(np.round(np.linspace(0, pulses, min(pulses, _READINGS) + 1)).astype(int))
    return np.diff(at)


def _many(device: Device, seed: int, cells: int, counts: np.ndarray) -> np.ndarray:
    """Return reads [S] of virgin cells, then after each of `counts` pulses; shape `[counts + 1, cells]`."""
    made, noisy = jax.random.split(jax.random.key(seed))
    return characteristics.train(device, noisy, device.fabricate(made, (cells,)), counts)


def _steps(device: Device, seed: int | None, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return changes [S] by a pulse up and one down, `[cells, grid]`; NaN for cells that cannot be there.

    Mean cells where `seed` is `None`.
    """
    made = None if seed is None else jax.random.split(jax.random.key(seed))[0]
    targets = characteristics.grid(device)
    aims = jnp.broadcast_to(jnp.asarray(targets), (cells, len(targets)))
    g, up, down = characteristics.steps(device, device.fabricate(made, (cells, 1)), aims)
    reached = np.abs(np.asarray(g) - targets) < 1e-3 * float(device.window)
    return np.where(reached, up, np.nan), np.where(reached, down, np.nan)


# -- in time -----------------------------------------------------------------------------------------------------


def programming_error(device: Device, *, axes: Axes | None = None) -> Figure:
    """Plot the standard deviation of the conductance after programming against its target.

    Args:
      device: a device with `programming_noise`.
      axes: where to draw; `None` for a figure of its own.
    """
    axes = _own(axes)
    targets = jnp.linspace(device.g_min, device.g_max, 101)
    _spread(axes, device, {"": device.programming_noise(targets)}, targets)
    axes.set_ylabel(f"programming spread {axes.get_ylabel()}")
    return _figure(axes)


def read_noise(device: Device, *, times: dict[str, float] | None = None, axes: Axes | None = None) -> Figure:
    """Plot the standard deviation of one read of mean cells against their target, at several times.

    Args:
      device: a device that can be programmed, with `read_noise`.
      times: label -> seconds since programming; by default 1 s, 1 day and 1 year.
      axes: where to draw; `None` for a figure of its own.
    """
    axes = _own(axes)
    targets = jnp.linspace(device.g_min, device.g_max, 101)
    cells = device.program(None, device.fabricate(None, targets.shape), targets)
    times = {"1 s": 1.0, "1 day": _DAY, "1 year": 365 * _DAY} if times is None else times
    _spread(axes, device, {label: device.read_noise(cells, t) for label, t in times.items()}, targets)
    axes.set_ylabel(f"standard deviation of one read {axes.get_ylabel()}")
    axes.legend(frameon=False, fontsize="small", title="after", title_fontsize="small")
    return _figure(axes)


def drift(device: Device, *, cells: int = 500, seed: int = 0, axes: Axes | None = None) -> Figure:
    """Plot the conductance of cells as they age, programmed to three targets: mean, 5th and 95th percentile.

    Args:
      device: a device that can be programmed.
      cells: cells of each target.
      seed: of the cells.
      axes: where to draw; `None` for a figure of its own.
    """
    axes = _own(axes)
    scale, unit = scaled(device.g_max, "S")
    times = np.logspace(0, np.log10(3.2e7), 40)
    for label, traces in _aged(device, cells, seed, times).items():
        (line,) = axes.plot(times, scale * traces.mean(axis=1), label=label)
        low, high = np.percentile(scale * traces, [5, 95], axis=1)
        axes.fill_between(times, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    axes.set(xlabel="time since programming", ylabel=f"conductance ({unit})")
    time_axis(axes, times)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))  # room for the legend
    axes.legend(frameon=False, fontsize="small", title="target", title_fontsize="small", ncols=3, loc="upper right")
    return _figure(axes)


def _spread(axes: Axes, device: Device, spreads: dict[str, Array], targets: Array) -> None:
    scale, unit = scaled(device.g_max, "S")
    fine, fine_unit = scaled(jnp.stack([*spreads.values()]), "S")
    for label, spread in spreads.items():
        axes.plot(scale * targets, fine * spread, label=label)
    axes.set(xlabel=f"target conductance ({unit})", ylabel=f"({fine_unit})")
    axes.set_ylim(bottom=0)


def _aged(device: Device, cells: int, seed: int, times: np.ndarray) -> dict[str, np.ndarray]:
    """Return conductances [S] of cells programmed to three targets, shape `[times, cells]`, by target."""
    scale, unit = scaled(device.g_max, "S")
    targets = device.g_min + device.window * jnp.asarray(_SHARES)
    aims = jnp.broadcast_to(targets[:, None], (len(_SHARES), cells))
    g = np.asarray(characteristics.aged(device, jax.random.key(seed), aims, jnp.asarray(times, float)))
    return {f"{scale * float(t):.3g} {unit}".replace("-", "−"): g[:, k] for k, t in enumerate(targets)}


# -- populations -------------------------------------------------------------------------------------------------


def population(device: Device, *, cells: int = 2000, seed: int = 0, axes: Sequence[Axes] | None = None) -> Figure:
    """Plot histograms over cells of what their scores make of them.

    Step-response devices that differ from cell to cell: bounds of the conductance, and steps at the middle of the
    window. Other devices under pulses: conductances after some of them. Programmed devices: conductances after
    programming to three targets, and a day later.

    Args:
      device: any device.
      cells: how many.
      seed: of the cells.
      axes: where to draw, as many as there are histograms; `None` for a figure of their own.
    """
    draws = _histograms(device)
    if axes is None:
        figure = Figure(figsize=(0.6 + 4.2 * len(draws), 3.6), layout="constrained")
        axes = list(figure.subplots(1, len(draws), squeeze=False)[0])
    for draw, one in zip(draws, axes, strict=True):
        draw(one, device, cells, seed)
        one.set_ylabel("cells")
        one.legend(frameon=False, fontsize="small")
    return _figure(axes[0])


def _histograms(device: Device) -> list[Callable[[Axes, Any, int, int], None]]:
    """Return what draws the histograms that a device has."""
    if not characteristics.is_pulsed(device):
        return [_programmed]
    if isinstance(device, StepResponse) and any(
        x is not None for x in (device.x_min_d2d, device.x_max_d2d, device.dx_d2d, device.up_down_d2d)
    ):
        return [_bounds, _sizes]
    return [_pulsed]


def _bounds(axes: Axes, device: StepResponse, cells: int, seed: int) -> None:
    made, _ = jax.random.split(jax.random.key(seed))
    low, high = _ends(device, device.fabricate(made, (cells,)))
    scale, unit = scaled(device.g_max, "S")
    _hist(axes, {"lowest": scale * low, "highest": scale * high}, (_DOWN, _UP))
    axes.set_xlabel(f"bounds ({unit})")


@jax.jit
def _ends(device: StepResponse, cells: Cells) -> list[Array]:
    cell = device.realise(cells)
    return [device.conductance(device.at(cells, cell[name])) for name in ("low", "high")]


def _sizes(axes: Axes, device: StepResponse, cells: int, seed: int) -> None:
    up, down = (x[:, characteristics.GRID // 2] for x in _steps(device, seed, cells))
    up, down = up[~np.isnan(up)], -down[~np.isnan(down)]
    fine, unit = scaled(np.percentile(np.concatenate([up, down]), 90), "S")
    _hist(axes, {"up": fine * up, "down": fine * down}, (_UP, _DOWN))
    axes.set_xlabel(f"step at mid-window ({unit})")


def _pulsed(axes: Axes, device: Device, cells: int, seed: int) -> None:
    first, up, _ = characteristics.trains(device)
    at = sorted({max(1, round(up * part)) for part in (0.1, 0.3, 1.0)})
    scale, unit = scaled(device.g_max, "S")
    g = scale * _many(device, seed, cells, np.array([-first, *np.diff([0, *at])]))[2:]
    _hist(axes, {f"{n} pulse{'s' * (n > 1)}": x for n, x in zip(at, g, strict=True)}, ("C0", "C1", "C2"))
    axes.set_xlabel(f"conductance after pulses up ({unit})")


def _programmed(axes: Axes, device: Device, cells: int, seed: int) -> None:
    scale, unit = scaled(device.g_max, "S")
    now_and_then = {label: scale * g for label, g in _aged(device, cells, seed, np.array([0.0, _DAY])).items()}
    bins = _bins(np.concatenate([g.ravel() for g in now_and_then.values()]), 60)
    for k, (label, (now, later)) in enumerate(now_and_then.items()):
        axes.hist(now, bins, color=f"C{k}", alpha=0.4, label=label)
        axes.hist(later, bins, color=f"C{k}", histtype="step", label=None if k else "a day later")
    axes.set_xlabel(f"conductance ({unit})")


def _hist(axes: Axes, values: dict[str, Any], colors: Sequence[str]) -> None:
    bins = _bins(np.concatenate([np.asarray(x) for x in values.values()]), 50)
    for (label, x), color in zip(values.items(), colors, strict=False):
        axes.hist(np.asarray(x), bins, color=color, alpha=0.5, label=label)


def _bins(x: np.ndarray, count: int) -> list[float]:
    """Return edges of bins over all but the ends of tails; around a single value where there is no more."""
    low, high = np.percentile(x, [0.5, 99.5])
    margin = max(0.05 * (high - low), 0.01 * abs(high))
    return np.linspace(low - margin, high + margin, count + 1).tolist()


# -- currents ----------------------------------------------------------------------------------------------------


def iv(
    law: Conduction, conductances: Sequence[float] = (2e-6, 10e-6, 25e-6), *, v_max: float = 0.5, cells: int = 200
) -> Figure:
    """Plot currents of a law of conduction against voltage, and how far they bend: the chord over that at half voltage.

    Args:
      law: a law of conduction.
      conductances: of the cells [S], one curve each.
      v_max: largest voltage, to both sides [V].
      cells: cells of the band, from the 5th to the 95th percentile, where the law has scores of cells.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    v = np.linspace(-v_max, v_max, 202)  # without zero, where there is no chord
    keys = jax.random.split(jax.random.key(0), max(len(law.life_scores), 1))
    scores = {n: jax.random.normal(k, (cells, 1)) for n, k in zip(law.life_scores, keys, strict=False)}
    scale, unit = scaled(conductances, "S")
    amps, amps_unit = scaled(law.current(max(conductances), v), "A")
    for g in conductances:
        for axes, f, size in ((left, law.current, amps), (right, law.nonlinearity, 1.0)):
            (line,) = axes.plot(v, size * f(g, v), label=f"{scale * g:.3g} {unit}")
            if scores:
                low, high = np.percentile(size * np.asarray(f(g, v, scores)), [5, 95], axis=0)
                axes.fill_between(v, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    left.set(xlabel="voltage (V)", ylabel=f"current ({amps_unit})")
    left.legend(frameon=False, fontsize="small")
    right.set(xlabel="voltage (V)", ylabel="chord over chord at half the voltage")
    return figure


def iv_loop(trace: Trace) -> Figure:
    """Plot the loop of current against voltage of simulated memristors, with its magnitude on a logarithmic axis.

    Args:
      trace: from `anajax.devices.memristor.simulate`; one line for each cell.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    v, i = np.asarray(trace.voltage), np.asarray(trace.current)
    i = i.reshape(len(v), -1)
    amps, unit = scaled(i, "A")
    left.plot(v, amps * i)
    right.semilogy(v, np.where(i == 0, np.nan, np.abs(amps * i)))
    right.set_ylim(bottom=1e-5 * amps * np.abs(i).max())
    left.set(xlabel="voltage (V)", ylabel=f"current ({unit})")
    right.set(xlabel="voltage (V)", ylabel=f"magnitude of the current ({unit})")
    return figure


# -- all of it ---------------------------------------------------------------------------------------------------


def overview(device: Device, *, cells: int = 500, seed: int = 0) -> Figure:
    """Plot what a device does, whatever it is.

    A device under pulses: its response, its steps, its way to the symmetry point (or its drift, where it has no such
    point), its population. Others: the programming spread, and cells as they age. What a device lacks is left out.

    Args:
      device: any device.
      cells: cells of each band.
      seed: of the cells.
    """
    if characteristics.is_pulsed(device):
        return _overview_pulsed(device, cells, seed)
    panels: list[Callable[[Axes], Any]] = []
    if _works(lambda: device.programming_noise(jnp.ones((1,)))):
        panels.append(lambda axes: programming_error(device, axes=axes))
    if _works(lambda: device.conductance(device.program(None, device.fabricate(None, (1,)), jnp.ones((1,))))):
        panels.append(lambda axes: drift(device, cells=cells, seed=seed, axes=axes))
    figure = Figure(figsize=(4.5 * max(len(panels), 1), 3.6), layout="constrained")
    for panel, axes in zip(panels, figure.subplots(1, max(len(panels), 1), squeeze=False)[0], strict=False):
        panel(axes)
    return figure


def _overview_pulsed(device: Device, cells: int, seed: int) -> Figure:
    figure = Figure(figsize=(9, 6.8), layout="constrained")
    histograms = ("left", "right") if len(_histograms(device)) == 2 else ("left", "left")
    panels = figure.subplot_mosaic([["response", "response", "steps", "steps"], ["third", "third", *histograms]])
    pulse_response(device, cells=cells, seed=seed, axes=panels["response"])
    steps(device, cells=cells, seed=seed, axes=panels["steps"])
    if characteristics.symmetry(device) is None and characteristics.ages(device):
        drift(device, cells=cells, seed=seed, axes=panels["third"])
    else:
        symmetry(device, axes=panels["third"])
    population(device, cells=cells, seed=seed, axes=[panels[name] for name in dict.fromkeys(histograms)])
    return figure


def _works(f: Callable[[], Any]) -> bool:
    try:
        jax.eval_shape(f)
    except NotImplementedError:
        return False
    return True


def _own(axes: Axes | None, size: tuple[float, float] = (4.8, 3.6)) -> Axes:
    return Figure(figsize=size, layout="constrained").subplots() if axes is None else axes


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure
