"""anajax: analog in-memory computing in JAX."""

from anajax import arrays as arrays
from anajax import devices as devices
from anajax import presets as presets
from anajax._record import sweep as sweep
from anajax.arrays import Hardware as Hardware
