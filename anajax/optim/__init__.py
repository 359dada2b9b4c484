"""In-situ training: optax transformations whose updates are what simulated pulses achieve."""

from anajax.optim.sgd import AnalogState as AnalogState
from anajax.optim.sgd import analog_sgd as analog_sgd
from anajax.optim.sgd import partition as partition
