"""From measured data to a device, by gradient, with uncertainties.

Each function takes a spec to start from and data, and returns a `Fit`: the fitted spec, standard errors, and
whether the model explains the data. Where it does not, the fit says so and warns of a `PoorFit`.
"""

from anajax.fit._result import Fit as Fit
from anajax.fit._result import PoorFit as PoorFit
from anajax.fit.cells import population as population
from anajax.fit.currents import conduction as conduction
from anajax.fit.currents import least_squares as least_squares
from anajax.fit.currents import memristor as memristor
from anajax.fit.currents import poole_frenkel_population as poole_frenkel_population
from anajax.fit.data import PulseData as PulseData
from anajax.fit.data import RetentionData as RetentionData
from anajax.fit.data import SweepData as SweepData
from anajax.fit.data import read_csv as read_csv
from anajax.fit.pulses import pulse_response as pulse_response
from anajax.fit.retention import drift as drift
from anajax.fit.retention import drift_table as drift_table
