"""Where things lie in a run folder, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mofgap.whole_file import whole_file

if TYPE_CHECKING:
    import pandas as pd

RUN_CONFIG, MANIFEST = "config.yaml", "manifest.json"
"""What a run does and what it made, in the run folder itself."""

TABLE, GRAPHS, RECORD = "table.parquet", "graphs.safetensors", "dataset.json"
"""Names of files in `Layout.dataset`."""

SIZE, HISTORY = "size.json", "history.csv"
"""Names of files in `Layout.member` that are not part of the model."""

PREDICTIONS, SCORES = "predictions.parquet", "comparison.parquet"
SUMMARY, REPORT = "comparison.json", "comparison.md"
"""The outcome, in the run folder itself."""

COSTS = "costs.csv"
"""Times and memory of every method, in the run folder too: the one table that differs from run to run."""

SUMMARY_VERSION = 2


@dataclass(frozen=True)
class Layout:
    """The files of a comparison.

    Attributes:
        run: The run folder.
    """

    run: Path

    @property
    def dataset(self) -> Path:
        """Folder of the table, its splits and its graphs."""
        return self.run / "dataset"

    @property
    def encoder(self) -> Path:
        """Folder of the pretrained encoder and its features."""
        return self.run / "encoder"

    def features(self, first_block: int) -> Path:
        """The encoder's features of every structure below a block."""
        return self.encoder / f"features-below-{first_block}.safetensors"

    def member(self, name: str) -> Path:
        """Folder of a training."""
        return self.run / "members" / name

    def prediction(self, name: str) -> Path:
        """A file of predictions."""
        return self.run / "predictions" / f"{name}.parquet"

    def prediction_cost(self, name: str) -> Path:
        """What a file of predictions cost."""
        return self.run / "predictions" / f"{name}.cost.json"

    def calibrated(self, split: str) -> Path:
        """The predictions of a split with calibrated spreads and novelty."""
        return self.run / "calibrated" / f"{split}.parquet"


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a table."""
    with whole_file(path) as partial:
        frame.to_parquet(partial, index=False)
