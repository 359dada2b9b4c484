"""Published chips, as pairs of hardware and technology, with what they say that they cost.

Where components are published, they are entered one by one. Where only sums are, the pair is inverse-fitted: it gives
the sums back, and its components are ours.
"""

from __future__ import annotations

from typing import Any

from anajax.arrays import PulseTrain, Signed, Slices
from anajax.arrays.hardware import Hardware
from anajax.cost.technology import Technology
from anajax.devices import ConstantStep, Device, ReferencePair

#: every component that costs something by default
_FREE: dict[str, Any] = dict.fromkeys(
    (
        *("c_cell", "dac", "integrator", "adc_step", "adc_thermal", "t_adc", "digital", "v_write"),
        *("area_cell", "area_row", "area_column", "area_adc"),
    ),
    0.0,
)


def _technology(**known: Any) -> Technology:
    return Technology(**(_FREE | known))


def _cell(mean: float) -> Device:
    """Return any cell for a weight with its sign, whose mean conductance is `mean` [S]."""
    return ReferencePair(device=ConstantStep(g_max=4 * mean, g_min=0.0))


def hermes(phases: int = 1) -> tuple[Hardware, Technology]:
    """Return a core of the 64-core phase-change memory chip: 256 x 256 weights.

    Inverse-fitted: throughput, efficiency and area of the chip are published (1 phase: 63.1 TOPS, 9.76 TOPS/W;
    4 phases: 16.1 and 2.48; 40.7 mm^2). All energy is in `Technology.power`.
    Source: Le Gallo et al., Nat. Electron. 6:680 (2023).

    Args:
      phases: 1, or 4, which read inputs and cells of either sign apart.
    """
    published = {1: (63.1e12, 9.76e12), 4: (16.1e12, 2.48e12)}
    if phases not in published:
        raise ValueError(f"phases must be 1 or 4; got {phases!r}")
    throughput, efficiency = published[phases]
    seconds = 64 * 2 * 256**2 / throughput
    hardware = Hardware(device=_cell(5e-6), mapping=Signed(), array_shape=(256, 256))
    technology = _technology(
        activity=0.0, phases=phases, t_read=seconds / phases, power=throughput / efficiency / 64, area=40.7e-6 / 64
    )
    return hardware, technology


def isaac() -> tuple[Hardware, Technology]:
    """Return an array of ISAAC-CE, with its share of the tile: 128 x 128 cells of 2 bits in 32 nm.

    Weights of 16 bits are on 8 lines, inputs of 16 bits come in 16 phases of 100 ns, in which an ADC converts the 128
    columns of the phase before. `power` and `area` are those of registers, memory, bus, router, digital functions.
    Source: Shafiee et al., ISCA 2016: powers and areas of its tile of 12 units of 8 arrays, summed.
    """
    arrays_in_unit, units, phase, mm2 = 8, 12, 100e-9, 1e-6
    lines = 128 * arrays_in_unit
    unit_power, tile_power = 1.24e-3 + 0.23e-3, 20.7e-3 + 7e-3 + 42e-3 / 4 + 0.52e-3 + 0.05e-3 + 0.4e-3 + 1.68e-3
    unit_area, tile_area = 0.0021 + 0.00077, 0.372 - 0.157
    hardware = Hardware(
        device=_cell(0.3e-3 / 128**2),  # at 1 V, 0.3 mW for the array
        mapping=Signed(),
        array_shape=(128, 16),
        slices=Slices(bits=2, count=8),
    )
    technology = _technology(
        v_read=1.0,
        activity=1.0,
        t_read=phase,
        phases=16,
        dac=4e-3 / lines * phase,
        integrator=10e-6 / lines * phase,
        adc=2e-3 * phase / 128,
        t_adc=phase / 128,
        columns_per_adc=128,
        overlap=True,
        digital=0.2e-3 / lines * phase,
        power=(unit_power + tile_power / units) / arrays_in_unit,
        area_cell=0.0002 * mm2 / arrays_in_unit / 128**2,
        area_row=0.00017 * mm2 / lines,
        area_column=(0.00004 + 0.00024) * mm2 / lines,
        area_adc=0.0096 * mm2 / arrays_in_unit,
        area=(unit_area + tile_area / units) * mm2 / arrays_in_unit,
    )
    return hardware, technology


def marinella() -> tuple[Hardware, Technology]:
    """Return the 8 bit training block of 1024 x 1024 resistive memories in 14/16 nm.

    Inputs are pulses of 1 to 127 ns, a ramp converts all columns at once in 256 ns, and an update has 4 phases.
    Source: Marinella et al., IEEE JETCAS 8:86 (2018): its currents, voltages, times and capacitances. What its parts
    leave of the area of 75,000 um^2, drivers and logic, is one number; communication (0.08 nJ) is left out.
    """
    bits, n = 8, 1024
    hardware = Hardware(device=_cell(1e-9 / 0.785), mapping=Signed(), array_shape=(n, n), pulses=PulseTrain(length=4))
    technology = _technology(
        v_read=0.785,
        activity=(2 ** (bits - 1) - 1) / 128,
        t_read=128e-9,
        c_cell=0.064 * 200e-18 + 35e-18,
        toggles=bits - 1,
        dac=0.2e-9 / n,
        integrator=12e-6 * 1.8 * 128e-9,
        adc=20e-6 * 1.8 * 256e-9,
        t_adc=256e-9,
        t_write=128e-9,
        pulse=0.5 * 10.3e-9 * 1.8 * 127e-9,
        area_cell=8600e-12 / n**2,
        area_column=6600e-12 / n,
        area_adc=5850e-12 / n,
        area=75_000e-12 - (8600 + 6600 + 5850) * 1e-12,
    )
    return hardware, technology


def ambrogio() -> tuple[Hardware, Technology]:
    """Return an array of 512 x 512 cells of phase-change memories and capacitors that is trained in place.

    Inverse-fitted, not the paper's table of components: 28,065 GOP/s/W and 3.6 TOP/s/mm^2 are published, and three
    phases of 80 ns, 15 uS for a weight, 0.2 V and a mean pulse of 20 ns are assumed. What is left of the energy goes to
    the columns, what is left of the area to the cells.
    Source: Ambrogio et al., Nature 558:60 (2018).
    """
    n, t, g, v, mean_pulse = 512, 80e-9, 15e-6, 0.2, 20e-9
    of_weight = 6 / 28_065e9
    reads = 2 * g * v**2 * mean_pulse
    hardware = Hardware(device=_cell(g), mapping=Signed(), array_shape=(n, n), pulses=PulseTrain(length=1))
    technology = _technology(
        v_read=v,
        activity=mean_pulse / t,
        t_read=t,
        t_write=t,
        integrator=(of_weight - reads) * n / 2,
        area_cell=6 / (3.6e12 * 3 * t) * 1e-6,
    )
    return hardware, technology
