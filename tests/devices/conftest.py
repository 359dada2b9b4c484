"""Fixtures of the tests of devices."""

import jax
import pytest


@pytest.fixture
def quick_compilation():
    """Compile without optimisation: most of these simulations take an instant, their compilation seconds."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
