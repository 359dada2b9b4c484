"""In-situ training: optax transformations whose updates are what simulated pulses achieve."""

from anajax.optim.mixed_precision import MixedState as MixedState
from anajax.optim.mixed_precision import mixed_precision as mixed_precision
from anajax.optim.sgd import AnalogState as AnalogState
from anajax.optim.sgd import analog_sgd as analog_sgd
from anajax.optim.sgd import partition as partition
from anajax.optim.sgd import pulses as pulses
from anajax.optim.tiki_taka import TransferState as TransferState
from anajax.optim.tiki_taka import agad as agad
from anajax.optim.tiki_taka import chopped_tiki_taka as chopped_tiki_taka
from anajax.optim.tiki_taka import residual_learning as residual_learning
from anajax.optim.tiki_taka import tiki_taka as tiki_taka
from anajax.optim.tiki_taka import tiki_taka_v2 as tiki_taka_v2
from anajax.optim.tiki_taka import transferring as transferring
from anajax.optim.upkeep import UpkeepState as UpkeepState
from anajax.optim.upkeep import periodically as periodically
from anajax.optim.upkeep import zero_shift as zero_shift
