"""From the structure of a file to the one that DFT would see, each change told in a note."""

from mofgap.crystals.prepare.config import PREPARATION_NOTES, Guests, PreparationConfig
from mofgap.crystals.prepare.steps import prepare

__all__ = ["PREPARATION_NOTES", "Guests", "PreparationConfig", "prepare"]
