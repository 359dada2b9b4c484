"""Networks of four kinds in plain Flax, and the data that they learn from."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from anajax import arrays, data

IMAGES, TEXTS = ("perceptron", "residual"), ("LSTM", "transformer")
LENGTH = 48  # characters of a sequence


class Examples(NamedTuple):
    """Inputs and classes, and with what batches and rate of Adam they are learned."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any
    classes: int
    batch: int
    rate: float


def load(name: str, data_dir: str | None) -> data.Dataset:
    """Return images, or digits where they are not prepared."""
    try:
        return data.load(name, data_dir)
    except FileNotFoundError as missing:
        print(f"digits stand in for {name}: {missing}")
        return data.load("digits")


def examples(name: str, data_dir: str | None, test: int) -> Examples:
    """Return images of Fashion-MNIST, or of digits where it is not prepared; or sequences of characters."""
    if name in TEXTS:
        text = data.load_text("tiny_shakespeare", data_dir)
        (x, y), (x_test, y_test) = _sequences(text.train), _sequences(text.test)
        few = max(test // 10, 8)
        return Examples(x[:12000], y[:12000], x_test[:few], y_test[:few], len(text.characters), 32, 4e-3)
    images = load("fashion_mnist", data_dir)
    x, x_test = jnp.asarray(images.x_train), jnp.asarray(images.x_test[:test])
    return Examples(x, jnp.asarray(images.y_train), x_test, jnp.asarray(images.y_test[:test]), 10, 64, 2e-3)


def _sequences(codes: np.ndarray) -> tuple[Any, Any]:
    """Cut a text into inputs, and what comes one later; in an order that is drawn once."""
    n = (len(codes) - 1) // LENGTH
    order = np.random.default_rng(0).permutation(n)
    return tuple(jnp.asarray(codes[k : k + n * LENGTH].reshape(n, LENGTH)[order]) for k in (0, 1))


class Block(nnx.Module):
    """Two convolutions, and the way around them."""

    def __init__(self, a: int, b: int, strides: int, *, rngs: nnx.Rngs):
        self.first = nnx.Conv(a, b, (3, 3), strides=strides, use_bias=False, rngs=rngs)
        self.second = nnx.Conv(b, b, (3, 3), use_bias=False, rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(b, momentum=0.9, rngs=rngs) for _ in range(2)])
        self.around = nnx.Conv(a, b, (1, 1), strides=strides, rngs=rngs) if a != b else nnx.identity

    def __call__(self, x: Any) -> Any:
        y = nnx.relu(self.norms[0](self.first(x)))
        return nnx.relu(self.norms[1](self.second(y)) + self.around(x))


class Residual(nnx.Module):
    """A residual network of three blocks."""

    def __init__(self, classes: int, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
        self.blocks = nnx.List([Block(a, b, s, rngs=rngs) for a, b, s in ((16, 16, 1), (16, 32, 2), (32, 32, 1))])
        self.head = nnx.Linear(32, classes, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


class Characters(nnx.Module):
    """A recurrent model of the next character."""

    def __init__(self, symbols: int, *, rngs: nnx.Rngs, width: int = 128):
        self.embed = nnx.Embed(symbols, 32, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(32, width, rngs=rngs))
        self.out = nnx.Linear(width, symbols, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.out(self.rnn(self.embed(x)))


class Layer(nnx.Module):
    """Attention, and a perceptron at each place."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.attend = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = x + self.attend(self.norms[0](x), is_causal=True)
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class Transformer(nnx.Module):
    """A decoder of two layers."""

    def __init__(self, symbols: int, *, rngs: nnx.Rngs, width: int = 64):
        self.embed = nnx.Embed(symbols, width, rngs=rngs)
        angle = np.arange(LENGTH)[:, None] * np.exp(-math.log(1e3) * np.arange(width // 2) / (width // 2))
        self.place = nnx.data(jnp.asarray(np.concatenate([np.sin(angle), np.cos(angle)], axis=1), jnp.float32))
        self.layers = nnx.List([Layer(width, rngs=rngs) for _ in range(2)])
        self.norm, self.out = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, symbols, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.embed(x) * math.sqrt(self.embed.features) + self.place[: x.shape[-1]]
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(x))


def make(name: str, classes: int, seed: int, pixels: int = 784) -> nnx.Module:
    """Return a network, untrained."""
    rngs = nnx.Rngs(seed)
    if name == "perceptron":
        parts = []
        for a, b in itertools.pairwise((pixels, 128, 64, classes)):
            parts += [nnx.Linear(a, b, rngs=rngs), nnx.relu]
        return nnx.Sequential(lambda x: x.reshape(len(x), -1), *parts[:-1])
    return {"residual": Residual, "LSTM": Characters, "transformer": Transformer}[name](classes, rngs=rngs)


def reordered(params: Any, x: Any, array_shape: tuple[int, int] | None, activation: Any) -> tuple[Any, Any]:
    """Return a perceptron of two layers with the inputs of both in the order of their means, and the order of `x`."""
    params = jax.tree.map(lambda a: a, params)
    one, two = params["layers"][0], params["layers"][2]
    kernel, bias, out = (v.get_value() for v in (one["kernel"], one["bias"], two["kernel"]))
    first = arrays.row_order(x, array_shape)
    second = arrays.row_order(activation(x @ kernel + bias), array_shape)
    one["kernel"].set_value(kernel[first][:, second])
    one["bias"].set_value(bias[second])
    two["kernel"].set_value(out[second])
    return params, first
