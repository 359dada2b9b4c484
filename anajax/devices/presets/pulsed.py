"""Published devices known by their response to pulses. States are dimensionless, as published; windows are in siemens.

Where a publication gives no conductance, the window is an argument; its default leaves room below, so that hardly any
cell's own lower bound lies below zero conductance.
"""

from __future__ import annotations

from typing import Any

from jax import Array

from anajax.devices.aging import Drift, Leak
from anajax.devices.curved_steps import ExpStep, NeuroSim
from anajax.devices.curves import Polynomial
from anajax.devices.linear_steps import ConstantStep, LinearStep, SoftBounds
from anajax.devices.phase_change import PartialSET
from anajax.devices.pulsed import Reference

_uS = 1e-6


def one_sided_steps(
    dw_min: float, dtod: float, up_down: float = 0.0, up_down_dtod: float = 0.01, write_noise: float = 0.0
) -> dict[str, Any]:
    """Return our symmetric asymmetry for AIHWKit's, whose code takes |up_down| off one direction only.

    Up and down are then dw_min and dw_min (1 - |up_down|), or the other way round; spreads count in the mean step.
    """
    mean = 1 - abs(up_down) / 2
    return {
        "dx": dw_min * mean,
        "up_down": up_down / 2 / mean,
        "dx_d2d": dtod / mean,
        "up_down_d2d": up_down_dtod / mean if up_down_dtod else None,
        "write_noise": write_noise / mean if write_noise else None,
    }


def rram_es(g_min: Array | float = 50e-6, g_max: Array | float = 100e-6) -> ExpStep:
    """Return HfO2 RRAM with exponential steps and strong noise, of about 1,500 states.

    Source: Gong et al., Nat. Commun. 9:2102 (2018); the fit of AIHWKit's ReRamES preset.

    Args:
      g_min: conductance of the state -1 [S]; not published with the fit.
      g_max: conductance of the state 1 [S]; not published with the fit.
    """
    return ExpStep(
        g_min=g_min,
        g_max=g_max,
        x_min_d2d=0.3,
        x_max_d2d=0.3,
        a_up=-1.18445,
        a_down=-0.081404,
        gamma_up=5.0,
        gamma_down=5.0,
        slope=-0.5,
        offset=-0.5,
        c2c=5.0,
        **one_sided_steps(0.00135, 0.2, up_down=0.259359, up_down_dtod=0.05, write_noise=75.0),
    )


def rram_sb(g_min: Array | float = 50e-6, g_max: Array | float = 100e-6) -> SoftBounds:
    """Return HfO2 RRAM with soft bounds, of about 1,000 states.

    Source: loosely Gong et al., Nat. Commun. 9:2102 (2018); AIHWKit's ReRamSB preset.

    Args:
      g_min: conductance of the state -0.75 [S]; not published with the fit.
      g_max: conductance of the state 1.25 [S]; not published with the fit.
    """
    return SoftBounds(
        g_min=g_min,
        g_max=g_max,
        x_min=-0.75,
        x_max=1.25,
        x_min_d2d=0.4,
        x_max_d2d=0.24,
        c2c=3.75,
        noise="additive",
        **one_sided_steps(0.002, 0.3, write_noise=56.0),
    )


def _rram_array(window: tuple[Any, Any], x_min_d2d: float, x_max_d2d: float, c2c: float, steps: Any) -> SoftBounds:
    return SoftBounds(
        g_min=window[0],
        g_max=window[1],
        x_min_d2d=x_min_d2d,
        x_max_d2d=x_max_d2d,
        dx_law="lognormal",
        c2c=c2c,
        noise="additive",
        reference=Reference(spread=0.05, symmetry=True),
        **steps,
    )


def rram_array_om(g_min: Array | float = 50e-6, g_max: Array | float = 100e-6) -> SoftBounds:
    """Return the optimised-material RRAM of a 14 nm array, about 21 states, read against its symmetry point.

    13.48 % of the measured devices were stuck; `Faulty` adds them.
    Source: Gong, Rasch et al., IEDM 2022; AIHWKit's ReRamArrayOM preset.

    Args:
      g_min: conductance of the state -1 [S]; not published with the fit.
      g_max: conductance of the state 1 [S]; not published with the fit.
    """
    steps = one_sided_steps(0.0949, 0.7829, write_noise=1.4113)
    return _rram_array((g_min, g_max), 0.5695, 0.3499, 0.4158, steps)


