"""Pictures of devices, circuits and studies. All functions return a matplotlib `Figure`; none shows or saves it."""

from anajax.plot.circuits import branch_currents as branch_currents
from anajax.plot.circuits import crossbar as crossbar
from anajax.plot.circuits import ir_drop as ir_drop
from anajax.plot.circuits import node_voltages as node_voltages
from anajax.plot.devices import drift as drift
from anajax.plot.devices import iv as iv
from anajax.plot.devices import iv_loop as iv_loop
from anajax.plot.devices import overview as overview
from anajax.plot.devices import population as population
from anajax.plot.devices import programming_error as programming_error
from anajax.plot.devices import pulse_response as pulse_response
from anajax.plot.devices import read_noise as read_noise
from anajax.plot.devices import steps as steps
from anajax.plot.devices import symmetry as symmetry
from anajax.plot.studies import accuracy_over_fields as accuracy_over_fields
from anajax.plot.studies import accuracy_over_time as accuracy_over_time
from anajax.plot.studies import tornado as tornado
