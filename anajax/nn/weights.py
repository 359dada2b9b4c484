"""Weights from elsewhere: safetensors files, and the layout of PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from anajax.nn.model import named_modules

Taken = Callable[[str], np.ndarray]


def read_safetensors(path: str | Path) -> dict[str, Array]:
    """Return the tensors of a safetensors file by name.

    Args:
      path: of the file. Nothing of it is executed.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is not whole, or something else.
    """
    from safetensors import SafetensorError
    from safetensors.flax import load_file

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no safetensors file at {path}")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error


def from_torch(model: nnx.Module, tensors: Mapping[str, Any], names: Mapping[str, str] | None = None) -> Any:
    """Return a copy of a Flax model with weights in the layout of PyTorch.

    Known are `Linear`, `LinearGeneral` of one matrix, `Conv`, `ConvTranspose`, `Embed`, the normalisations, `LSTMCell`,
    `OptimizedLSTMCell`, `GRUCell` (without a recurrent bias of the candidate, which Flax's has not), `SimpleCell`, and
    `MultiHeadAttention`; analog layers take what Flax's do. Every tensor must find its place, and every parameter its
    tensor.

    Args:
      model: with the shapes of the tensors; it stays as it is.
      tensors: a `state_dict` as arrays, such as `read_safetensors` returns.
      names: Flax's dotted path -> prefix of the tensors, for modules whose names differ; the longest path that fits
        counts. Cells may be named with their layer: `"cell": "lstm._l0"` reads `lstm.weight_ih_l0`.

    Raises:
      ValueError: shapes differ, or tensors or parameters are left over; the error names them.

    Example:
      >>> import numpy as np
      >>> from flax import nnx
      >>> import anajax
      >>> tensors = {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(2, np.float32)}
      >>> layer = anajax.nn.from_torch(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), tensors, {"self": "fc"})
      >>> layer.kernel.shape
      (3, 2)
    """
    model = nnx.clone(model)
    left = {name: np.asarray(t) for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
    filled: set[int] = set()
    for name, module in reversed(list(named_modules(model))):  # wholes before their parts
        kind = next((k for k in _LAYOUTS if isinstance(module, k)), None)
        if kind is None or any(id(v) in filled for v in _variables(module)):
            continue
        taker = functools.partial(_take, left, name, _prefix(name, names or {}))
        for place, value in _LAYOUTS[kind](module, taker).items():
            variable = module
            for part in place.split("."):
                variable = getattr(variable, part)
            _put(variable, value, f"{name}.{place}")
            filled.add(id(variable))
    if left:
        raise ValueError(f"tensors that found no place: {', '.join(f'{n} {t.shape}' for n, t in left.items())}")
    empty = [
        ".".join(map(str, path))
        for path, v in nnx.iter_graph(model)
        if type(v) in (nnx.Param, nnx.BatchStat) and id(v) not in filled
    ]
    if empty:
        raise ValueError(f"parameters that no tensor fills: {', '.join(empty)}")
    return model


def _variables(module: Any) -> list[Any]:
    return [v for v in vars(module).values() if isinstance(v, nnx.Variable)]


def _take(left: dict[str, np.ndarray], module: str, prefix: str, name: str) -> np.ndarray:
    """Take a tensor from those that are left."""
    full = _joined(prefix, name)
    if full not in left:
        near = ", ".join(n for n in left if n.startswith(prefix.split("._")[0])) or ", ".join(left) or "none"
        raise ValueError(f"tensors must have {full!r} for {module}; left are {near}")
    return left.pop(full)


def _prefix(path: str, names: Mapping[str, str]) -> str:
    """Return the name that PyTorch has for a module."""
    if path in names:
        return names[path]
    if path == "self":
        return ""
    for k in range(path.count("."), 0, -1):
        head, tail = ".".join(path.split(".")[:k]), ".".join(path.split(".")[k:])
        if head in names:
            return f"{names[head]}.{tail}"
    return path


def _joined(prefix: str, name: str) -> str:
    """Return `prefix.name`; a prefix `lstm._l0` makes `lstm.name_l0`."""
    head, mark, layer = prefix.partition("._")
    return f"{head}.{name}{mark[1:]}{layer}" if head else name


def _put(variable: Any, value: np.ndarray, name: str) -> None:
    wanted = variable.get_value()
    if wanted.shape != value.shape:
        raise ValueError(f"{name} must have shape {wanted.shape}; its tensor makes {value.shape}")
    variable.set_value(jnp.asarray(value, wanted.dtype))


def _with_bias(module: Any, kernel: np.ndarray, take: Taken) -> dict[str, np.ndarray]:
    return {"kernel": kernel} | ({} if module.bias is None else {"bias": take("bias")})


def _linear(module: Any, take: Taken) -> dict[str, np.ndarray]:
    return _with_bias(module, take("weight").T, take)


def _linear_general(module: Any, take: Taken) -> dict[str, np.ndarray]:
    found = _linear(module, take)
    shapes = {name: getattr(module, name).get_value().shape for name in found}
    return {name: value.reshape(shapes[name]) for name, value in found.items()}


def _conv(module: Any, take: Taken) -> dict[str, np.ndarray]:
    return _with_bias(module, np.moveaxis(take("weight"), (0, 1), (-1, -2)), take)


def _conv_transpose(module: Any, take: Taken) -> dict[str, np.ndarray]:
    weight = take("weight")  # [in, out, *kernel], the kernel of the convolution that it transposes
    if module.transpose_kernel:
        return _with_bias(module, np.moveaxis(weight, (0, 1), (-1, -2)), take)
    flipped = np.flip(weight, tuple(range(2, weight.ndim)))
    return _with_bias(module, np.moveaxis(flipped, (0, 1), (-2, -1)), take)


def _embed(module: Any, take: Taken) -> dict[str, np.ndarray]:
    return {"kernel" if hasattr(module, "kernel") else "embedding": take("weight")}


def _norm(module: Any, take: Taken) -> dict[str, np.ndarray]:
    found = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    return {ours: take(theirs) for ours, theirs in found.items() if getattr(module, ours, None) is not None}


def _gates(take: Taken) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return take("weight_ih").T, take("weight_hh").T, take("bias_ih"), take("bias_hh")


def _optimized_lstm(module: Any, take: Taken) -> dict[str, np.ndarray]:
    w_i, w_h, b_i, b_h = _gates(take)
    return {"dense_i.kernel": w_i, "dense_h.kernel": w_h, "dense_h.bias": b_i + b_h}


def _lstm(module: Any, take: Taken) -> dict[str, np.ndarray]:
    w_i, w_h, b_i, b_h = _gates(take)
    cut = [np.split(a, 4, axis=-1) for a in (w_i, w_h, b_i + b_h)]
    found = {}
    for k, gate in enumerate("ifgo"):
        found |= {f"{'if_' if gate == 'f' else 'i' + gate}.kernel": cut[0][k], f"h{gate}.kernel": cut[1][k]}
        found[f"h{gate}.bias"] = cut[2][k]
    return found


def _gru(module: Any, take: Taken) -> dict[str, np.ndarray]:
    w_i, w_h, b_i, b_h = _gates(take)
    third = len(b_h) // 3
    if np.any(b_h[2 * third :]):
        raise ValueError("bias_hh of the candidate must be zero: the GRUCell of Flax has none")
    return {"dense_i.kernel": w_i, "dense_h.kernel": w_h, "dense_i.bias": b_i + b_h}


def _simple(module: Any, take: Taken) -> dict[str, np.ndarray]:
    w_i, w_h, b_i, b_h = _gates(take)
    found = {"dense_i.kernel": w_i, "dense_h.kernel": w_h}
    places = [p for p in ("dense_i", "dense_h") if getattr(module, p).bias is not None]
    return found | {f"{places[0]}.bias": b_i + b_h} | {f"{p}.bias": 0 * b_i for p in places[1:]}


def _attention(module: Any, take: Taken) -> dict[str, np.ndarray]:
    weight = take("in_proj_weight")
    heads = (module.num_heads, module.head_dim)
    found = {f"{n}.kernel": w.T.reshape(-1, *heads) for n, w in zip(_QKV, np.split(weight, 3), strict=True)}
    found["out.kernel"] = take("out_proj.weight").T.reshape(*heads, -1)
    if module.use_bias:
        parts = np.split(take("in_proj_bias"), 3)
        found |= {f"{n}.bias": b.reshape(heads) for n, b in zip(_QKV, parts, strict=True)}
        found["out.bias"] = take("out_proj.bias")
    return found


_QKV = ("query", "key", "value")

_LAYOUTS: dict[Any, Callable[[Any, Taken], dict[str, np.ndarray]]] = {
    nnx.MultiHeadAttention: _attention,
    nnx.OptimizedLSTMCell: _optimized_lstm,
    nnx.LSTMCell: _lstm,
    nnx.GRUCell: _gru,
    nnx.SimpleCell: _simple,
    nnx.LinearGeneral: _linear_general,
    nnx.Linear: _linear,
    nnx.ConvTranspose: _conv_transpose,
    nnx.Conv: _conv,
    nnx.Embed: _embed,
    nnx.BatchNorm: _norm,
    nnx.LayerNorm: _norm,
    nnx.GroupNorm: _norm,
    nnx.RMSNorm: _norm,
}
