"""Devices known by measured statistics: programming noise, drift or relaxation, and read noise.

Conductances are siemens, times seconds since the end of programming, any time >= 0. A cell's scores
(`"program"`, `"drift"`, `"relax"`) are its own for as long as it holds its state; only read noise is fresh.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._record import Numbers, leaf, record
from anajax.devices.curves import Curve
from anajax.devices.device import Cells, Device, _programmed


@record
class PCM(Device):
    """Phase-change memory: programming noise, power-law drift of each cell's own exponent, 1/f read noise.

    With u = g_target / g_max and scores xi of the cell:

        g_P = max(0, g_target + program_scale * program_curve(u) * xi_program)
        nu  = nu_scale * |nu_mean(u) + nu_std(u) * xi_drift|
        g   = g_P * (1 + time / t_0) ** -nu
        sigma_read = g * read_scale * read_curve(g_P / g_max) * sqrt(ln((t_0 + time + t_read) / (2 t_read)))

    A change of `g_max` alone moves the window and the places on the curves, not the noise in siemens; the preset
    functions scale the noise with it. Not modelled: temperature, drift of the exponent itself, correlation of drift
    with programming noise.
    Source: Nandakumar et al., ICECS 2019; Joshi et al., Nat. Commun. 11:2473 (2020).

    Attributes:
      program_curve: programming noise [S] over u.
      nu_mean: mean drift exponent over u.
      nu_std: its spread from cell to cell over u.
      read_curve: relative 1/f read noise over g_P / g_max.
      t_0: time of the first measurement after programming, at which drift starts to count [s].
      t_read: duration of one read [s].
      program_scale: factor on the programming noise.
      nu_scale: factor on the drift exponents.
      read_scale: factor on the read noise.
    """

    program_curve: Curve = leaf()
    nu_mean: Curve = leaf()
    nu_std: Curve = leaf()
    read_curve: Curve = leaf()
    t_0: Array | float = leaf(default=20.0, gt=0)
    t_read: Array | float = leaf(default=250e-9, gt=0)
    program_scale: Array | float = leaf(default=1.0, ge=0)
    nu_scale: Array | float = leaf(default=1.0, ge=0)
    read_scale: Array | float = leaf(default=1.0, ge=0)

    life_scores = ("drift",)
    program_scores = ("program",)

    def check(self) -> None:
        """Check the window, and that a read is over before drift starts to count."""
        super().check()
        known = _check.is_concrete(self.t_0) and _check.is_concrete(self.t_read)
        if known and not np.all(np.asarray(self.t_0) >= np.asarray(self.t_read)):
            raise ValueError(f"PCM.t_0 must be at least t_read; got t_0={self.t_0} s, t_read={self.t_read} s")

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] of programming to `target` [S]."""
        return self.program_scale * self.program_curve(target / self.g_max)

    def drift_exponent(self, cells: Cells) -> Array:
        """Return each cell's own drift exponent nu."""
        u = _programmed(cells) / self.g_max
        return self.nu_scale * jnp.abs(self.nu_mean(u) + self.nu_std(u) * cells.score("drift"))

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the drifted conductance [S], `time` seconds after programming."""
        return self._as_programmed(cells) * jnp.exp(-self.drift_exponent(cells) * jnp.log1p(time / self.t_0))

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of the 1/f noise of one read."""
        spread = self.read_curve(self._as_programmed(cells) / self.g_max)
        log = jnp.log((self.t_0 + time + self.t_read) / (2 * self.t_read))
        return self.conductance(cells, time) * self.read_scale * spread * jnp.sqrt(log)

    def _as_programmed(self, cells: Cells) -> Array:
        target = _programmed(cells)
        return jnp.maximum(target + self.programming_noise(target) * cells.score("program"), 0.0)


