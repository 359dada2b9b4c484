"""Chips: ensembles that are described, mapped over, evaluated and summarised."""

from anajax.chips.designs import Design as Design
from anajax.chips.designs import grid as grid
from anajax.chips.designs import latin_hypercube as latin_hypercube
from anajax.chips.designs import points as points
from anajax.chips.designs import random as random
from anajax.chips.designs import sobol as sobol
from anajax.chips.ensemble import Chips as Chips
from anajax.chips.ensemble import accuracy as accuracy
from anajax.chips.ensemble import fabricate as fabricate
from anajax.chips.ensemble import keys as keys
from anajax.chips.ensemble import map as map
from anajax.chips.ensemble import one as one
from anajax.chips.minimising import Minimised as Minimised
from anajax.chips.minimising import minimise as minimise
from anajax.chips.results import compare as compare
from anajax.chips.results import load as load
from anajax.chips.results import save as save
from anajax.chips.results import summarise as summarise
from anajax.chips.sensitivity import sensitivity as sensitivity
from anajax.chips.study import Study as Study
from anajax.chips.study import evaluate as evaluate
from anajax.chips.yields import Rare as Rare
from anajax.chips.yields import chips_needed as chips_needed
from anajax.chips.yields import clopper_pearson as clopper_pearson
from anajax.chips.yields import rare as rare
