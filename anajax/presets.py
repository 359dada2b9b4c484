"""Published hardware, ready to use. Devices alone are in `anajax.devices.presets`."""

from __future__ import annotations

from anajax.arrays import (
    ADC,
    DAC,
    Differential,
    DriftCompensation,
    Hardware,
    IRDrop,
    LearnedRange,
    OutputNoise,
    WeightNoise,
)
from anajax.devices import Device
from anajax.devices import presets as devices


def standard_aimc(device: Device | None = None) -> Hardware:
    """Return the standard analog in-memory computing model of Rasch et al., Nat. Commun. 14:5282 (2023).

    PCM in differential pairs on arrays of 512 inputs x 512 outputs, 8-bit DAC and ADC with bounds 1 and 10,
    output noise 0.04, PCM-like weight read noise 0.0175, algebraic IR drop at 0.35 ohm per cell, learned
    input ranges, global drift compensation. Hardware-aware training (reads without a chip) has an ideal backward
    pass, in which the hardware gets no gradient; `replace(backward="exact")` for the true one.

    Args:
      device: another device in the place of PCM; its window becomes that of the weights.
    """
    return Hardware(
        device=devices.pcm() if device is None else device,
        mapping=Differential(scale_by="column"),
        array_shape=(512, 512),
        inputs=LearnedRange(),
        dac=DAC(bits=8, bound=1.0),
        wires=IRDrop(),
        weight_noise=WeightNoise(sigma=0.0175, kind="pcm"),
        output_noise=OutputNoise(sigma=0.04),
        adc=ADC(bits=8, bound=10.0),
        compensation=DriftCompensation(),
        backward="ideal",
    )
