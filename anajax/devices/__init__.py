"""Devices: what one memory cell does. Elementwise pure functions over arrays of cells of any shape."""

from anajax._record import Record as Record
from anajax._record import leaf as leaf
from anajax._record import record as record
from anajax._record import static as static
from anajax.devices import presets as presets
from anajax.devices.curves import LogLinear as LogLinear
from anajax.devices.curves import Polynomial as Polynomial
from anajax.devices.curves import PowerLaw as PowerLaw
from anajax.devices.curves import SaturatingExponential as SaturatingExponential
from anajax.devices.curves import Split as Split
from anajax.devices.curves import Table as Table
from anajax.devices.device import Cells as Cells
from anajax.devices.device import Device as Device
from anajax.devices.device import Ideal as Ideal
from anajax.devices.statistical import CMORRAM as CMORRAM
from anajax.devices.statistical import PCM as PCM
from anajax.devices.statistical import Relaxing as Relaxing
