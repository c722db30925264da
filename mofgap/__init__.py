"""mofgap: band gaps of metal-organic frameworks from CIF files, with error bars a chemist can act on.

>>> import mofgap
>>> table = mofgap.screen("structures/*.cif", window=(1.8, 3.0))
>>> pbe = mofgap.screen("structures/*.cif", level="pbe")  # instead of HSE06 with PBE next to it
>>> gap_ev, std_ev = mofgap.load_model("qmof-hse06").predict("MOF-5.cif", return_std=True)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mofgap.gap.predictor import load_model
    from mofgap.python import screen
    from mofgap.report.notebook import Screening

__all__ = ["Screening", "load_model", "screen"]
_HOMES = {
    "Screening": "mofgap.report.notebook",
    "load_model": "mofgap.gap.predictor",
    "screen": "mofgap.python",
}


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mofgap' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
