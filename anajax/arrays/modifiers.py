"""Weight modifiers of hardware-aware training: the noise that training sees in the place of a chip.

They act on weights as fractions of the window, only while a model trains. `per="step"` draws one matrix for
a whole batch; `per="example"` gives every input vector its own draw (in a convolution, every patch), as one
normal on each output with the same mean and variance, which costs far less than a matrix each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array

from anajax._random import read_normal
from anajax._record import Numbers, Record, leaf, record, static
from anajax.arrays.converters import quantize

if TYPE_CHECKING:
    from anajax.arrays.hardware import Hardware


@record
class Modifier(Record):
    """Base of the modifiers.

    Attributes:
      per: `"step"` or `"example"`: what shares one draw.
    """

    per: str = static(default="step", choices=("step", "example"))

    def std(self, hardware: Hardware, weights: Array) -> Array:
        """Return the standard deviation of each weight's noise, `[rows, cols]`, or one number for all."""
        raise NotImplementedError

    def mean(self, weights: Array) -> Array:
        """Return the mean of the modified weights, any shape."""
        return weights

    def modify(self, key: Array, hardware: Hardware, weights: Array) -> Array:
        """Return the weights that a step trains with, `[rows, cols]`."""
        return weights + self.std(hardware, weights) * read_normal(key, weights.shape, weights.dtype)


@record
class Additive(Modifier):
    """`w + sigma * xi`: the same noise on every weight (Joshi et al. 2020: sigma = 0.038).

    Attributes:
      sigma: standard deviation in full-scale weights.
    """

    sigma: Array | float = leaf(ge=0)

    def std(self, hardware: Hardware, weights: Array) -> Array:
        """Return `sigma`."""
        return jnp.asarray(self.sigma, weights.dtype)


@record
class Multiplicative(Modifier):
    """`w * (1 + sigma * xi)`.

    Attributes:
      sigma: relative standard deviation.
    """

    sigma: Array | float = leaf(ge=0)

    def std(self, hardware: Hardware, weights: Array) -> Array:
        """Return `sigma * |w|`."""
        return self.sigma * jnp.abs(weights)


@record
class PolynomialNoise(Modifier):
    """`w + sigma * (c[0] + c[1] |w| + c[2] |w|**2 + ...) * xi`.

    Attributes:
      sigma: factor on the polynomial.
      coefficients: c, lowest order first; the default is the PCM programming noise over its window.
    """

    sigma: Array | float = leaf(default=1.0, ge=0)
    coefficients: Numbers = leaf(default=(0.0105392, 0.0768, -0.046925))

    def std(self, hardware: Hardware, weights: Array) -> Array:
        """Return the polynomial of `|w|`."""
        c = jnp.asarray(self.coefficients)
        y = jnp.full_like(weights, c[-1])
        for k in range(c.shape[0] - 2, -1, -1):
            y = y * jnp.abs(weights) + c[k]
        return jnp.abs(self.sigma * y)


@record
class DeviceNoise(Modifier):
    """Programming and read noise of the hardware's own device, `time` seconds after programming, mean removed.

    The spread of a weight is put together from its cells' `programming_noise` and `read_noise` through the
    mapping; the clipping of conductances at zero is left out.
    Source: Rasch et al., Nat. Commun. 14:5282 (2023), with the noise at 20 s.

    Attributes:
      time: age at which read noise is taken [s].
      scale: factor on the spread; raised from 0 for a ramp.
    """

    time: Array | float = leaf(default=0.0, ge=0)
    scale: Array | float = leaf(default=1.0, ge=0)

    def std(self, hardware: Hardware, weights: Array) -> Array:
        """Return the spread that the device gives each weight."""
        device, mapping = hardware.device, hardware.mapping
        target = mapping.encode(device, weights)
        cells = device.program(None, device.fabricate(None, target.shape), target)
        variance = device.programming_noise(target) ** 2 + device.read_noise(cells, self.time) ** 2
        total = mapping.decode_variance(device, variance)
        noisy = total > 0  # the root has no slope at zero
        return self.scale * jnp.where(noisy, jnp.sqrt(jnp.where(noisy, total, 1.0)), 0.0)


@record
class Discretize(Modifier):
    """Round weights to `levels` values over [-1, 1], straight through; with additive noise if `sigma` is given.

    Attributes:
      levels: number of levels, at least 2.
      sigma: standard deviation of noise added after rounding, in full-scale weights, or `None`.
    """

    levels: Array | float = leaf(ge=2)
    sigma: Array | float | None = leaf(default=None, ge=0)

    def std(self, hardware: Hardware, weights: Array) -> Array:
        """Return `sigma`, or zero."""
        return jnp.asarray(0.0 if self.sigma is None else self.sigma, weights.dtype)

    def mean(self, weights: Array) -> Array:
        """Return rounded weights; an even number of levels has none at zero."""
        return quantize(weights + 1, 2 / (self.levels - 1), 2.0) - 1  # levels at both ends, -1 and 1

    def modify(self, key: Array, hardware: Hardware, weights: Array) -> Array:
        """Return rounded weights, `[rows, cols]`, with noise if `sigma` is given."""
        rounded = self.mean(weights)
        return rounded if self.sigma is None else super().modify(key, hardware, rounded)


@record
class DropConnect(Modifier):
    """Set each weight to zero with a probability. The gradient flows to the weights that stay.

    Attributes:
      probability: of a weight to be dropped.
    """

    probability: Array | float = leaf(ge=0, lt=1)

    def std(self, hardware: Hardware, weights: Array) -> Array:
        """Return the standard deviation that dropping gives a weight, about its mean."""
        return jnp.sqrt(self.probability * (1 - self.probability)) * jnp.abs(weights)

    def mean(self, weights: Array) -> Array:
        """Return the weights times the probability to stay."""
        return (1 - self.probability) * weights

    def modify(self, key: Array, hardware: Hardware, weights: Array) -> Array:
        """Return weights of which some are zero, `[rows, cols]`."""
        return jnp.where(jax.random.bernoulli(key, self.probability, weights.shape), 0.0, weights)
