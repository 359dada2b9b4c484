"""A network trained aware of its hardware, which experiments take as given."""

from typing import Any

import jax
import jax.numpy as jnp

import anajax
from anajax import data, nn, perceptron
from anajax.arrays import DeviceNoise

HIDDEN = {"digits": (64,), "mnist": (256, 128), "fashion_mnist": (256, 128)}


def network(name: str, hardware: anajax.Hardware, epochs: int, images: int, seed: int = 0) -> Any:
    """Return `apply, params, x, y` of a perceptron, plainly trained and then aware, and of test images.

    The recipe is that of the demo: twice the device's noise, fresh for each batch, and weights clipped at two sigma.
    """
    dataset = data.load(name)
    x, x_test = (jnp.asarray(a.reshape(len(a), -1)) for a in (dataset.x_train, dataset.x_test[:images]))
    y, y_test = jnp.asarray(dataset.y_train), jnp.asarray(dataset.y_test[:images])
    sizes = (x.shape[1], *HIDDEN[name], dataset.classes)
    apply, params, hardware, _ = nn.split(perceptron.network(sizes, hardware, seed))
    steps, keys = epochs * len(x) // 64, jax.random.split(jax.random.key(seed))
    params, _ = nn.train(apply, params, anajax.Hardware(), x, y, steps, keys[0])
    params = nn.init_input_ranges(apply, params, [x[:5000]])
    aware = hardware.replace(modifier=DeviceNoise(scale=2.0))
    params, _ = nn.train(apply, params, aware, x, y, steps, keys[1], after=lambda p: nn.clip(p, sigmas=2.0))
    return apply, params, x_test, y_test
