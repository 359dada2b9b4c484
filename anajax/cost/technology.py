"""Technology: what one operation of each component costs."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from anajax._record import Record, leaf, record, static


@record
class Technology(Record):
    """What the components of an array cost: energies [J], times [s], areas [m^2].

    A conversion of b bits costs, of the survey of converters by Walden and of thermal noise,

        E_adc = adc + max(adc_step 2**b, adc_thermal 4**b)

    Defaults are round numbers of a 14 nm chip with phase-change memory; take your own, or one of
    `anajax.cost.presets`.

    Attributes:
      v_read: voltage of a full input [V]; that of the hardware, if it has one, counts instead.
      t_read: time for which an array is read, in one phase [s].
      activity: share of V^2 t_read that a mean input spends: the mean of |x| for pulses of varied width, that of x^2
        for varied heights.
      phases: reads of an array for one product, such as one for each sign of inputs; bits of `BitSerial` come on top.
      c_cell: capacitance of a line for each cell that it passes [F].
      toggles: how often a line is charged in one phase.
      dac: energy of an input's conversion in one phase [J].
      integrator: energy of a column's integrator in one phase [J].
      adc: energy of a conversion, whatever its bits [J].
      adc_step: figure of merit of the ADC, per step of 2**b [J].
      adc_thermal: thermal limit of the ADC, per 4**b [J].
      adc_bits: bits of a conversion, where the hardware has no ADC that says.
      t_adc: time of a conversion [s].
      columns_per_adc: columns that an ADC converts one after the other, where the hardware does not say.
      overlap: whether columns are converted while the next phase is read, static.
      digital: energy for each output of a conversion: scale, offset, shift and add [J].
      t_digital: time of the digital part of a product [s].
      power: of whatever else an array has, as long as it works [W].
      v_write: voltage of a pulse [V].
      t_write: duration of a pulse [s].
      pulse: energy of a pulse besides that of its current and its lines [J].
      area_cell: of a cell [m^2].
      area_row: of the drivers of a row [m^2].
      area_column: of a column besides its ADC [m^2].
      area_adc: of an ADC [m^2].
      area: of whatever else an array has [m^2].
    """

    v_read: Array | float = leaf(default=0.2, gt=0)
    t_read: Array | float = leaf(default=128e-9, gt=0)
    activity: Array | float = leaf(default=0.25, ge=0)
    phases: Array | float = leaf(default=1.0, ge=1)
    c_cell: Array | float = leaf(default=0.05e-15, ge=0)
    toggles: Array | float = leaf(default=1.0, ge=0)
    dac: Array | float = leaf(default=0.2e-12, ge=0)
    integrator: Array | float = leaf(default=1e-12, ge=0)
    adc: Array | float = leaf(default=0.0, ge=0)
    adc_step: Array | float = leaf(default=10e-15, ge=0)
    adc_thermal: Array | float = leaf(default=4e-18, ge=0)
    adc_bits: Array | float = leaf(default=8.0, gt=0)
    t_adc: Array | float = leaf(default=10e-9, ge=0)
    columns_per_adc: Array | float = leaf(default=1.0, ge=1)
    overlap: bool = static(default=False, choices=(False, True))
    digital: Array | float = leaf(default=0.5e-12, ge=0)
    t_digital: Array | float = leaf(default=0.0, ge=0)
    power: Array | float = leaf(default=0.0, ge=0)
    v_write: Array | float = leaf(default=1.0, ge=0)
    t_write: Array | float = leaf(default=100e-9, ge=0)
    pulse: Array | float = leaf(default=0.0, ge=0)
    area_cell: Array | float = leaf(default=0.1e-12, ge=0)
    area_row: Array | float = leaf(default=100e-12, ge=0)
    area_column: Array | float = leaf(default=100e-12, ge=0)
    area_adc: Array | float = leaf(default=300e-12, ge=0)
    area: Array | float = leaf(default=0.0, ge=0)

    def conversion(self, bits: Array | float) -> Array:
        """Return the energy of an ADC's conversion of so many bits [J]."""
        bits = jnp.asarray(bits)
        return self.adc + jnp.maximum(self.adc_step * 2.0**bits, self.adc_thermal * 4.0**bits)
