"""Published devices known by statistics of programming and drift; papers speak in microsiemens, records in siemens."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax.devices.curves import Curve, LogLinear, Polynomial, PowerLaw, SaturatingExponential, Split, Table
from anajax.devices.device import Ideal
from anajax.devices.statistical import CMORRAM, PCM, LogNormal, Relaxing

_uS = 1e-6


def _siemens(microsiemens: tuple[float, ...], scale: ArrayLike = 1.0) -> Polynomial:
    return Polynomial(coefficients=jnp.asarray(np.array(microsiemens) * _uS) * scale)


def ideal(g_max: Array | float = 25e-6, g_min: Array | float = 0.0) -> Ideal:
    """Return a device without flaws, with a conductance window [S]."""
    return Ideal(g_max=g_max, g_min=g_min)


def pcm(g_max: Array | float = 25e-6) -> PCM:
    """Return phase-change memory after a million-device 90 nm chip.

    Source: Nandakumar et al., ICECS 2019 and Joshi et al., Nat. Commun. 11:2473 (2020), with the
    coefficients used by Rasch et al., Nat. Commun. 14:5282 (2023).

    Args:
      g_max: largest conductance [S]; the programming noise, measured at 25 uS, scales with it.
    """
    return PCM(
        g_max=g_max,
        program_curve=_siemens((0.26348, 1.9650, -1.1731), g_max / 25e-6),
        nu_mean=LogLinear(slope=-0.0155, offset=0.0244, low=0.049, high=0.1),
        nu_std=LogLinear(slope=-0.0125, offset=-0.0059, low=0.008, high=0.045),
        read_curve=PowerLaw(scale=0.0088, exponent=0.65, floor=1e-3, high=0.2),
        t_0=20.0,
        t_read=250e-9,
    )


def pcm_with_drift_table(g: ArrayLike, nu_mean: ArrayLike, nu_std: ArrayLike, g_max: Array | float = 25e-6) -> PCM:
    """Return `pcm` with drift exponents from a measured table, linear in between.

    Args:
      g: ascending conductances [S], shape `[n]`, within `[0, g_max]`.
      nu_mean: mean drift exponent at each, shape `[n]`.
      nu_std: its spread at each, shape `[n]`.
      g_max: largest conductance [S].
    """
    u = jnp.asarray(g, float) / g_max
    return pcm(g_max).replace(nu_mean=Table(u=u, values=nu_mean), nu_std=Table(u=u, values=nu_std))


def _hermes_nu_mean() -> Curve:
    return Split(
        at=0.0945,
        below=LogLinear(slope=-0.0387, offset=-0.0182, low=0.072, high=0.13),
        above=Polynomial(coefficients=(0.0736, -0.0126, -0.0436)),
    )


def hermes_one_device() -> PCM:
    """Return the PCM of the IBM HERMES chip with one device per polarity (g_max 10.35 uS, t_0 200 s).

    Source: Le Gallo et al., Nat. Electron. 6:680 (2023); the fit published with AIHWKit.
    """
    return PCM(
        g_max=10.35e-6,
        program_curve=_siemens((0.15781817, 2.32443916, -2.16310839, 0.68841818)),
        nu_mean=_hermes_nu_mean(),
        nu_std=Split(
            at=0.3039,
            below=LogLinear(slope=-0.0120, offset=-0.0023, low=0.0124, high=0.04),
            above=Polynomial(coefficients=(0.0104, 0.0116, -0.0165)),
        ),
        read_curve=Split(
            at=0.1591,
            below=LogLinear(slope=-0.0078, offset=0.0038, low=0.0179, high=0.04),
            above=Polynomial(coefficients=(0.0088, 0.0768, -0.1352, 0.0664)),
        ),
        t_0=200.0,
        t_read=512e-9,
    )


def hermes_two_devices() -> PCM:
    """Return the PCM of the IBM HERMES chip with two devices per polarity (g_max 20.7 uS, t_0 300 s).

    Source: Le Gallo et al., Nat. Electron. 6:680 (2023); the fit published with AIHWKit.
    """
    return PCM(
        g_max=20.7e-6,
        program_curve=_siemens((0.16603222, 4.71806468, -8.48101252, 4.68961419)),
        nu_mean=_hermes_nu_mean(),
        nu_std=Split(
            at=0.3055,
            below=LogLinear(slope=-0.0117, offset=-0.0057, low=0.0091, high=0.04),
            above=Polynomial(coefficients=(0.0073, 0.0093, -0.0118)),
        ),
        read_curve=Split(
            at=0.16,
            below=LogLinear(slope=-0.0117, offset=-0.0069, low=0.015, high=0.04),
            above=Polynomial(coefficients=(0.0123, 0.0211, -0.0280, 0.0069)),
        ),
        t_0=300.0,
        t_read=512e-9,
    )


def state_independent(g_max: Array | float = 25e-6) -> PCM:
    """Return a drifting cell whose noise ignores its state: a yardstick, not a material.

    Programming noise 0.2 uS, drift exponent |0.1 + 0.05 xi|, read noise of 1 uS * g / g_max at L = 1.
    Source: the StateIndependentNoiseModel of AIHWKit (Rasch et al., AICAS 2021).

    Args:
      g_max: largest conductance [S].
    """
    return PCM(
        g_max=g_max,
        program_curve=_siemens((0.2,)),
        nu_mean=Polynomial(coefficients=(0.1,)),
        nu_std=Polynomial(coefficients=(0.05,)),
        read_curve=Polynomial(coefficients=jnp.asarray([_uS / g_max])),
        t_0=20.0,
        t_read=250e-9,
    )


def rram_wan(g_max: Array | float = 40e-6) -> Relaxing:
    """Return HfOx RRAM measured at 1 s, 1 day and 2 days after programming.

    Source: Wan et al., Nature 608:504 (2022), fitted at g_max = 40 uS.

    Args:
      g_max: largest conductance [S]; the spread over g / g_max scales with it, so that a network sees the
        same relative error at any g_max.
    """
    scale = g_max / 40e-6
    return Relaxing(
        g_max=g_max,
        times=(1.0, 86400.0, 172800.0),
        spread=(
            _siemens((0.348, 16.030, -43.853, 45.393, -16.815), scale),
            _siemens((0.701, 22.086, -50.773, 47.095, -16.458), scale),
            _siemens((0.782, 20.274, -43.507, 37.062, -11.934), scale),
        ),
    )


def rram_cmo(acceptance: float = 0.02) -> CMORRAM:
    """Return IBM's CMO/HfOx RRAM, write-verified into an acceptance range.

    Source: Falcone et al. 2025, fit published with AIHWKit; window 9 to 88.2 uS.

    Args:
      acceptance: relative acceptance range of write-verify, 0.002 or 0.02.
    """
    fits = {0.002: (0.00081107, 0.00106879), 0.02: (0.0112185391, 0.01129027418)}
    if acceptance not in fits:
        raise ValueError(f"acceptance must be one of {', '.join(map(str, fits))}; got {acceptance!r}")
    offset, slope = fits[acceptance]
    return CMORRAM(program_offset=offset * _uS, program_slope=slope)


_SONOS_V_READ = 0.2  # 3,200 nA, the largest current of the fit, at 16 uS


def _saturating(a: float, b: float, g_max: float) -> SaturatingExponential:
    return SaturatingExponential(height=a * 1e-9 / _SONOS_V_READ, rate=g_max * _SONOS_V_READ / (b * 1e-9))


def sonos() -> Relaxing:
    """Return 40 nm SONOS charge-trap flash, retention measured from day 0 to day 5.

    The published spread of the current, A (1 - exp(-I / B)) with I up to 3,200 nA, is read at 0.2 V, where
    3,200 nA is 16 uS. The mean shift with time is not part of the published table used here.
    Source: Agrawal et al., IEDM 2022, coefficients as used by CrossSim 3.2.
    """
    g_max = 16e-6
    days = (
        (19.88665, 176.3115),
        (25.59102, 186.85544),
        (28.72753, 193.56834),
        (31.04318, 198.90332),
        (33.76214, 204.77023),
        (34.57909, 207.34309),
    )
    return Relaxing(
        g_max=g_max,
        times=tuple(86400.0 * day for day in range(6)),
        spread=tuple(_saturating(a, b, g_max) for a, b in days),
        read_curve=_saturating(12.58037, 215.36557, g_max),
    )


def pcm_joshi() -> Relaxing:
    """Return phase-change memory after program-and-verify, 27 s after programming, without drift.

    Source: Joshi et al., Nat. Commun. 11:2473 (2020), the quadratic fit used by CrossSim.
    """
    g_max = 25e-6
    return Relaxing(g_max=g_max, times=(27.36,), spread=(_siemens((0.28638599, 0.07585724 * 25, -0.00178767 * 25**2)),))


def rram_milo() -> Relaxing:
    """Return HfO2 RRAM of 50 to 225 uS after write-verify; its current-voltage law is `conduction.milo_rram`.

    Source: Milo et al., IRPS 2021, as fitted in CrossSim (the spread stays positive within the window).
    """
    return Relaxing(g_max=225e-6, g_min=50e-6, times=(0.0,), spread=(_siemens((4.782321, -0.009107 * 225)),))


def rram_lognormal(
    r_on: Array | float = 381e3,
    r_off: Array | float = 1.905e6,
    spread_on: Array | float = 0.25,
    spread_off: Array | float = 0.25,
) -> LogNormal:
    """Return RRAM whose resistances spread log-normally from device to device, by default the SiOx of high resistance.

    Spreads of 0.25 and 0.25 are the published "more uniform" devices, 0.05 and 0.5 the "less uniform" ones, 0.5 and
    0.5 those of high variability.
    Source: Joksas et al., Adv. Sci. 9:2105784 (2022).

    Args:
      r_on: lowest resistance [ohm].
      r_off: highest resistance [ohm].
      spread_on: standard deviation of the logarithm at `r_on`.
      spread_off: standard deviation of the logarithm at `r_off`.
    """
    return LogNormal(g_max=1 / r_on, g_min=1 / r_off, spread_on=spread_on, spread_off=spread_off)
