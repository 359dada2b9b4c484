"""Chips: ensembles that are described, mapped over, evaluated and summarised."""

from anajax.chips.ensemble import Chips as Chips
from anajax.chips.ensemble import accuracy as accuracy
from anajax.chips.ensemble import fabricate as fabricate
from anajax.chips.ensemble import keys as keys
from anajax.chips.ensemble import map as map
from anajax.chips.ensemble import one as one
from anajax.chips.study import evaluate as evaluate
from anajax.chips.study import load as load
from anajax.chips.study import save as save
from anajax.chips.study import summarise as summarise
