"""Analog layers: Flax NNX modules whose matrix products run on crossbar arrays.

A layer behaves by what it is given: nothing (its weights go straight to the arrays, with the modifier of
hardware-aware training while it trains), or a chip (the weights as that chip holds them at a time).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.tracers import current_jax_trace
from jax import Array

from anajax import arrays
from anajax._random import fold_read, split_read
from anajax.arrays import Crossbar, Effective, Examples, Hardware, LearnedRange, Tile
from anajax.devices import Ideal


class Kernel(nnx.Param):
    """Weights that live on arrays; `outputs` of its metadata are the axes that an output has an index of."""

    def columns(self) -> tuple[int, ...]:
        """Return the axes that are not summed over, in the order of the outputs."""
        return self.get_metadata()["outputs"]

    def by_column(self, reduce: Any, w: Array) -> Array:
        """Return `reduce(w, axis=...)` of each column of a kernel `w` of these axes, kept as it broadcasts."""
        return reduce(w, axis=tuple(a for a in range(w.ndim) if a not in self.columns()), keepdims=True)

    def spread(self, factors: Array) -> Array:
        """Return factors of the outputs, `[groups * cols]`, in a shape that broadcasts to the kernel."""
        axes, shape = self.columns(), self.get_value().shape
        by_axis = factors.reshape([shape[a] for a in axes]).transpose([axes.index(a) for a in sorted(axes)])
        return by_axis.reshape([shape[a] if a in axes else 1 for a in range(len(shape))])

    def gathered(self, factors: Array) -> Array:
        """Return what `spread` makes of the result: factors that broadcast to the kernel, as `[groups * cols]`."""
        axes, shape = self.columns(), self.get_value().shape
        whole = jnp.broadcast_to(factors, [shape[a] if a in axes else 1 for a in range(len(shape))])
        by_axis = whole.reshape([shape[a] for a in sorted(axes)])
        return by_axis.transpose([sorted(axes).index(a) for a in axes]).ravel()


class OutputScale(nnx.Param):
    """Learned digital factor of each output column."""


class InputRange(nnx.Param):
    """Learned input that maps to the DAC's full scale."""


class Conductance(nnx.Variable):
    """Weights that live in conductances, a `Crossbar` in the place of a kernel: they change by pulses only."""


class Spec(nnx.Variable):
    """The hardware of a layer."""


class Chip(nnx.Variable):
    """What one chip adds to a layer: a `Tile`, or `None`."""


@dataclasses.dataclass(eq=False)
class Context:
    """What `apply` hands to one layer for one forward pass; lives on a merged copy of the model only.

    In the loop of a recurrent layer the arrays are `held` as they stand at its start, and `step` is where it is.
    """

    key: Array | None = None
    time: Array | float = 0.0
    chip: Tile | Effective | None = None
    calls: int = 0
    inputs: list[Array] | None = None
    trace: Any = None
    held: Effective | None = None
    step: Array | None = None

    def keys(self, key: Array | None) -> tuple[Array | None, Array | None]:
        """Return the keys of one call: for the frozen noise of settling, and for what is fresh.

        Calls of one pass share the frozen noise, which belongs to chip and time, and nothing else.
        """
        self.calls += 1
        n = self.calls if key is None else 1
        if key is None:
            key = self.key
            if key is not None and self.step is not None:
                return frozen_key(key), fold_read(key, n, self.step)
            if key is not None and self.trace != current_jax_trace():
                raise ValueError(
                    "an analog layer inside a transformation of its own (scan, vmap, jit, remat within the model) would"
                    " repeat one noise for every step or example: pass it key= there, or loop by anajax.nn.over_time"
                )
        if key is None:
            return None, None
        return frozen_key(key), fold_read(key, n)

    def in_loop(self, held: Effective | None) -> Context:
        """Return the context of a loop's steps; one within a step of another loop goes on from that step's key."""
        key = self.key if self.step is None or self.key is None else fold_read(self.key, self.calls, self.step)
        return dataclasses.replace(self, held=held, key=key)

    def called(self, crossbar: Crossbar) -> Crossbar:
        """Return the crossbar with its room for what this call tells it; leaves have an axis of groups."""
        if not isinstance(crossbar.seen, Examples):
            return crossbar
        if self.calls > crossbar.seen.x.shape[1]:
            raise ValueError(f"Crossbar.seen has room for {crossbar.seen.x.shape[1]} calls of a layer: make it anew")
        return crossbar.replace(seen=jax.tree.map(lambda a: a[:, self.calls - 1], crossbar.seen))


