"""Weights of PyTorch: against its own equations, written out, and refused where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import anajax
from anajax import nn

close = np.testing.assert_allclose


def tensors(key, **shapes):
    keys = jax.random.split(key, len(shapes))
    named = zip(shapes.items(), keys, strict=True)
    return {n.replace("__", "."): np.asarray(jax.random.normal(k, s)) for (n, s), k in named}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_linear_layers_and_norms(key):
    t = tensors(key, a__weight=(5, 3), a__bias=(5,), n__weight=(5,), n__bias=(5,), n__running_mean=(5,))
    t |= {
        "n.running_var": np.full(5, 2.0, np.float32),
        "n.num_batches_tracked": np.array(3),
        "b.weight": t["a.weight"].T,
    }

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a, self.n = nnx.Linear(3, 5, rngs=rngs), nnx.BatchNorm(5, use_running_average=True, rngs=rngs)
            self.b = nnx.LinearGeneral(5, (1, 3), use_bias=False, rngs=rngs)

        def __call__(self, x):
            return self.b(self.n(self.a(x)))

    model = nn.from_torch(Model(nnx.Rngs(0)), t)
    x = jax.random.normal(key, (4, 3))
    y = x @ t["a.weight"].T + t["a.bias"]
    y = (y - t["n.running_mean"]) / np.sqrt(2.0 + 1e-5) * t["n.weight"] + t["n.bias"]
    close(model(x)[:, 0], y @ t["b.weight"].T, rtol=1e-4, atol=1e-5)
    analog = nn.from_torch(nn.convert(Model(nnx.Rngs(0)), anajax.Hardware()), t)
    close(analog(x), model(x), rtol=1e-4, atol=1e-5)
    assert isinstance(analog.a.kernel, nn.Kernel)


def test_convolutions_are_sums_over_their_windows(key):
    t = tensors(key, weight=(4, 2, 3, 2), bias=(4,))
    model = nn.from_torch(nnx.Conv(2, 4, (3, 2), padding="VALID", rngs=nnx.Rngs(0)), t)
    x = np.asarray(jax.random.normal(key, (1, 2, 6, 5)))  # [n, channels, height, width], as there
    wanted = np.empty((1, 4, 4, 4))
    for i in range(4):
        for j in range(4):
            wanted[:, :, i, j] = np.einsum("nchw,ochw->no", x[:, :, i : i + 3, j : j + 2], t["weight"]) + t["bias"]
    close(model(np.moveaxis(x, 1, -1)), np.moveaxis(wanted, 1, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_a_transposed_convolution_spreads_each_input(key, transpose_kernel):
    t = tensors(key, weight=(2, 4, 3), bias=(4,))
    options = {"strides": (2,), "padding": "VALID", "transpose_kernel": transpose_kernel}
    model = nn.from_torch(nnx.ConvTranspose(2, 4, (3,), rngs=nnx.Rngs(0), **options), t)
    x = np.asarray(jax.random.normal(key, (1, 2, 5)))
    wanted = np.tile(t["bias"][None, :, None], (1, 1, 11))
    for i in range(5):
        wanted[:, :, 2 * i : 2 * i + 3] += np.einsum("nc,cok->nok", x[:, :, i], t["weight"])
    close(model(np.moveaxis(x, 1, -1)), np.moveaxis(wanted, 1, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell"])
def test_gates_of_an_lstm_are_in_its_order(key, cell):
    t = tensors(key, l__weight_ih_l0=(16, 3), l__weight_hh_l0=(16, 4), l__bias_ih_l0=(16,), l__bias_hh_l0=(16,))
    model = nn.from_torch(nnx.RNN(getattr(nnx, cell)(3, 4, rngs=nnx.Rngs(0))), t, {"cell": "l._l0"})
    x = np.asarray(jax.random.normal(key, (1, 5, 3)))
    h, c = np.zeros(4), np.zeros(4)
    for step in x[0]:
        gates = t["l.weight_ih_l0"] @ step + t["l.weight_hh_l0"] @ h + t["l.bias_ih_l0"] + t["l.bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    close(model(x)[0, -1], h, rtol=1e-4, atol=1e-5)


def test_gates_of_a_gru_are_in_its_order(key):
    t = tensors(key, weight_ih=(12, 3), weight_hh=(12, 4), bias_ih=(12,), bias_hh=(12,))
    with pytest.raises(ValueError, match="bias_hh of the candidate must be zero"):
        nn.from_torch(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)), t)
    t["bias_hh"] = t["bias_hh"] * (np.arange(12) < 8)
    model = nn.from_torch(nnx.RNN(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))), t, {"cell": ""})
    x = np.asarray(jax.random.normal(key, (1, 5, 3)))
    h = np.zeros(4)
    for step in x[0]:
        a, b = np.split(t["weight_ih"] @ step + t["bias_ih"], 3), np.split(t["weight_hh"] @ h + t["bias_hh"], 3)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        h = (1 - z) * np.tanh(a[2] + r * b[2]) + z * h
    close(model(x)[0, -1], h, rtol=1e-4, atol=1e-5)


def test_attention_is_cut_into_heads(key):
    t = tensors(key, in_proj_weight=(24, 8), in_proj_bias=(24,), out_proj__weight=(8, 8), out_proj__bias=(8,))
    model = nn.from_torch(nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0)), t)
    x = np.asarray(jax.random.normal(key, (5, 8)))
    q, k, v = (p.reshape(5, 2, 4) for p in np.split(x @ t["in_proj_weight"].T + t["in_proj_bias"], 3, axis=-1))
    scores = np.exp(np.einsum("qhd,khd->hqk", q, k) / 2)
    mixed = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v).reshape(5, 8)
    close(model(x[None])[0], mixed @ t["out_proj.weight"].T + t["out_proj.bias"], rtol=1e-3, atol=1e-4)


def test_embeddings_analog_or_not(key):
    t = tensors(key, weight=(7, 3))
    x = jnp.arange(7)
    for model in (nnx.Embed(7, 3, rngs=nnx.Rngs(0)), nn.Embed(7, 3, rngs=nnx.Rngs(0))):
        close(nn.from_torch(model, t)(x), t["weight"], rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused(key):
    model = nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    t = {f"layers.{k}.{n}": a for k in (0, 1) for n, a in tensors(key, weight=(2, 3 - k), bias=(2,)).items()}
    nn.from_torch(model, t)
    nn.from_torch(model, {n.replace("layers", "net"): a for n, a in t.items()}, {"layers": "net"})
    with pytest.raises(ValueError, match=r"tensors must have 'layers\.1\.bias' for layers\.1; left are"):
        nn.from_torch(model, {n: a for n, a in t.items() if n != "layers.1.bias"})
    with pytest.raises(ValueError, match=r"tensors that found no place: head\.weight \(2, 2\)"):
        nn.from_torch(model, t | {"head.weight": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"layers\.0\.kernel must have shape \(3, 2\); its tensor makes \(4, 2\)"):
        nn.from_torch(model, t | {"layers.0.weight": np.zeros((2, 4))})

    class Own(nnx.Module):
        def __init__(self):
            self.gain = nnx.Param(jnp.ones(3))

    with pytest.raises(ValueError, match="parameters that no tensor fills: gain"):
        nn.from_torch(Own(), {})


def test_files_come_back_to_the_bit_or_are_refused(key, tmp_path):
    t, path = tensors(key, weight=(2, 3), bias=(2,)), tmp_path / "model.safetensors"
    save_file(t, path)
    for name, value in nn.read_safetensors(path).items():
        np.testing.assert_array_equal(value, t[name])
    whole = path.read_bytes()
    for broken in (whole[:-3], whole[:4], b"", b"\x80\x04\x95" + whole, b"\xff" * 8 + whole[8:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
            nn.read_safetensors(path)
    with pytest.raises(FileNotFoundError, match="no safetensors file at"):
        nn.read_safetensors(tmp_path / "none")