def rram_array_hfo2(g_min: Array | float = 50e-6, g_max: Array | float = 100e-6) -> SoftBounds:
    """Return the baseline HfO2 RRAM of a 14 nm array, about 4 states, read against its symmetry point.

    9.77 % of the measured devices were stuck; `Faulty` adds them.
    Source: Gong, Rasch et al., IEDM 2022; AIHWKit's ReRamArrayHfO2 preset.

    Args:
      g_min: conductance of the state -1 [S]; not published with the fit.
      g_max: conductance of the state 1 [S]; not published with the fit.
    """
    steps = one_sided_steps(0.4622, 0.7125, write_noise=0.5841)
    return _rram_array((g_min, g_max), 0.5990, 0.4295, 0.2174, steps)


def capacitor(batch_time: Array | float = 1.0) -> LinearStep:
    """Return a CMOS capacitor cell, 400 states, that leaks in about a million mini-batches.

    Source: Li et al., VLSI 2018; AIHWKit's Capacitor preset; window of the read transistor 4 to 20 uS.

    Args:
      batch_time: time a mini-batch takes [s]: the published lifetime counts mini-batches.
    """
    return LinearStep(
        g_min=4 * _uS,
        g_max=20 * _uS,
        x_min_d2d=0.07,
        x_max_d2d=0.07,
        gamma_up=0.05,
        gamma_down=0.05,
        gamma_d2d=0.01,
        c2c=0.3,
        noise="additive",
        leak=Leak(lifetime=1e6 * batch_time, lifetime_d2d=0.3),
        **one_sided_steps(0.005, 0.1, up_down_dtod=0.06),
    )


def ecram(g_min: Array | float = 0.1e-6, g_max: Array | float = 1.6e-6) -> LinearStep:
    """Return lithium ECRAM, 1,000 nearly even states.

    Source: Tang et al., IEDM 2018; AIHWKit's EcRam preset; window 625 kohm to 10 Mohm as used by CiMLoop.

    Args:
      g_min: conductance of the state -0.8276 [S].
      g_max: conductance of the state 1.1724 [S].
    """
    return LinearStep(
        g_min=g_min,
        g_max=g_max,
        x_min=-0.8276,
        x_max=1.1724,
        x_min_d2d=0.05,
        x_max_d2d=0.05,
        gamma_up=0.1153,
        gamma_down=0.5085,
        gamma_d2d=0.05,
        c2c=0.3,
        **one_sided_steps(0.002, 0.1),
    )


def ecram_mo(g_min: Array | float = 0.1e-6, g_max: Array | float = 1.6e-6) -> LinearStep:
    """Return metal-oxide ECRAM, 7,000 states.

    Source: Kim et al., IEDM 2019; AIHWKit's EcRamMO preset; window as for `ecram`.

    Args:
      g_min: conductance of the state -0.8286 [S].
      g_max: conductance of the state 1.1714 [S].
    """
    return LinearStep(
        g_min=g_min,
        g_max=g_max,
        x_min=-0.8286,
        x_max=1.1714,
        x_min_d2d=0.05,
        x_max_d2d=0.05,
        gamma_up=0.4152,
        gamma_down=0.7342,
        gamma_d2d=0.05,
        c2c=2.0,
        **one_sided_steps(2.8214e-4, 0.1),
    )


def idealized() -> ConstantStep:
    """Return an idealised cell of 10,000 even steps, no material's.

    Source: Rasch, Gokmen, Haensch, arXiv:1906.02698 (2019).
    """
    steps = one_sided_steps(0.0002, 0.3, up_down_dtod=0.0)
    return ConstantStep(g_min=12.5 * _uS, g_max=25 * _uS, x_min_d2d=0.3, x_max_d2d=0.3, c2c=0.3, **steps)


def gokmen_vlasov() -> ConstantStep:
    """Return the resistive processing unit for which in-situ training was first specified, about 1,200 steps.

    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016); AIHWKit's GokmenVlasov preset.
    """
    return ConstantStep(
        g_min=12.5 * _uS, g_max=25 * _uS, x_min_d2d=0.3, x_max_d2d=0.3, c2c=0.3, **one_sided_steps(0.0016, 0.3)
    )


def pcm_exp() -> ExpStep:
    """Return phase-change memory as a step response: up only, states 0 to 2; see `pcm_pair`.

    Source: the fit of AIHWKit's PCM preset to Nandakumar et al., Front. Neurosci. 14:406 (2020).
    """
    return ExpStep(
        g_max=25 * _uS,
        x_min=0.0,
        x_max=2.0,
        x_max_d2d=0.1,
        a_up=-27.235,
        a_down=-2.235,
        gamma_up=2.5,
        gamma_down=2.5,
        slope=-1.0,
        offset=0.0,
        c2c=0.6,
        c2c_floor=0.042,
        c2c_slope=0.108,
        rest=0.01,
        rest_d2d=0.02,
        reset_noise=0.01,
        **one_sided_steps(0.01, 0.2, up_down_dtod=0.05),
    )


