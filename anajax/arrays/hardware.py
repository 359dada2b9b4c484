"""Hardware: one record that names everything an analog matrix-vector multiplication is made of."""

from __future__ import annotations

import numpy as np
from jax import Array

from anajax import _check
from anajax._record import Record, leaf, record, static
from anajax.arrays.converters import ADC, DAC, InputScaling
from anajax.arrays.mapping import Differential, Mapping, Signed
from anajax.arrays.modifiers import Modifier
from anajax.arrays.periphery import OutputNoise, ReadVoltage, SShape, WeightNoise
from anajax.arrays.pulses import PulseTrain
from anajax.arrays.serial import BitSerial
from anajax.arrays.slices import Slices
from anajax.arrays.wires import WireModel, Wires
from anajax.devices import Device, Ideal
from anajax.devices.conduction import Conduction


@record
class DriftCompensation(Record):
    """One digital factor that restores the mean magnitude of the weights as they drift.

    The factor is mean|w_reference| / mean|w_now|, over an array or over each of its columns, of averaged
    reads of every cell. `"programmed"` measures the reference right after programming; `"target"` knows the
    wanted weights exactly.
    Source: Joshi et al., Nat. Commun. 11:2473 (2020).

    Attributes:
      per: `"array"` (global drift compensation) or `"column"`.
      reference: `"programmed"` or `"target"`.
    """

    per: str = static(default="array", choices=("array", "column"))
    reference: str = static(default="programmed", choices=("programmed", "target"))