def frozen_key(key: Array) -> Array:
    """Return the key for the noise that is drawn when arrays settle."""
    return fold_read(key, 0)


class Hosted:
    """What `apply` finds in a model and gives its hardware, and the context of the call."""

    hardware: Spec
    context: Context | None

    @property
    def crossbar(self) -> Crossbar | None:
        """The `Crossbar` that weights live in, or `None`."""
        return None

    def hold(self) -> Effective | None:
        """Return the arrays as every step of a loop meets them; `None` for what has no weights."""
        return None


class OnCrossbars:
    """What is made as Flax's own is, with hardware; subclasses say what `set_up` does with it."""

    param_dtype: Any

    def __init__(
        self,
        *args: Any,
        hardware: Hardware | None = None,
        learn_output_scale: bool = False,
        rngs: nnx.Rngs,
        **kwargs: Any,
    ):
        super().__init__(*args, rngs=rngs, **kwargs)  # pyright: ignore[reportCallIssue]
        self.set_up(hardware, learn_output_scale, self.param_dtype)

    def set_up(self, hardware: Hardware | None, learn_output_scale: bool, param_dtype: Any) -> None:
        """Give a module of Flax what an analog one has of its own."""
        raise NotImplementedError


class AnalogLayer(Hosted, OnCrossbars):
    """What all analog layers share. Subclasses say how inputs and weights become matrices.

    Attributes:
      hardware: `Spec` holding the layer's `Hardware`.
      chip: `Chip` holding the `Tile` that the layer reads when a call passes none, or `None`.
      deterministic: whether the modifier of hardware-aware training is off; set by `model.train()`, `.eval()`.
      output_scale: learned digital scales `[out_features]`, or `None`.
      input_range: learned input range, where `hardware.inputs` is a `LearnedRange`; else `None`.
      adapter: a digital product of low rank beside the arrays, from `with_adapters`; else `None`.
    """

    in_features: Any
    out_features: Any
    kernel: Any
    bias: Any

    def set_up(self, hardware: Hardware | None, learn_output_scale: bool, param_dtype: Any) -> None:
        """Give a layer of Flax what an analog one has of its own."""
        if hardware is None:
            hardware = Hardware()
        if not isinstance(hardware, Hardware):
            raise TypeError(f"hardware must be a Hardware; got {type(hardware).__name__}")
        plain = {"dot_general": jax.lax.dot_general, "conv_general_dilated": jax.lax.conv_general_dilated}
        for name in ("precision", "preferred_element_type", "dot_general_cls", *plain):
            if getattr(self, name, None) not in (None, plain.get(name)):
                raise ValueError(f"{name} is not supported by analog layers; got {getattr(self, name)!r}")
        self.kernel = Kernel(self.kernel.get_value(), **self.kernel.get_metadata(), outputs=self._outputs())
        self.hardware = Spec(hardware)
        self.chip = Chip(None)
        self.context = None
        self.deterministic = False
        columns = self.matrices().shape[-1] * self.matrices().shape[0]
        self.output_scale = OutputScale(jnp.ones((columns,), param_dtype)) if learn_output_scale else nnx.data(None)
        self.input_range = nnx.data(None)
        self.adapter = nnx.data(None)
        if isinstance(hardware.inputs, LearnedRange):
            self.input_range = InputRange(jnp.asarray(hardware.inputs.initial, param_dtype))

    def matrices(self) -> Array:
        """Return the weights as matrices, `[groups, rows, cols]`."""
        raise NotImplementedError

    def _outputs(self) -> tuple[int, ...]:
        """Return the axes of the kernel that an output has an index of, groups first."""
        return (self.kernel.get_value().ndim - 1,)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Groups, rows and columns of the matrices."""
        if self.crossbar is not None:
            rows, cols = self.crossbar.shape
            return len(self.crossbar.scale), rows, cols
        groups, rows, cols = self.matrices().shape
        return groups, rows, cols

    def kernel_of(self, matrices: Array) -> Any:
        """Return the kernel of matrices `[groups, rows, cols]`, as a state to update the layer with."""
        graphdef, kernel, rest = nnx.split(self, Kernel, ...)
        # matrices are a permutation of the kernel, so the transpose is the inverse
        return jax.linear_transpose(lambda k: nnx.merge(graphdef, k, rest).matrices(), kernel)(matrices)[0]

    @property
    def crossbar(self) -> Crossbar | None:
        """The `Crossbar` that the weights live in, its leaves with an axis of groups; `None` for a kernel."""
        return self.kernel.get_value() if isinstance(self.kernel, Conductance) else None

    @property
    def _like_weights(self) -> Array:
        """Return an array of the type of the weights."""
        return self.kernel[...] if self.crossbar is None else self.crossbar.scale

    def program(self, key: Array | None) -> Tile:
        """Fabricate arrays and program the layer's weights onto them; leaves carry the axis of groups."""
        if self.crossbar is not None:
            raise ValueError("weights that live in conductances are programmed already: their Conductance is the chip")
        hardware = self.hardware.get_value()
        return over_groups(lambda key, w: arrays.program(key, hardware, w), key, self.matrices())

    def settle(self, key: Array | None, chip: Tile, time: Array | float) -> Effective:
        """Return the layer's arrays as they stand `time` seconds after programming."""
        hardware = self.hardware.get_value()
        return over_groups(lambda key, tile, w: arrays.settle(key, hardware, tile, w, time), key, chip, self.matrices())

    def _training(self, chip: Tile | Effective | None) -> bool:
        """Return whether weights go to the arrays with the modifier of hardware-aware training."""
        return self.hardware.get_value().modifier is not None and not self.deterministic and chip is None

    def hold(self) -> Effective:
        """Return the arrays as every step of a loop meets them: on their chip, or with one draw of the modifier."""
        context = self.context or Context()
        if context.held is not None:
            return context.held
        frozen = None if context.key is None else frozen_key(context.key)
        chip = context.chip if context.chip is not None else self.chip.get_value()
        if isinstance(chip, Tile):
            return self.settle(frozen, chip, context.time)
        if chip is not None:
            return chip
        hardware, drawn = self.hardware.get_value(), frozen if self._training(chip) else None
        return over_groups(lambda key, w: arrays.unprogrammed(key, hardware, w), drawn, self.matrices())

    def _forward(
        self,
        inputs: Array,
        bias: Array | None,
        key: Array | None,
        time: Array | float | None,
        chip: Tile | Effective | None,
    ) -> Array:
        """Run input vectors `[..., groups, rows]` through the arrays, and finish in digital: `[..., out]`."""
        context = self.context or Context()
        if context.inputs is not None:
            context.inputs.append(inputs)
        frozen_key, read_key = context.keys(key)
        time = context.time if time is None else time
        chip = chip if chip is not None else context.chip if context.chip is not None else self.chip.get_value()

        hardware: Hardware = self.hardware.get_value()
        training = self._training(chip)
        crossbar = self.crossbar
        if crossbar is not None and chip is not None:
            raise ValueError(f"chip must be None where weights live in conductances; got a {type(chip).__name__}")
        settling = (isinstance(chip, Tile) or crossbar is not None) and not isinstance(hardware.device, Ideal)
        if read_key is None and (hardware.noisy or training or settling):
            raise ValueError(
                f"{type(self).__name__} is noisy and was called without a key: pass key=jax.random.key(...) to"
                " the layer, or to the apply function of anajax.nn.split(model)"
            )
        input_range = None if self.input_range is None else self.input_range[...]
        x = jnp.moveaxis(inputs, -2, 0)
        if crossbar is not None:
            crossbar = context.called(crossbar)
            effective = over_groups(lambda k, c: arrays.stand(k, hardware, c, time), frozen_key, crossbar)

            def learn(keys: Array | None, crossbar: Crossbar, effective: Effective, x: Array) -> Array:
                return arrays.in_situ_mvm(keys, hardware, crossbar, effective, x, input_range)

            y = over_groups(learn, read_key, crossbar, effective, x, keys=2)
        elif chip is None:

            def multiply(keys: Array | None, held: Effective | None, w: Array, x: Array) -> Array:
                noise, read = (None, None) if keys is None else keys
                return arrays.aware_mvm(noise if training else None, read, hardware, w, x, input_range, held)

            y = over_groups(multiply, read_key, context.held, self.matrices(), x, keys=2)
        else:
            effective = context.held
            if effective is None:
                effective = self.settle(frozen_key, chip, time) if isinstance(chip, Tile) else chip
            y = over_groups(lambda k, e, x: arrays.mvm(k, hardware, e, x, input_range), read_key, effective, x)
        y = jnp.moveaxis(y, 0, -2).reshape(*inputs.shape[:-2], -1)
        if self.output_scale is not None:
            y = y * self.output_scale[...]
        if self.adapter is not None:
            y = y + self.adapter(inputs)
        return (y if bias is None else y + bias).astype(inputs.dtype)