def pcm_set(memory: bool = True) -> PartialSET:
    """Return phase-change memory by statistics of its partial-SET pulses, with drift and read noise.

    Source: Nandakumar et al., J. Appl. Phys. 124:152135 (2018) with memory, without it Front. Neurosci. 14:406 (2020).

    Args:
      memory: whether the pulses since the last RESET are remembered.
    """
    drift = Drift(nu=0.04, t_0=38.6)
    read = Polynomial(coefficients=(0.13 * _uS, 0.03 * 12 * _uS))  # 0.13 uS + 0.03 g, over g / 12 uS
    if memory:
        return PartialSET(drift=drift, read_curve=read)
    return PartialSET(
        mean=0.892 * _uS,
        mean_memory=None,
        std=0.575 * _uS,
        std_g=0.09,
        std_memory=None,
        drift=drift,
        read_curve=read,
    )


def capacitor_3t1c(lifetime: Array | float | None = None) -> NeuroSim:
    """Return the capacitor of a 2 PCM + 3T1C cell: 32 levels from 4 to 20 uS, labels +-0.2, noise 0.5 % of the range.

    A charge step is 6.67 uA * 0.5 ns = 3.3 fC on 100 fF: 33 mV.
    Source: the hybrid cell of DNN+NeuroSim, after Ambrogio et al., Nature 558:60 (2018).

    Args:
      lifetime: time constant of the leak [s], or `None`.
    """
    return NeuroSim(
        g_min=4 * _uS,
        g_max=20 * _uS,
        x_min=-0.5,
        x_max=0.5,
        nl_up=0.2,
        nl_down=-0.2,
        p_up=32.0,
        p_down=32.0,
        c2c=0.005,
        leak=None if lifetime is None else Leak(lifetime=lifetime),
    )


def _neurosim(r_on: float, on_off: float, pulses: tuple[int, int], nl: tuple[float, float], c2c: float) -> NeuroSim:
    return NeuroSim(
        g_max=1 / r_on,
        g_min=1 / (r_on * on_off),
        p_up=pulses[0],
        p_down=pulses[1],
        nl_up=nl[0],
        nl_down=nl[1],
        c2c=c2c,
    )


def ag_a_si() -> NeuroSim:
    """Return Ag:a-Si RRAM, 3.2 / -2.8 V pulses of 300 us.

    Source: Jo et al., Nano Lett. 10:1297 (2010), as tabulated in NeuroSim.
    """
    return _neurosim(26e6, 12.5, (97, 100), (2.4, -4.88), 0.035)


def fefet() -> NeuroSim:
    """Return a ferroelectric HfZrO transistor, 32 levels, 3.65 V pulses of 75 ns.

    Source: Jerry et al., IEDM 2017 (45-fold window), labels and on-resistance as in DNN+NeuroSim 2.1;
    some tables print the label of depression, -1.46, without its sign.
    """
    return _neurosim(240e3, 45.0, (32, 32), (1.75, -1.46), 0.003)


def taox_tio2() -> NeuroSim:
    """Return TaOx/TiO2 RRAM. The numbers are those usually quoted from NeuroSim's tables; they were not verified.

    Source: Gao et al., Nanotechnology 26:455204 (2015), as tabulated in NeuroSim.
    """
    return _neurosim(5e6, 2.0, (102, 102), (1.85, -1.79), 0.01)


def pcmo() -> NeuroSim:
    """Return PCMO RRAM. The numbers are those usually quoted from NeuroSim's tables; they were not verified.

    Source: Park et al., IEDM 2013, as tabulated in NeuroSim.
    """
    return _neurosim(23e6, 6.84, (50, 50), (3.68, -6.76), 0.01)


def alox_hfo2() -> NeuroSim:
    """Return AlOx/HfO2 RRAM. The numbers are those usually quoted from NeuroSim's tables; they were not verified.

    Source: Woo et al., IEEE Electron Device Lett. 37:994 (2016), as tabulated in NeuroSim.
    """
    return _neurosim(16.9e3, 4.43, (40, 40), (1.94, -0.61), 0.05)


def gst_pcm() -> NeuroSim:
    """Return GST phase-change memory, whose depression starts slowly.

    The numbers are those usually quoted from NeuroSim's tables; they were not verified.
    Source: Kuzum et al., Nano Lett. 12:2179 (2012), as tabulated in NeuroSim.
    """
    return _neurosim(4.71e3, 19.8, (100, 10), (0.105, 2.4), 0.015)


def epiram() -> NeuroSim:
    """Return epitaxial SiGe RRAM. Of the quoted numbers only the on-resistance was verified.

    Source: Choi et al., Nat. Mater. 17:335 (2018), as tabulated in NeuroSim.
    """
    return _neurosim(81e3, 50.2, (64, 64), (0.5, -0.5), 0.02)
