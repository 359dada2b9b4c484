"""What hardware-aware training needs around an optax loop: functions from parameters to parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from anajax import arrays
from anajax.arrays import Hardware
from anajax.nn.analog import Chip, Kernel, OutputScale, Spec
from anajax.nn.model import Apply, layers


def clip(
    params: Any,
    *,
    value: float | Array | None = None,
    sigmas: float | Array | None = None,
    mean_column_max: bool = False,
    per: str = "layer",
) -> Any:
    """Clip the weights of every analog layer.

    Args:
      params: parameters from `split`; what is not on arrays stays.
      value: clip at this magnitude.
      sigmas: clip at this many standard deviations of the weights (Joshi et al. 2020: 2 to 2.5, of a layer's).
      mean_column_max: clip at the mean over columns of the largest magnitude.
      per: of whose weights standard deviations are: those of the `"layer"`, or of each `"column"`.

    Returns:
      New parameters. Exactly one rule must be given.
    """
    rules = [value is not None, sigmas is not None, mean_column_max]
    if sum(rules) != 1:
        raise ValueError(
            f"clip takes exactly one of value, sigmas, mean_column_max; got value={value}, sigmas={sigmas},"
            f" mean_column_max={mean_column_max}"
        )

    _among(per, ("column", "layer"))

    def clipped(layer: Any) -> None:
        kernel: Kernel = layer["kernel"]
        w = kernel.get_value()
        if value is not None:
            bound = jnp.asarray(value, w.dtype)
        elif sigmas is not None:
            std = functools.partial(jnp.std, ddof=1)
            bound = sigmas * (std(w) if per == "layer" else kernel.by_column(std, w))
        else:
            bound = jnp.mean(kernel.by_column(jnp.max, jnp.abs(w)))
        layer["kernel"].set_value(jnp.clip(w, -bound, bound))

    return _edited(clipped, params)


def remap(params: Any, per: str = "column") -> Any:
    """Move the size of the weights into the learned output scales: the largest weight becomes 1.

    Args:
      params: parameters from `split`; analog layers need `learn_output_scale=True`.
      per: `"column"` or `"layer"`: what is brought to 1.

    Returns:
      New parameters, of the same products of weight and scale.
    """
    _among(per, ("column", "layer"))

    def remapped(layer: Any) -> None:
        if "output_scale" not in layer:
            raise ValueError("remap needs learned output scales: make the layers with learn_output_scale=True")
        kernel: Kernel = layer["kernel"]
        w = kernel.get_value()
        peak = kernel.by_column(jnp.max, jnp.abs(w)) if per == "column" else jnp.max(jnp.abs(w))
        peak = jnp.where(peak > 0, peak, 1.0)
        kernel.set_value(w / peak)
        scale: OutputScale = layer["output_scale"]
        scale.set_value(scale.get_value() * kernel.gathered(peak))

    return _edited(remapped, params)


def compensate(apply: Apply, params: Any, hardware: Any, *, steps: int = 50, **kwargs: Any) -> Any:
    """Choose weights with which every analog layer, through its wires, computes as it should with those of `params`.

    Args:
      apply: from `split`.
      params: parameters.
      hardware: with `wires`; as `apply` takes it.
      steps: iterations for each matrix; see `anajax.arrays.compensate`.
      **kwargs: passed on to the model (`rest=` and such).

    Returns:
      New parameters.
    """
    model = apply.merge(params, hardware, **kwargs)
    for _, layer in layers(model):
        found = [arrays.compensate(layer.hardware.get_value(), w, steps=steps)[0] for w in layer.matrices()]
        nnx.update(layer, layer.kernel_of(jnp.stack(found)))
    return nnx.split(model, nnx.Param, ...)[1]


def init_input_ranges(apply: Apply, params: Any, batches: Iterable[Any], alpha: float = 3.0, **kwargs: Any) -> Any:
    """Set learned input ranges to `alpha` standard deviations of each layer's inputs, averaged over batches.

    Source: Rasch et al., Nat. Commun. 14:5282 (2023), with the first 100 batches and alpha = 3.

    Args:
      apply: from `split`.
      params: parameters with learned input ranges.
      batches: model inputs, one batch each.
      alpha: how many standard deviations.
      **kwargs: passed on to the model (`rest=` and such).

    Returns:
      New parameters. The inputs are those of ideal hardware: no clipping, no noise.
    """

    @jax.jit
    def spreads(x: Any) -> dict[str, Array]:
        seen: dict[str, list[Array]] = {}
        model = apply.merge(params, Hardware(), inputs=seen, train=False, **kwargs)
        model(x)
        return {name: jnp.mean(jnp.stack([jnp.std(i) for i in given])) for name, given in seen.items() if given}

    total, count = None, 0
    for x in batches:
        found = spreads(x)
        total = found if total is None else jax.tree.map(jnp.add, total, found)
        count += 1
    if total is None:
        raise ValueError("batches is empty: input ranges are initialised from at least one batch")
    model = apply.merge(params, Hardware(), **kwargs)
    for name, layer in layers(model):
        if layer.input_range is not None and float(total.get(name, 0.0)) > 0:  # no inputs, or zeros, tell nothing
            layer.input_range.set_value((alpha * total[name] / count).astype(layer.input_range.get_value().dtype))
    return nnx.split(model, nnx.Param, ...)[1]


def recalibrate(
    apply: Apply,
    params: Any,
    hardware: Any,
    batches: Iterable[Any],
    *,
    key: Array,
    rest: Any = None,
    **at: Any,
) -> Any:
    """Estimate the statistics of batch normalisation again, on a chip and at a time (AdaBS).

    Source: Joshi et al., Nat. Commun. 11:2473 (2020).

    Args:
      apply: from `split`.
      params: parameters.
      hardware: hardware of the evaluation.
      batches: model inputs; statistics are their average.
      key: random key for the reads.
      rest: Flax's other state to start from.
      **at: `chip=`, `time=`.

    Returns:
      New `rest`, to be passed to `apply`.
    """

    @jax.jit
    def statistics(key: Array, x: Any) -> Any:
        model = apply.merge(params, hardware, key=key, rest=rest, train=False, **at)
        for _, module in nnx.iter_modules(model):
            if isinstance(module, nnx.BatchNorm):
                module.use_running_average = False
                module.momentum = 0.0  # the statistics of this batch alone
        model(x)
        return nnx.split(model, nnx.Param, Spec, Chip, ...)[4]

    total, count = None, 0
    for x in batches:
        found = statistics(jax.random.fold_in(key, count), x)
        total = found if total is None else jax.tree.map(_add_floats, total, found)
        count += 1
    if total is None:
        raise ValueError("batches is empty: statistics need at least one batch")
    return jax.tree.map(lambda a: a / count if jnp.issubdtype(a.dtype, jnp.floating) else a, total)


def _add_floats(a: Array, b: Array) -> Array:
    return a + b if jnp.issubdtype(a.dtype, jnp.floating) else a


def _among(per: str, allowed: tuple[str, ...]) -> None:
    if per not in allowed:
        raise ValueError(f"per must be {' or '.join(map(repr, allowed))}; got {per!r}")


def _edited(f: Callable[[Any], None], params: Any) -> Any:
    """Return a copy of `params` after `f(layer)` on the part of every analog layer."""
    params = jax.tree.map(lambda a: a, params)

    def visit(part: Any) -> None:
        if isinstance(part.get("kernel"), Kernel):
            f(part)
        for value in part.values():
            if hasattr(value, "values"):
                visit(value)

    visit(params)
    return params
