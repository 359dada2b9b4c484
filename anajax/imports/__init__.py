"""What others have: configurations in the style of AIHWKit."""

from anajax.imports.aihwkit import Imported as Imported
from anajax.imports.aihwkit import from_aihwkit as from_aihwkit