class Linear(AnalogLayer, nnx.Linear):
    """`flax.nnx.Linear` on crossbar arrays.

    Takes the arguments of `flax.nnx.Linear`, and:

    Args:
      hardware: the `Hardware`; `None` is ideal.
      learn_output_scale: whether each output gets a learned digital factor.

    Example:
      >>> import jax, anajax
      >>> from flax import nnx
      >>> layer = anajax.nn.Linear(3, 2, hardware=anajax.presets.standard_aimc(), rngs=nnx.Rngs(0))
      >>> layer(jax.numpy.ones((5, 3)), key=jax.random.key(0)).shape
      (5, 2)
    """

    def matrices(self) -> Array:
        """Return the kernel, `[1, in_features, out_features]`."""
        return self.kernel[...][None]

    def __call__(
        self,
        inputs: Array,
        out_sharding: Any = None,
        *,
        key: Array | None = None,
        time: Array | float | None = None,
        chip: Tile | Effective | None = None,
    ) -> Array:
        """Apply the layer.

        Args:
          inputs: `[..., in_features]`.
          out_sharding: not supported; must be `None`.
          key: random key for the noise of this call.
          time: seconds since programming, for a chip.
          chip: from `program` or `settle`; `None` for the layer's own, or none.

        Returns:
          `[..., out_features]`.
        """
        no_sharding(out_sharding)
        check_features(inputs, self.in_features)
        bias = None if self.bias is None else self.bias[...]
        inputs, _, bias = self.promote_dtype((inputs, self._like_weights, bias), dtype=self.dtype)
        return self._forward(inputs[..., None, :], bias, key, time, chip)


def over_groups(f: Any, key: Array | None, *args: Any, keys: int | None = None) -> Any:
    """Map `f(key, ...)` over the leading axis of groups, with one key each, or several; one needs no vmap."""
    groups = jax.tree.leaves(args[-1])[0].shape[0]
    if groups == 1:
        own = key if key is None or keys is None else split_read(key, (keys,))
        result = f(own, *jax.tree.map(lambda a: jnp.squeeze(a, 0), args))
        return jax.tree.map(lambda a: jnp.expand_dims(a, 0), result)
    own = None if key is None else split_read(key, (groups,) if keys is None else (groups, keys))
    return jax.vmap(f, in_axes=(None if key is None else 0, *(0 for _ in args)))(own, *args)


def check_features(inputs: Array, features: int) -> None:
    """Raise where the last axis of the inputs is not that of the features."""
    if inputs.ndim == 0 or inputs.shape[-1] != features:
        raise ValueError(f"inputs must have {features} features on their last axis; got shape {inputs.shape}")


def no_sharding(out_sharding: Any) -> None:
    """Raise where a sharding of the outputs is asked for."""
    if out_sharding is not None:
        raise ValueError(f"out_sharding is not supported by analog layers; got {out_sharding!r}")
