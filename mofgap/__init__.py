"""mofgap: band gaps of metal-organic frameworks from CIF files, with error bars a chemist can act on.

>>> import mofgap
>>> table = mofgap.screen("structures/*.cif", window=(1.8, 3.0))
>>> pbe = mofgap.screen("structures/*.cif", level="pbe")  # instead of HSE06 with PBE next to it
>>> next_ones = mofgap.select(table, budget=10)
>>> gap_ev, std_ev = mofgap.load_model("qmof-hse06").predict("MOF-5.cif", return_std=True)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mofgap.gap.predictor import load_model
    from mofgap.python.annotate import annotate
    from mofgap.python.explain import explain
    from mofgap.python.regressor import GapRegressor
    from mofgap.python.screen import screen
    from mofgap.python.select import select
    from mofgap.report.notebook import Screening

    __version__: str

__all__ = ["GapRegressor", "Screening", "annotate", "explain", "load_model", "screen", "select"]
_MODULES = {
    "GapRegressor": "mofgap.python.regressor",
    "Screening": "mofgap.report.notebook",
    "annotate": "mofgap.python.annotate",
    "explain": "mofgap.python.explain",
    "load_model": "mofgap.gap.predictor",
    "screen": "mofgap.python.screen",
    "select": "mofgap.python.select",
}


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is asked for."""
    if name == "__version__":
        return import_module("mofgap.version").installed_version("unknown")
    if name not in _MODULES:
        raise AttributeError(f"module 'mofgap' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "__doc__", "__name__", "__path__"])
