"""ADC ranges of every layer, from data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from anajax import arrays
from anajax.arrays import Analytic, Hardware, RangeRule, Tile
from anajax.arrays.calibration import with_bound
from anajax.nn.analog import frozen_key, over_groups
from anajax.nn.model import Apply, hosts, layers


def calibrate_adc(
    apply: Apply,
    params: Any,
    hardware: Any,
    batches: Iterable[Any],
    rule: RangeRule | Analytic,
    *,
    key: Array | None = None,
    chip: Any = None,
    time: Array | float = 0.0,
    **kwargs: Any,
) -> dict[str, Hardware]:
    """Choose the ADC's bound of each layer from the currents that its converters see.

    Args:
      apply: from `split`.
      params: parameters.
      hardware: one `Hardware` for all layers, or `{name: Hardware}`, with ADCs.
      batches: model inputs, one batch each.
      rule: `arrays.Maximum()`, `Quantile(...)`, `MovingQuantile(...)` or `Analytic(...)`.
      key: random key for noise of the reads, or `None` for currents without noise.
      chip: as `apply` takes it; `None` for weights as they are.
      time: seconds since programming.
      **kwargs: passed on to the model (`rest=` and such).

    Returns:
      `{name: Hardware}`, to be passed to `apply`. What reaches a layer is that of ideal hardware: no clipping and no
      noise before it. Layers whose currents are all zero keep their bound, and so do products of attention.
    """

    @jax.jit
    def seen(key: Array | None, x: Any) -> dict[str, Any]:
        inputs: dict[str, list[Array]] = {}
        apply.merge(params, Hardware(), inputs=inputs, train=False, **kwargs)(x)
        model = apply.merge(params, hardware, key=key, time=time, chip=chip, train=False, **kwargs)
        found = {}
        for name, layer in layers(model):
            given = [jnp.moveaxis(i, -2, 0).reshape(i.shape[-2], -1, i.shape[-1]) for i in inputs.get(name, [])]
            if given:
                rows = jnp.concatenate(given, axis=1)  # [groups, vectors, rows]
                found[name] = _moments(rows) if isinstance(rule, Analytic) else _currents(layer, rows)
        return found

    states: dict[str, Any] = {}
    for count, x in enumerate(batches):
        for name, y in seen(None if key is None else jax.random.fold_in(key, count), x).items():
            if isinstance(rule, Analytic):
                states[name] = jax.tree.map(jnp.add, states[name], y) if name in states else y
            else:
                states[name] = rule.add(states.get(name), y)
    if not states:
        raise ValueError("batches is empty: ADC ranges are calibrated from at least one batch")
    model = apply.merge(params, hardware, key=key, time=time, chip=chip, **kwargs)
    calibrated = {name: host.hardware.get_value() for name, host in hosts(model)}
    for name, layer in layers(model):
        if name in states:
            analytic = isinstance(rule, Analytic)
            bound = _analytic(rule, layer, states[name]) if analytic else rule.bound(states[name])
            calibrated[name] = with_bound(calibrated[name], bound)
    return calibrated


def _currents(layer: Any, x: Array) -> Array:
    hardware = layer.hardware.get_value()
    read = None if layer.context.key is None else layer.context.keys(None)[1]
    return over_groups(
        lambda k, e, x: arrays.currents(k, hardware, e, x, _input_range(layer)), read, _effective(layer), x
    )


def _effective(layer: Any) -> Any:
    hardware, context = layer.hardware.get_value(), layer.context
    if context.chip is None:
        return over_groups(lambda _, w: arrays.unprogrammed(None, hardware, w), None, layer.matrices())
    if isinstance(context.chip, Tile):
        frozen = None if context.key is None else frozen_key(context.key)
        return layer.settle(frozen, context.chip, context.time)
    return context.chip


def _input_range(layer: Any) -> Array | None:
    return None if layer.input_range is None else layer.input_range[...]


def _moments(x: Array) -> tuple[Array, Array, Array]:
    """Return number, sum and sum of squares of inputs `[groups, vectors, rows]`, by group and row."""
    return jnp.asarray(float(x.shape[1])), jnp.sum(x, axis=1), jnp.sum(x**2, axis=1)


def _analytic(rule: Any, layer: Any, state: tuple[Array, Array, Array]) -> Array:
    count, total, squares = state
    mean = total / count
    std = jnp.sqrt(jnp.maximum(squares / count - mean**2, 0.0))
    hardware, effective = layer.hardware.get_value(), _effective(layer)
    bounds = over_groups(lambda _, e, m, s: rule(hardware, e, m, s, _input_range(layer)), None, effective, mean, std)
    return jnp.max(bounds)