@record
class Relaxing(Device):
    """A memory measured at a few times, as the spread of conductance around its target.

    The spread sigma(u, t) is tabulated at `times` and interpolated linearly in ln(1 + t / 1 s), constant
    before the first time and after the last. A cell keeps its programming error and adds a relaxation of
    its own, so that its deviation at any measured time has the published spread:

        g = max(0, g_target + sigma(u, times[0]) xi_program + sqrt(sigma(u, t)**2 - sigma(u, times[0])**2) xi_relax)

    (Where a fit lies below its first time the root counts as zero.) The measurements give each time alone;
    that the deviation at a later time contains the first one is this model's assumption.

    Attributes:
      times: ascending times of measurement [s], shape `[n]`.
      spread: n curves, the spread [S] over u = g_target / g_max at each time.
      read_curve: read noise [S] over g / g_max, or `None`.
      spread_scale: factor on all spreads.
    """

    times: Numbers = leaf(ge=0)
    spread: tuple[Curve, ...] = leaf()
    read_curve: Curve | None = leaf(default=None)
    spread_scale: Array | float = leaf(default=1.0, ge=0)

    life_scores = ("relax",)
    program_scores = ("program",)

    def check(self) -> None:
        """Check the window, and that every time has its spread."""
        super().check()
        if len(self.spread) != jnp.shape(self.times)[0]:
            raise ValueError(
                f"Relaxing.spread must have one curve for each of the {jnp.shape(self.times)[0]} times;"
                f" got {len(self.spread)}"
            )

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] at the first measured time."""
        return self.spread_scale * self.spread[0](target / self.g_max)

    def deviation(self, target: Array, time: Array | float) -> Array:
        """Return the standard deviation [S] around `target` [S] at `time` [s]."""
        u = target / self.g_max
        y = self.spread[0](u)
        at, log = jnp.log1p(jnp.asarray(self.times)), jnp.log1p(time)
        for k in range(1, len(self.spread)):
            part = jnp.clip((log - at[k - 1]) / (at[k] - at[k - 1]), 0.0, 1.0)
            y = y + part * (self.spread[k](u) - self.spread[k - 1](u))
        return self.spread_scale * y

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the relaxed conductance [S], `time` seconds after programming."""
        target = _programmed(cells)
        first, now = self.programming_noise(target), self.deviation(target, time)
        excess = (now - first) * (now + first)
        relaxed = excess > 1e-7 * first**2  # the root has no slope at zero
        relax = jnp.where(relaxed, jnp.sqrt(jnp.where(relaxed, excess, 1.0)), 0.0)
        return jnp.maximum(target + first * cells.score("program") + relax * cells.score("relax"), 0.0)

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read."""
        g = self.conductance(cells, time)
        return jnp.zeros_like(g) if self.read_curve is None else self.read_curve(g / self.g_max)


@record
class CMORRAM(Device):
    """CMO/HfOx RRAM: write-verify error, logarithmic relaxation that ignores the state, 1/f read noise.

        g_P = g_target + (program_offset + program_slope g_target) xi_program
        g   = clip(g_P + drift_mean l + (drift_std l + drift_std_0) xi_relax, g_min, g_max),  l = ln(max(t, t_0) / 1 s)
        sigma_read = read_slope * log10(g / 1 uS) * sqrt(ln((t + t_read) / (2 t_read)))

    The relaxation was fitted from t_0 = 1 s on; before, its value at t_0 holds (the fit's logarithm has no
    value at t = 0), and the read noise of time t_read holds for shorter times.
    Source: Falcone et al. 2025, the fit of AIHWKit's ReRamCMO model.

    Attributes:
      program_offset: constant part of the programming spread [S], set by the acceptance range.
      program_slope: part of the spread proportional to the conductance.
      drift_mean: shift of the mean [S] per unit of l.
      drift_std: growth of the spread [S] per unit of l.
      drift_std_0: the spread [S] at 1 s.
      read_slope: read noise [S] per decade of conductance over 1 uS.
      t_0: first time of the relaxation fit [s].
      t_read: duration of one read [s].
    """

    g_max: Array | float = leaf(default=88.2e-6, gt=0)
    g_min: Array | float = leaf(default=9e-6, ge=0)
    program_offset: Array | float = leaf(ge=0)
    program_slope: Array | float = leaf(ge=0)
    drift_mean: Array | float = leaf(default=-0.08900206e-6)
    drift_std: Array | float = leaf(default=0.04201137e-6, ge=0)
    drift_std_0: Array | float = leaf(default=0.41183342e-6, ge=0)
    read_slope: Array | float = leaf(default=0.0277316483e-6, ge=0)
    t_0: Array | float = leaf(default=1.0, gt=0)
    t_read: Array | float = leaf(default=1e-6, gt=0)

    life_scores = ("relax",)
    program_scores = ("program",)

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] of write-verify to `target` [S]."""
        return self.program_offset + self.program_slope * target

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the relaxed conductance [S], `time` seconds after programming."""
        target = _programmed(cells)
        log = jnp.log(jnp.maximum(time, self.t_0))
        relax = self.drift_mean * log + (self.drift_std * log + self.drift_std_0) * cells.score("relax")
        g = target + self.programming_noise(target) * cells.score("program") + relax
        return jnp.clip(g, self.g_min, self.g_max)

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the standard deviation [S] of one read."""
        log = jnp.log((jnp.maximum(time, self.t_read) + self.t_read) / (2 * self.t_read))
        on = log > 0
        root = jnp.where(on, jnp.sqrt(jnp.where(on, log, 1.0)), 0.0)
        # log10 of a conductance below 1 uS would be a negative spread
        return self.read_slope * jnp.log10(jnp.maximum(self.conductance(cells, time) / 1e-6, 1.0)) * root


@record
class LogNormal(Device):
    """Resistances that spread log-normally around their target, with the mean resistance preserved.

        ln R = ln R_target - s**2 / 2 + s xi_program

    with s from `spread_on` at 1 / g_max to `spread_off` at 1 / g_min, linear in ln R and constant beyond.

    Source: Joksas et al., Adv. Sci. 9:2105784 (2022).

    Attributes:
      spread_on: standard deviation of the logarithm of the lowest resistance.
      spread_off: standard deviation of the logarithm of the highest resistance.
    """

    spread_on: Array | float = leaf(ge=0)
    spread_off: Array | float = leaf(ge=0)

    program_scores = ("program",)

    def check(self) -> None:
        """Check the window: a resistance has a logarithm."""
        super().check()
        if _check.is_concrete(self.g_min) and not np.all(np.asarray(self.g_min) > 0):
            raise ValueError(f"LogNormal.g_min must be greater than 0; got {self.g_min} S")

    def _spread(self, target: Array) -> Array:
        share = jnp.log(self.g_max / target) / jnp.log(self.g_max / self.g_min)
        share = jnp.clip(share, 0.0, 1.0)
        return self.spread_on + (self.spread_off - self.spread_on) * share

    def programming_noise(self, target: Array) -> Array:
        """Return the standard deviation [S] of the conductance."""
        s = self._spread(jnp.maximum(target, 1e-9 * self.g_max))
        return target * jnp.exp(s**2) * jnp.sqrt(jnp.maximum(jnp.expm1(s**2), 0.0))

    def conductance(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return the conductance [S], whatever the `time` [s]."""
        target = _programmed(cells)
        s = self._spread(jnp.maximum(target, 1e-9 * self.g_max))
        return target * jnp.exp(s**2 / 2 - s * cells.score("program"))

    def read_noise(self, cells: Cells, time: Array | float = 0.0) -> Array:
        """Return zero [S]."""
        return jnp.zeros_like(_programmed(cells))
