"""Memristors as ordinary differential equations, the voltages that drive them, and the solver.

A compact model is a frozen record of float leaves in SI units with two elementwise functions, `rate` and
`current`; `simulate` integrates it under a drive. Any field of a model or a drive can be differentiated and
swept, and its leaves may be arrays of cells.
"""

from anajax.devices.memristor.drives import Drive as Drive
from anajax.devices.memristor.drives import PiecewiseLinear as PiecewiseLinear
from anajax.devices.memristor.drives import Pulses as Pulses
from anajax.devices.memristor.drives import Sampled as Sampled
from anajax.devices.memristor.drives import Sine as Sine
from anajax.devices.memristor.drives import Triangle as Triangle
from anajax.devices.memristor.jart import JART as JART
from anajax.devices.memristor.jart import Circuit as Circuit
from anajax.devices.memristor.models import VTEAM as VTEAM
from anajax.devices.memristor.models import Biolek as Biolek
from anajax.devices.memristor.models import Joglekar as Joglekar
from anajax.devices.memristor.models import LinearIonDrift as LinearIonDrift
from anajax.devices.memristor.models import Memristor as Memristor
from anajax.devices.memristor.models import Messaris as Messaris
from anajax.devices.memristor.models import Prodromakis as Prodromakis
from anajax.devices.memristor.models import StanfordPKU as StanfordPKU
from anajax.devices.memristor.models import Yakopcic as Yakopcic
from anajax.devices.memristor.models import messaris_2021 as messaris_2021
from anajax.devices.memristor.transient import Trace as Trace
from anajax.devices.memristor.transient import pulse_response as pulse_response
from anajax.devices.memristor.transient import simulate as simulate
