"""What the tests of memristors share."""

import jax
import jax.numpy as jnp

from anajax.devices.memristor import Sampled


def constant(v, duration):
    return Sampled(times=[0.0, duration], volts=[v, v])


def spread(key, value, n, sigma=0.2):
    return value * jnp.exp(sigma * jax.random.normal(key, (n,)))