@record
class Hardware(Record):
    """A crossbar array with its periphery. Ideal by default: every nonideality is opted into.

    Example:
      >>> import anajax
      >>> from anajax.arrays import ADC, OutputNoise
      >>> anajax.Hardware(adc=ADC(bits=8), output_noise=OutputNoise(sigma=0.04)).adc
      ADC(bits=8, bound=10, asymmetry=None)

    Attributes:
      device: what one cell does.
      mapping: how weights become conductances.
      pulses: trains by which in-situ training moves them.
      slices: bits of weights on several lines, or `None`.
      array_shape: largest `(rows, cols)` of one array, in weights; larger matrices are cut, and their partial
        sums added in digital. `None` for arrays as large as each matrix.
      inputs: digital scaling of the inputs before the DAC, or `None`.
      dac: input converters, or `None`.
      wires: parasitic resistance: `Wires`, solved exactly, `IRDrop`, a published formula, or `None`.
      conduction: law of the current of a cell, or `None` for Ohm's; on a chip each cell keeps its own scores. Where
        the law is not linear, every input is solved for on its own: tens to thousands of times the cost of a
        matrix product.
      v_read: voltage of an input of 1 [V]; needed where a law, or transistors of `Wires`, have to know.
      read_voltage: offsets and series resistance, or `None`.
      weight_noise: short-term noise of the weights, or `None`.
      nonlinearity: S-shape of the outputs, or `None`.
      output_noise: noise before the ADC, or `None`.
      adc: output converters, or `None`.
      halvings: bound management: how often, at most 10, inputs are halved and read again while an output of
        the array exceeds the ADC's bound; 0 for never.
      compensation: drift compensation, or `None`.
      modifier: what hardware-aware training adds to the weights, or `None`.
      transposed: periphery of the transposed reads of in-situ training, which carry errors back; `None` for that of
        the forward reads, with `AbsMax` inputs, as errors are small.
      backward: gradients of hardware-aware training (of a read without a chip): `"exact"`, or `"ideal"`, those
        of a plain matrix product with the weights as modified for this step, whatever else the forward pass did,
        as published recipes train; the hardware then gets none.
    """

    device: Device = leaf(default=None)
    mapping: Mapping = leaf(default=None)
    pulses: PulseTrain = leaf(default=None)
    slices: Slices | None = leaf(default=None)
    array_shape: tuple[int, int] | None = static(default=None)
    inputs: InputScaling | None = leaf(default=None)
    dac: DAC | None = leaf(default=None)
    wires: WireModel | None = leaf(default=None)
    conduction: Conduction | None = leaf(default=None)
    v_read: Array | float | None = leaf(default=None, gt=0)
    read_voltage: ReadVoltage | None = leaf(default=None)
    weight_noise: WeightNoise | None = leaf(default=None)
    nonlinearity: SShape | None = leaf(default=None)
    output_noise: OutputNoise | None = leaf(default=None)
    adc: ADC | None = leaf(default=None)
    halvings: int = static(default=0)
    compensation: DriftCompensation | None = leaf(default=None)
    modifier: Modifier | None = leaf(default=None)
    transposed: Hardware | None = leaf(default=None)
    backward: str = static(default="exact", choices=("exact", "ideal"))

    def __post_init__(self) -> None:
        # records cannot stand as defaults in the class body: arrays would be made at import
        for name, default in (("device", Ideal), ("mapping", Differential), ("pulses", PulseTrain)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default())
        super().__post_init__()

    def check(self) -> None:
        """Check the types of the parts, and the settings that need each other."""
        for name, kind in _PARTS.items():
            part = getattr(self, name)
            if part is not None and not isinstance(part, kind):
                wanted = "Wires, an IRDrop" if kind is WireModel else kind.__name__
                raise TypeError(f"Hardware.{name} must be a {wanted} or None; got {part!r}")
        signed = isinstance(self.mapping, Signed)
        if _check.is_concrete(self.device.g_min) and bool(np.all(np.asarray(self.device.g_min) < 0)) != signed:
            raise ValueError(
                "Hardware.device must be a cell whose conductance has a sign where Hardware.mapping is Signed, and none"
                f" where the mapping subtracts cells itself; got {type(self.device).__name__} with"
                f" g_min={self.device.g_min} S and {type(self.mapping).__name__}"
            )
        shape = self.array_shape
        if shape is not None and not (
            isinstance(shape, tuple) and len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)
        ):
            raise ValueError(f"Hardware.array_shape must be two positive integers or None; got {shape!r}")
        if not isinstance(self.halvings, int) or not 0 <= self.halvings <= 10:
            raise ValueError(f"Hardware.halvings must be an integer from 0 to 10; got {self.halvings!r}")
        if self.halvings and isinstance(self.dac, BitSerial):
            raise ValueError(
                f"Hardware.halvings must be 0 with BitSerial inputs, whose pulses do not shrink; got {self.halvings}"
            )
        if self.adc is None and (self.halvings or self.nonlinearity is not None):
            raise ValueError(
                "Hardware.halvings and Hardware.nonlinearity refer to the ADC's bound, and Hardware.adc is None;"
                " give it an ADC (bits=None converts without rounding)"
            )

        if self.cell_by_cell and self.v_read is None:
            raise ValueError(
                "Hardware.v_read must be the voltage of an input of 1 where currents depend on it; got None"
            )
        law = self.conduction
        if isinstance(self.wires, Wires) and isinstance(self.wires.method, int) and law is not None and not law.linear:
            raise ValueError(
                f"Wires.method={self.wires.method}, sweeps, is for ohmic cells; got Hardware.conduction={law}"
            )
        if isinstance(self.wires, Wires) and self.wires.layout == "rows" and self.mapping.cells(1, 1)[0] != 2:
            raise ValueError(
                "Wires.layout='rows' subtracts two cells on one bit line: Hardware.mapping must have two cells for each"
                f" weight; got {self.mapping}"
            )

    @property
    def cell_by_cell(self) -> bool:
        """Whether the currents of an array are not a matrix product with its inputs."""
        gated = isinstance(self.wires, Wires) and self.wires.select is not None
        return gated or (self.conduction is not None and not self.conduction.linear)

    @property
    def noisy(self) -> bool:
        """Whether a read of an array needs a random key."""
        dac_noise = self.dac is not None and self.dac.noise is not None
        return dac_noise or self.weight_noise is not None or self.output_noise is not None


_PARTS = {
    "device": Device,
    "mapping": Mapping,
    "pulses": PulseTrain,
    "slices": Slices,
    "inputs": InputScaling,
    "dac": DAC,
    "wires": WireModel,
    "conduction": Conduction,
    "read_voltage": ReadVoltage,
    "weight_noise": WeightNoise,
    "nonlinearity": SShape,
    "output_noise": OutputNoise,
    "adc": ADC,
    "compensation": DriftCompensation,
    "modifier": Modifier,
    "transposed": Hardware,
}
