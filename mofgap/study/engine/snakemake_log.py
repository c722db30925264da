"""What Snakemake writes while it works, read as it comes: why jobs failed, in the scheduler's own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

N_LAST_LINES = 5

_BEGINNING = b"Error in rule "
_FAILED = re.compile(
    rb"^Error in rule [^\n]*:\n    message: (?P<message>.*?)\n    jobid: .*?"
    rb"^    output: stages/(?P<stage>[^\n]*?)\.done[^\n]*\n    log: (?P<logs>[^\n]*?) \(check",
    re.MULTILINE | re.DOTALL,
)
_ADVICE = "For further error details"
_OF_SCHEDULER = re.compile(r"^(slurmstepd|srun|sbatch): .*(error|\*\*\*|CANCELLED)", re.IGNORECASE)


class SnakemakeLog:
    """Reads the growing log of Snakemake.

    Args:
        path: Where it lies; what is there already is of earlier runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = self._read = path.stat().st_size if path.exists() else 0

    def failures(self) -> Iterator[tuple[str, str]]:
        """Each stage whose job failed since the last call, and what the scheduler says of it."""
        text = self._since(self._read)
        end = 0
        for found in _FAILED.finditer(text):
            end = found.end()
            stage, message, logs = (
                found[name].decode(errors="replace") for name in ("stage", "message", "logs")
            )
            yield stage, _words(message, logs.split(", "))
        begun = text.find(_BEGINNING, end)
        # What may still become whole is read again.
        self._read += begun if begun >= 0 else max(end, text.rfind(b"\n") + 1)

    def last_lines(self) -> list[str]:
        """The last lines written since the log was opened."""
        return self._since(self._start).decode(errors="replace").strip().splitlines()[-N_LAST_LINES:]

    def _since(self, offset: int) -> bytes:
        if not self.path.exists():
            return b""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read()


def _words(message: str, logs: list[str]) -> str:
    """A message without advice to look elsewhere, and what the scheduler wrote into the output of the job."""
    lines = [line.strip() for line in message.partition(_ADVICE)[0].splitlines()]
    for name in logs[1:]:  # the first is the stage's own
        path = Path(name)
        if path.is_file():
            of_job = path.read_text(encoding="utf-8", errors="replace").splitlines()
            lines += [line for line in of_job if _OF_SCHEDULER.search(line)][-N_LAST_LINES:]
    return "\n".join(filter(None, lines))
