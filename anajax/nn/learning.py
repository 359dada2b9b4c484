"""Models whose weights live in conductances, for training on the crossbar itself."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from anajax import arrays
from anajax.arrays import Crossbar, Examples, Hardware
from anajax.devices import Device
from anajax.nn.analog import Conductance, over_groups
from anajax.nn.model import PARAMETERS, Apply, fold_name, layers


def in_situ(key: Array | None, model: nnx.Module) -> Any:
    """Return a copy of a model whose analog layers live in conductances: fabricated, programmed, ready for pulses.

    Its parameters, as `split` returns them, hold a `Conductance` in the place of each kernel; optimisers of
    `anajax.optim` train these, any other the biases and what else is digital.

    Args:
      key: random key; `None` gives mean devices without programming error.
      model: a model with analog layers; it stays as it is.
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(f"model must be an nnx.Module, after the key; got {type(model).__name__}")
    model = nnx.clone(model)
    found = dict(layers(model))
    if not found:
        raise ValueError(f"{type(model).__name__} has no analog layers; see anajax.nn.convert")
    for name, layer in found.items():
        hardware: Hardware = layer.hardware.get_value()
        _check_trainable(name, hardware)

        def write(key: Array | None, weights: Array, hardware: Hardware = hardware) -> Crossbar:
            return arrays.in_conductances(key, hardware, weights)

        own = None if key is None else fold_name(key, name)
        layer.kernel = Conductance(over_groups(write, own, layer.matrices()))
    return model


def _check_trainable(name: str, hardware: Hardware) -> None:
    device = hardware.device
    if type(device).pulse is Device.pulse or type(device).wait is Device.wait:
        raise ValueError(
            f"Hardware.device of layer {name!r} must be one that pulses change; got {type(device).__name__}."
            " Take one such as devices.SoftBounds, or a preset such as devices.presets.rram_es()"
        )
    if hardware.compensation is not None:
        raise ValueError(
            f"Hardware.compensation of layer {name!r} must be None: it refers to weights as they were programmed, and"
            " pulses move these"
        )


def by_example(apply: Apply, params: Any, hardware: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the parameters with room for what each example of a batch tells the crossbars.

    Pulses of a mini-batch then follow one another example by example, every vector of a convolution in turn, and
    those of a layer that is called several times call by call, instead of in one jump. Batches must have the size of
    the one given here.

    Args:
      apply: from `split`, of a model of `in_situ`.
      params: its parameters.
      hardware: its hardware.
      *args: a batch, as `apply` takes it.
      **kwargs: as `apply` takes them, but for those of `Apply` itself.
    """
    seen: dict[str, list[Array]] = {}

    def run(params: Any, hardware: Any, args: Any) -> Any:
        model = apply.merge(params, hardware, key=jax.random.key(0), inputs=seen)
        return model(*args, **kwargs)

    jax.eval_shape(run, params, hardware, args)
    model = apply.merge(params, hardware)
    for name, layer in layers(model):
        crossbar = layer.crossbar
        if crossbar is None:
            continue
        calls = seen.get(name, [])
        if len({call.shape for call in calls}) != 1:
            shapes = [call.shape for call in calls]
            raise ValueError(f"{name} must be called with inputs of one shape for pulses by example; got {shapes}")
        groups, n, (rows, cols) = calls[0].shape[-2], math.prod(calls[0].shape[:-2]), crossbar.shape
        each, dtype = (groups, len(calls), n), crossbar.scale.dtype
        room = Examples(x=jnp.zeros((*each, rows), dtype), d=jnp.zeros((*each, cols), dtype))
        layer.kernel.set_value(crossbar.replace(seen=room))
    return nnx.state(model, nnx.Any(*PARAMETERS))
