"""From a Flax model to pure functions: split it, apply it, program it onto chips."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx
from flax.nnx.tracers import current_jax_trace
from jax import Array

from anajax import _check
from anajax._random import fold_read
from anajax.arrays import Effective, Hardware, Tile
from anajax.nn.analog import AnalogLayer, Chip, Conductance, Context, Hosted, Spec, frozen_key

ChipState = dict[str, Tile]

#: what training changes: by gradients, and by pulses
PARAMETERS = (nnx.Param, Conductance)


class Apply:
    """A model as a pure function of its parameters, its hardware, and what one evaluation is given.

    Made by `split`. `apply(params, hardware, x, key=..., time=..., chip=...)` hands every analog layer its
    key (folded by a hash of the layer's name), its time and its chip, so that models whose `__call__(x)`
    knows of neither work as they are.
    """

    def __init__(self, graphdef: Any, specs: Any, chips: Any, rest: Any, names: list[str], hosts: list[str]):
        self._graphdef, self._specs, self._chips, self._rest = graphdef, specs, chips, rest
        self.names, self._hosts = names, hosts

    def __repr__(self) -> str:
        return f"Apply({', '.join(self.names)})"

    @property
    def rest(self) -> Any:
        """Flax's other state, such as batch statistics, of the model at `split`."""
        return self._rest

    @property
    def structure(self) -> Any:
        """Flax's definition of the model: its modules and their settings."""
        return self._graphdef

    def __call__(self, params: Any, hardware: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the model's output.

        Args:
          params: the `nnx.State` of parameters.
          hardware: one `Hardware` for all analog layers, or `{name: Hardware}`.
          *args: arguments of the model's own `__call__`.
          **kwargs: the following; others go to the model's own `__call__`.
            key: random key; needed as soon as anything is random.
            time: seconds since programming; 0 by default.
            chip: `{name: Tile}` from `program`, or `{name: Effective}` from `settle`; `None` is no chip.
            rest: Flax's other state (batch statistics); that of the model at `split` by default.
            train: `True` or `False` as `model.train()` or `.eval()`; `None` as the model was at `split`.
        """
        return self.updating(params, hardware, *args, **kwargs)[0]

    def updating(
        self,
        params: Any,
        hardware: Any,
        *args: Any,
        key: Array | None = None,
        time: Array | float = 0.0,
        chip: Any = None,
        rest: Any = None,
        train: bool | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """Return `(output, rest)`: as `apply`, with Flax's other state as the call leaves it."""
        model = self.merge(params, hardware, key=key, time=time, chip=chip, rest=rest, train=train)
        output = model(*args, **kwargs)
        return output, nnx.split(model, PARAMETERS, Spec, Chip, ...)[4]

    def program(self, key: Array | None, params: Any, hardware: Any) -> ChipState:
        """Make one chip, as `program(key, model)` does, of the model with these parameters and hardware."""
        return program(key, self.merge(params, hardware))

    def settle(
        self,
        params: Any,
        hardware: Any,
        *,
        chip: ChipState,
        key: Array | None = None,
        time: Array | float = 0.0,
    ) -> dict[str, Effective]:
        """Return every layer's arrays as they stand at `time`, to be passed on as `chip=` for many inputs.

        The same key given here and to `apply` makes the two steps equal to the one.
        """
        model = self.merge(params, hardware, key=key, time=time, chip=chip)
        settled = {}
        for name, layer in layers(model):
            c = layer.context
            settled[name] = layer.settle(None if c.key is None else frozen_key(c.key), c.chip, time)
        return settled

    def merge(
        self,
        params: Any,
        hardware: Any,
        *,
        key: Array | None = None,
        time: Array | float = 0.0,
        chip: Any = None,
        rest: Any = None,
        train: bool | None = None,
        inputs: dict[str, list[Array]] | None = None,
    ) -> Any:
        """Return a copy of the model, ready for one call. `inputs` collects what each analog layer is given."""
        rest = self._rest if rest is None else rest
        model = nnx.merge(self._graphdef, params, self._specs, self._chips, rest, copy=True)
        if train is not None:
            (model.train if train else model.eval)()
        _check_names("hardware", hardware if isinstance(hardware, dict) else {}, self._hosts)
        _check_names("chip", chip or {}, self.names)
        for name, layer in hosts(model):
            layer.hardware.set_value(hardware[name] if isinstance(hardware, dict) else hardware)
            layer.context = Context(
                key=None if key is None else fold_name(key, name),
                time=time,
                chip=(chip or {}).get(name),
                inputs=None if inputs is None else inputs.setdefault(name, []),
                trace=current_jax_trace(),
            )
        _reseed(model, key)
        return model


def split(model: nnx.Module) -> tuple[Apply, Any, Any, Any]:
    """Split a model into a pure function and what it works on.

    Args:
      model: any NNX module, with or without analog layers.

    Returns:
      `(apply, params, hardware, rest)`: the function; the parameters, an `nnx.State` that optax takes as it
      is; the `Hardware` that all analog layers share, or `{name: Hardware}` where they differ; and Flax's
      other state, such as batch statistics. They are copies: training them leaves the model as it is, until
      `nnx.update(model, params)`.

    Example:
      >>> import anajax, jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> model = anajax.nn.Linear(3, 2, hardware=anajax.presets.standard_aimc(), rngs=nnx.Rngs(0))
      >>> apply, params, hardware, rest = anajax.nn.split(model)
      >>> apply(params, hardware, jnp.ones((5, 3)), key=jax.random.key(0)).shape
      (5, 2)
    """
    graphdef, params, specs, chips, rest = (
        part if i == 0 else jax.tree.map(lambda a: a, part)
        for i, part in enumerate(nnx.split(model, PARAMETERS, Spec, Chip, ...))
    )
    found = dict(hosts(model))
    hardware = {name: layer.hardware.get_value() for name, layer in found.items()}
    first = next(iter(hardware.values()), Hardware())
    shared = all(_same(first, h) for h in hardware.values())
    names = [name for name, _ in layers(model)]
    return Apply(graphdef, specs, chips, rest, names, list(found)), params, first if shared else hardware, rest


def layers(model: nnx.Module) -> Iterator[tuple[str, Any]]:
    """Yield `(name, layer)` of every analog layer of a model; names are dotted paths, `"self"` for itself."""
    return ((name, module) for name, module in named_modules(model) if isinstance(module, AnalogLayer))


def hosts(model: nnx.Module) -> Iterator[tuple[str, Any]]:
    """Yield what of a model has hardware: the analog layers, and products of attention on arrays."""
    return ((name, module) for name, module in named_modules(model) if isinstance(module, Hosted))


def named_modules(model: nnx.Module) -> Iterator[tuple[str, Any]]:
    """Yield `(name, module)` of every module of a model, parts before their wholes; names as those of `layers`."""
    return ((".".join(map(str, path)) or "self", module) for path, module in nnx.iter_modules(model))


def program(key: Array | None, model: nnx.Module) -> ChipState:
    """Make one chip: fabricate every analog layer's arrays and program its weights onto them.

    Args:
      key: random key; `None` gives mean devices without programming error.
      model: a model with analog layers.

    Returns:
      `{name: Tile}`: standard scores, valid for any weights and hardware of these shapes.
    """
    chip = {n: layer.program(None if key is None else fold_name(key, n)) for n, layer in layers(model)}
    if not chip and not any(True for _ in hosts(model)):
        raise ValueError(f"{type(model).__name__} has no analog layers; see anajax.nn.convert")
    return chip


def fold_name(key: Array, name: str) -> Array:
    """Return the key of a layer, by its name."""
    return fold_read(key, zlib.crc32(name.encode()))


def _reseed(model: nnx.Module, key: Array | None) -> None:
    """Give Flax's own random streams (dropout) keys of this call; what they stored would repeat."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.RngStream) and key is not None:
            node.key.set_value(fold_name(key, "/".join(map(str, path))))
            node.count.set_value(jax.numpy.zeros_like(node.count.get_value()))


def _same(a: Hardware, b: Hardware) -> bool:
    one, other = jax.tree.flatten(a), jax.tree.flatten(b)
    return one[1] == other[1] and all(map(_equal, one[0], other[0]))


def _equal(x: Array, y: Array) -> bool:
    """Whether two fields are known to be the same: what is traced is only itself."""
    if x is y:
        return True
    return _check.is_concrete(x) and _check.is_concrete(y) and x.shape == y.shape and bool((x == y).all())


def _check_names(what: str, given: dict[str, Any], names: list[str]) -> None:
    if given and set(given) != set(names):
        raise ValueError(
            f"{what} must have one entry for each analog layer, {', '.join(names)}; got {', '.join(given)}"
        )
