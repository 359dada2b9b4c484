"""anajax: analog in-memory computing in JAX.

A chip is one more batch axis, and a device parameter is one more differentiable leaf.
"""

from anajax import arrays as arrays
from anajax import devices as devices
from anajax import presets as presets
from anajax._record import sweep as sweep
from anajax.arrays import Hardware as Hardware


def __getattr__(name: str) -> object:
    """Import the floors above on first use: `import anajax` costs little more than `import jax`."""
    if name in ("nn", "chips", "cost", "data", "fit", "imports", "optim", "plot", "testing"):
        import importlib

        return importlib.import_module(f"anajax.{name}")
    raise AttributeError(f"module 'anajax' has no attribute {name!r}")
