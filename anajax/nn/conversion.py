"""Flax models onto crossbars and back: conversion, and what it did."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from flax import nnx

from anajax.arrays import Hardware
from anajax.arrays.mapping import grid
from anajax.nn.analog import AnalogLayer, Conductance, Linear
from anajax.nn.attention import AttentionProducts
from anajax.nn.convolution import Conv, ConvTranspose
from anajax.nn.general import Einsum, Embed, LinearGeneral
from anajax.nn.model import named_modules
from anajax.nn.recurrent import RNN

#: Flax's layers, and those on crossbars; `Embed` stays digital unless `where` asks for it
ANALOG: dict[type, type] = {
    nnx.Linear: Linear,
    nnx.LinearGeneral: LinearGeneral,
    nnx.Einsum: Einsum,
    nnx.Conv: Conv,
    nnx.ConvTranspose: ConvTranspose,
    nnx.Embed: Embed,
}
DIGITAL = {analog: digital for digital, analog in ANALOG.items()}

#: what analog layers have of their own
OWN = ("hardware", "chip", "context", "deterministic", "output_scale", "input_range", "adapter", "kernel")

Choice = Callable[[str, nnx.Module], Any]


def convert(
    model: nnx.Module,
    hardware: Hardware | Callable[[str, nnx.Module], Hardware | None],
    where: Choice | None = None,
    products: Hardware | None = None,
    **options: Any,
) -> Any:
    """Return a copy of a Flax model whose layers are analog: `Linear`, `LinearGeneral`, `Einsum`, `Conv`, ...

    Layers inside of others are converted too, so that cells, `MultiHeadAttention` and `LoRA` need nothing of their own.
    `Embed` stays digital unless `where` asks for it, and so do the products of attention, without `products`. An `RNN`
    becomes one that draws fresh noise at each step. Layers that are shared stay shared, and analog ones keep their
    hardware, as do products. `report` says what became of each.

    Args:
      model: any NNX model; it stays as it is.
      hardware: for all converted layers, or `hardware(name, layer)`, which returns `None` for what stays digital.
      where: `where(name, layer)` chooses which layers to convert; all but `Embed` by default.
      products: for the products of queries with keys, and of attention weights with values; see `AttentionProducts`.
      **options: options of the analog layers, such as `learn_output_scale=True`.

    Example:
      >>> import anajax
      >>> from flax import nnx
      >>> model = nnx.Sequential(nnx.Linear(64, 32, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(32, 10, rngs=nnx.Rngs(1)))
      >>> analog = anajax.nn.convert(model, anajax.presets.standard_aimc())
      >>> print(anajax.nn.report(analog))
      layer     kind    weights  shape    arrays   used
      layers.0  Linear    2,048  64 x 32       1  0.8 %
      layers.2  Linear      320  32 x 10       1  0.1 %
      2,368 of 2,412 parameters (98.2 %) on arrays: 2
    """
    model = _analog(nnx.clone(model), hardware, _by_default if where is None else where, options)
    for _, module in list(named_modules(model)):
        if products is None or not isinstance(module, nnx.MultiHeadAttention):
            continue
        if not isinstance(module.attention_fn, AttentionProducts):
            _attend(module, nnx.data(AttentionProducts(products)))
    return model


def make_analog(module: nnx.Module, hardware: Hardware, **options: Any) -> None:
    """Convert the layers of a module in place."""
    _analog(module, hardware, lambda name, layer: True, options)


def _analog(model: Any, hardware: Any, where: Choice, options: dict[str, Any]) -> Any:
    made = {}
    for name, module in list(named_modules(model)):
        if type(module) is nnx.RNN:
            made[id(module)] = _recast(module, RNN)
        kind = ANALOG.get(type(module))
        if kind is None or not where(name, module):
            continue
        own = hardware if isinstance(hardware, Hardware) or not callable(hardware) else hardware(name, module)
        if own is not None:
            made[id(module)] = layer = _recast(module, kind)
            layer.set_up(own, **({"learn_output_scale": False, "param_dtype": layer.param_dtype} | options))
    return _replaced(model, made)


def to_digital(model: nnx.Module) -> Any:
    """Return a copy of a model whose analog layers are Flax's own again, with the same weights.

    Learned output scales and adapters go into the kernels. Learned input ranges are left out, as a digital layer clips
    nothing.

    Args:
      model: a model with analog layers; it stays as it is.
    """
    model, made = nnx.clone(model), {}
    for name, module in list(named_modules(model)):
        kind = DIGITAL.get(type(module))
        if kind is None:
            if type(module) is RNN:
                made[id(module)] = _recast(module, nnx.RNN)
            if isinstance(getattr(module, "attention_fn", None), AttentionProducts):
                _attend(module, nnx.static(nnx.dot_product_attention))
            continue
        if module.crossbar is not None:
            raise ValueError(f"layer {name!r} lives in conductances, which no digital kernel holds to the bit")
        if module.output_scale is not None:
            module.kernel.set_value(module.kernel[...] * module.kernel.spread(module.output_scale[...]))
        if module.adapter is not None:
            nnx.update(module, module.kernel_of(module.matrices() + module.adapter.matrices()))
        kept = {n: v for n, v in module.kernel.get_metadata().items() if n != "outputs"}
        kernel = nnx.Param(module.kernel.get_value(), **kept)
        for own in OWN:
            delattr(module, own)
        made[id(module)] = layer = _recast(module, kind)
        setattr(layer, "embedding" if kind is nnx.Embed else "kernel", kernel)
    return _replaced(model, made)


def _attend(module: Any, how: Any) -> None:
    """Give attention another `attention_fn`, where its own is a usual one."""
    if module.attention_fn is not nnx.dot_product_attention and not isinstance(module.attention_fn, AttentionProducts):
        raise ValueError(f"products of attention cannot replace an attention_fn of one's own: {module.attention_fn}")
    module.attention_fn = how


def _recast(module: Any, kind: type) -> Any:
    """Return a module of another class with the attributes of this one: an analog layer is Flax's, with hardware."""
    new = object.__new__(kind)
    vars(new).update(vars(module))
    return new


def _replaced(model: Any, made: dict[int, Any]) -> Any:
    """Put what is made in the places of the modules it was made of."""
    for _, parent in list(nnx.iter_graph(model)):
        parent = made.get(id(parent), parent)
        items = parent if isinstance(parent, dict) else vars(parent) if hasattr(parent, "__dict__") else {}
        for name, value in list(items.items()):
            if id(value) in made:
                setattr(parent, name, made[id(value)])
            elif isinstance(value, list):
                value[:] = [made.get(id(v), v) for v in value]
    return made.get(id(model), model)


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer of a report: `arrays` of the crossbar and the share of their weights that is `used`; 0 in digital.

    Products of attention have no weights of their own, and arrays by what they are given: `None`.
    """

    layer: str
    kind: str
    weights: int
    shape: str
    arrays: int | None
    used: float


@dataclasses.dataclass(frozen=True)
class Report:
    """What of a model is analog, and what is not; `str` is a table.

    Attributes:
      rows: of all modules with parameters of their own.
      parameters: of the whole model.
    """

    rows: list[Row]
    parameters: int

    def __str__(self) -> str:
        lines = [("layer", "kind", "weights", "shape", "arrays", "used")]
        for r in self.rows:
            arrays, used = (f"{r.arrays:,}", f"{100 * r.used:.1f} %") if r.arrays else ("digital", "")
            arrays = "by length" if r.arrays is None else arrays
            lines.append((r.layer, r.kind, f"{r.weights:,}", r.shape, arrays, used))
        wide = [max(len(line[k]) for line in lines) for k in range(6)]
        text = ["  ".join(_put(t, wide[k], k) for k, t in enumerate(line)).rstrip() for line in lines]
        mapped, arrays = sum(r.weights for r in self.rows if r.arrays), sum(r.arrays or 0 for r in self.rows)
        share = 100 * mapped / max(self.parameters, 1)
        return "\n".join([*text, f"{mapped:,} of {self.parameters:,} parameters ({share:.1f} %) on arrays: {arrays:,}"])


def report(model: nnx.Module) -> Report:
    """Return what of a model runs on crossbar arrays, layer by layer, and what is left digital.

    Args:
      model: any NNX model, such as one from `convert`.
    """
    rows, seen, total = [], set(), 0
    for name, module in list(named_modules(model)):
        own = [v for v in vars(module).values() if isinstance(v, nnx.Param | Conductance) and id(v) not in seen]
        seen.update(map(id, own))
        sizes = sorted((v.get_value().shape for v in own if isinstance(v, nnx.Param)), key=len, reverse=True)
        total += sum(map(math.prod, sizes))
        kind = type(module).__name__
        if isinstance(module, AnalogLayer):
            groups, r, c = module.shape
            total += 0 if module.crossbar is None else groups * r * c
            limit = module.hardware.get_value().array_shape
            n_rows, n_cols, _, _ = grid(r, c, limit)
            room = n_rows * n_cols * (r * c if limit is None else math.prod(limit))
            shape = f"{groups} x " * (groups > 1) + f"{r} x {c}"
            rows.append(Row(name, kind, groups * r * c, shape, groups * n_rows * n_cols, r * c / room))
        elif isinstance(module, AttentionProducts):
            rows.append(Row(name, kind, 0, "activations", None, 0.0))
        elif sizes:
            shape = " + ".join(" x ".join(map(str, size)) for size in sizes)
            rows.append(Row(name, kind, sum(map(math.prod, sizes)), shape, 0, 0.0))
    return Report(rows, total)


def _by_default(name: str, module: nnx.Module) -> bool:
    return not isinstance(module, nnx.Embed)


def _put(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column in (0, 1, 3) else text.rjust(width)
