"""Neural networks: Flax NNX modules over crossbar arrays, and the conversion of ordinary Flax models."""

from anajax.nn.analog import AnalogLayer as AnalogLayer
from anajax.nn.analog import Chip as Chip
from anajax.nn.analog import Conductance as Conductance
from anajax.nn.analog import Conv as Conv
from anajax.nn.analog import InputRange as InputRange
from anajax.nn.analog import Kernel as Kernel
from anajax.nn.analog import Linear as Linear
from anajax.nn.analog import OutputScale as OutputScale
from anajax.nn.analog import Spec as Spec
from anajax.nn.calibration import calibrate_adc as calibrate_adc
from anajax.nn.checkpoints import load as load
from anajax.nn.checkpoints import save as save
from anajax.nn.learning import by_example as by_example
from anajax.nn.learning import in_situ as in_situ
from anajax.nn.model import Apply as Apply
from anajax.nn.model import ChipState as ChipState
from anajax.nn.model import convert as convert
from anajax.nn.model import layers as layers
from anajax.nn.model import program as program
from anajax.nn.model import split as split
from anajax.nn.training import clip as clip
from anajax.nn.training import compensate as compensate
from anajax.nn.training import init_input_ranges as init_input_ranges
from anajax.nn.training import recalibrate as recalibrate
from anajax.nn.training import remap as remap
