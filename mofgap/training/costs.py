"""What a training cost, in a file of its own: two trainings of the same settings differ in nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from mofgap.shipped import COST, LOG
from mofgap.training.loop import CLOCKS, read_log
from mofgap.whole_file import write_json


@dataclass(frozen=True)
class Cost:
    """Cost of all epochs of a training, over all starts and all its models.

    Attributes:
        seconds: Wall-clock time, which other programs on the machine lengthen.
        cpu_seconds: Time of the processor, of all threads together.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def of(cls, folder: Path) -> Cost:
        """The cost of the training in a folder and in its subfolders.

        Raises:
            TrainingError: If a log in ``folder`` is damaged.
        """
        rows = [row for log in sorted(folder.rglob(LOG)) for row in read_log(log)]
        # Trainings begun by older versions have no CPU seconds.
        return cls(*(sum(float(row.get(name) or 0) for row in rows) for name in CLOCKS))

    def write(self, folder: Path) -> None:
        """Write ``cost.json`` into a folder."""
        write_json(folder / COST, {name: round(value, 1) for name, value in asdict(self).items()})
