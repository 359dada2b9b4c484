"""What products, inferences and training examples cost, component by component."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from anajax.arrays import BitSerial, Hardware
from anajax.cost.technology import Technology
from anajax.nn.model import layers


class Cost(NamedTuple):
    """What something costs.

    Attributes:
      energy: by component [J].
      latency: time [s].
      area: by component [m^2].
      operations: multiplications and additions, two for each weight and product.
    """

    energy: dict[str, Array]
    latency: Array
    area: dict[str, Array]
    operations: Array

    @property
    def joules(self) -> Array:
        """Energy of all components [J]."""
        return _total(self.energy)

    @property
    def square_metres(self) -> Array:
        """Area of all components [m^2]."""
        return _total(self.area)

    @property
    def watts(self) -> Array:
        """Mean power [W]."""
        return self.joules / self.latency

    @property
    def tops(self) -> Array:
        """Throughput, in 10^12 operations per second."""
        return self.operations / self.latency / 1e12

    @property
    def tops_per_watt(self) -> Array:
        """Efficiency, in 10^12 operations per joule."""
        return self.operations / self.joules / 1e12

    @property
    def tops_per_mm2(self) -> Array:
        """Throughput for each square millimetre."""
        return self.tops / (self.square_metres * 1e6)

    def repeated(self, n: Array | float) -> Cost:
        """Return the cost of `n` times the same, one after the other."""
        return self._replace(
            energy={name: n * e for name, e in self.energy.items()},
            latency=n * self.latency,
            operations=n * self.operations,
        )


def combined(costs: Sequence[Cost], *, parallel: bool = False) -> Cost:
    """Return the cost of several parts of a chip together.

    Args:
      costs: of the parts, each with arrays of its own.
      parallel: whether they work side by side, so that the slowest counts, as in a pipeline; else times add.
    """
    if not costs:
        raise ValueError("costs must name at least one part; got none")
    latencies = jnp.stack([c.latency for c in costs])
    return Cost(
        energy=_sums([c.energy for c in costs]),
        latency=jnp.max(latencies) if parallel else jnp.sum(latencies),
        area=_sums([c.area for c in costs]),
        operations=_total({str(i): c.operations for i, c in enumerate(costs)}),
    )


def mvm(
    hardware: Hardware,
    technology: Technology,
    shape: tuple[int, int],
    *,
    conductance: Array | float | None = None,
    transposed: bool = False,
) -> Cost:
    """Return the cost of a product of one vector with a `rows` x `cols` matrix of weights.

    In each phase every array spends, with N inputs on rows, M lines and the mean conductance G of its cells,

        dac        N E_dac                           wires       N M c_cell toggles V^2
        array      cells G V^2 t_read activity       integrator  M E_integrator
        adc        conversions E_adc(bits)           digital     conversions E_digital

    Arrays work side by side; what follows is added in digital. Energies count the lines in use, areas whole arrays.
    Source: the general form of Marinella et al., IEEE JETCAS 8:86 (2018), and of Shafiee et al., ISCA 2016.

    Args:
      hardware: the spec: array shape, mapping, slices, ADC, and bit-serial inputs.
      technology: what each component costs.
      shape: of the weights.
      conductance: mean conductance of a cell [S]; by default half of the device's largest.
      transposed: whether the columns are driven and the rows read.
    """
    rows, cols = _checked_shape(shape)
    limit = hardware.array_shape or (rows, cols)
    n_rows, n_cols = (-(-n // most) for n, most in zip((rows, cols), limit, strict=True))
    slices = 1 if hardware.slices is None else hardware.slices.count
    outputs = 1 if hardware.slices is None else hardware.slices.outputs
    cells, _, lines = hardware.mapping.cells(rows, cols * slices)
    driven, read = (rows * n_cols, lines * n_rows) if not transposed else (lines * n_rows, rows * n_cols)
    conversions = cols * outputs * n_rows if not transposed else rows * n_cols
    pulses, converted = _serial(hardware.dac)

    g = hardware.device.g_max / 2 if conductance is None else conductance
    v = technology.v_read if hardware.v_read is None else hardware.v_read
    n = technology.phases * pulses
    phases_converted = technology.phases * converted
    bits = getattr(hardware.adc, "bits", None)
    each = technology.conversion(technology.adc_bits if bits is None else bits)
    shared = getattr(hardware.adc, "columns_per_adc", None)
    shared = technology.columns_per_adc if shared is None else shared

    reading, converting = technology.t_read, technology.t_adc * shared
    phase = jnp.maximum(reading, converting) if technology.overlap else reading + converting
    waiting = (n - phases_converted) * reading  # phases that add before one conversion
    latency = phases_converted * phase + waiting + technology.t_digital
    arrays = n_rows * n_cols
    energy = {
        "array": n * cells * rows * lines * jnp.abs(g) * v**2 * technology.t_read * technology.activity,
        "dac": n * driven * technology.dac,
        "wires": n * rows * lines * technology.c_cell * technology.toggles * v**2,
        "integrator": n * read * technology.integrator,
        "adc": phases_converted * conversions * each,
        "digital": phases_converted * conversions * technology.digital,
        "other": arrays * technology.power * latency,
    }
    whole_rows, whole_cols = (n_rows * limit[0], n_cols * limit[1])
    _, _, whole_lines = hardware.mapping.cells(limit[0], limit[1] * slices)
    area = {
        "array": arrays * cells * limit[0] * whole_lines * technology.area_cell,
        "rows": whole_rows * n_cols * technology.area_row,
        "columns": whole_lines * arrays * technology.area_column,
        "adc": whole_cols * outputs * n_rows / shared * technology.area_adc,
        "other": arrays * technology.area,
    }
    return Cost(_arrays(energy), jnp.asarray(latency), _arrays(area), jnp.asarray(2.0 * rows * cols))


def inference(
    apply: Any,
    params: Any,
    hardware: Hardware | Mapping[str, Hardware],
    technology: Technology,
    x: Any,
    *,
    conductance: Array | float | None = None,
) -> dict[str, Cost]:
    """Return the cost of one inference by layer: each patch of a convolution is one product.

    Args:
      apply: from `anajax.nn.split`.
      params: parameters.
      hardware: one `Hardware`, or `{name: Hardware}`.
      technology: what each component costs.
      x: inputs of the model, `[n, ...]`, of which the shape alone counts.
      conductance: mean conductance of a cell [S], if not half of the largest.

    Returns:
      `{name: Cost}` of a single input, without products of attention; `combined(costs.values())` is that of the chip.
    """
    batch = jax.tree.leaves(x)[0].shape[0]
    seen: dict[str, list[Array]] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def run(params: Any, x: Any) -> None:
        model = apply.merge(params, hardware, key=jax.random.key(0), inputs=seen)
        model(x)
        shapes.update({name: layer.matrices().shape for name, layer in layers(model)})

    jax.eval_shape(run, params, x)
    found = {}
    for name, (groups, rows, cols) in shapes.items():
        spec = hardware if isinstance(hardware, Hardware) else hardware[name]
        vectors = sum(math.prod(a.shape[:-2]) for a in seen[name]) / batch
        one = mvm(spec, technology, (rows, cols), conductance=conductance)
        found[name] = combined([one] * groups, parallel=True).repeated(vectors)
    return found


def training(
    hardware: Hardware,
    technology: Technology,
    shape: tuple[int, int],
    *,
    pulses: Array | float = 1.0,
    length: Array | float | None = None,
    transferred: Array | float = 0.0,
    transfer: Array | float = 0.0,
    conductance: Array | float | None = None,
) -> Cost:
    """Return the cost of one example of in-situ training of a matrix: a read, a transposed read, and an update.

    An update sends trains of `length` slots to all lines, at half of the voltage each; a cell that counts a pulse
    spends G V^2 t. The current of half-selected cells, which a selector or a steep current-voltage law cuts off, is
    left out; so is communication.

    Args:
      hardware: the spec.
      technology: what each component costs.
      shape: of the weights.
      pulses: of a weight by one example, on average; see the counts in the states of `anajax.optim`.
      length: slots of a train; by default those of the hardware's pulses.
      transferred: weights that are transferred for each example, on average (cells / 8,000, if all are every 8,000).
      transfer: energy of a transfer of one weight [J].
      conductance: mean conductance of a cell [S], if not half of the largest.
    """
    rows, cols = _checked_shape(shape)
    forward = mvm(hardware, technology, shape, conductance=conductance)
    backward = mvm(hardware, technology, shape, conductance=conductance, transposed=True)
    g = hardware.device.g_max / 2 if conductance is None else conductance
    slots = hardware.pulses.length if length is None else length
    current = jnp.abs(g) * technology.v_write**2 * technology.t_write
    lines = 2 * rows * cols * technology.c_cell * (technology.v_write / 2) ** 2  # those of rows, and of columns
    energy = {
        "update": rows * cols * pulses * (current + technology.pulse) + slots * lines,
        "transfer": jnp.asarray(transferred) * transfer,
    }
    update = Cost(_arrays(energy), jnp.asarray(slots * technology.t_write), {}, jnp.asarray(2.0 * rows * cols))
    return combined([forward, backward._replace(area={}), update])


def _serial(dac: Any) -> tuple[int, int]:
    """Return the phases of an input, and how many of them are converted."""
    if not isinstance(dac, BitSerial):
        return 1, 1
    return dac.count, dac.count if dac.add == "digital" else 1


def _checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"shape must be two positive integers, rows and columns of weights; got {shape!r}")
    return shape


def _arrays(costs: dict[str, Any]) -> dict[str, Array]:
    return {name: jnp.asarray(cost) for name, cost in costs.items()}


def _total(costs: dict[str, Array]) -> Array:
    return sum(costs.values(), start=jnp.zeros(()))


def _sums(costs: list[dict[str, Array]]) -> dict[str, Array]:
    names = dict.fromkeys(name for c in costs for name in c)
    return {name: _total({str(i): c[name] for i, c in enumerate(costs) if name in c}) for name in names}
