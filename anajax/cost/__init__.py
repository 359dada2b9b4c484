"""Cost: energy, latency and area of chips, differentiable by hardware and technology."""

from anajax.cost import presets as presets
from anajax.cost.estimate import Cost as Cost
from anajax.cost.estimate import combined as combined
from anajax.cost.estimate import inference as inference
from anajax.cost.estimate import mvm as mvm
from anajax.cost.estimate import training as training
from anajax.cost.technology import Technology as Technology
from anajax.cost.updates import update_time as update_time
