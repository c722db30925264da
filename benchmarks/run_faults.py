"""A run under faults: killed, on a full disk, with flipped bits in its folder, and started twice.

Each fault is followed by the same command once more, which has to end with the results of an undisturbed run.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import parser_of, print_table
from mofgap.whole_file import sha256_of

RESULTS = ("members/**/*.safetensors", "predictions/**/*.parquet", "calibrated/*.parquet")
"""What does not depend on when and where a run was made."""

SMALL = (
    "comparison.splits.split.trainings={full: 0, scratch: 0, lora: 0, balora: 1, dropout: 0, ensemble: 0}",
    "comparison.data.n_val=30",
    "comparison.data.n_test=20",
    "comparison.recipe.n_train=40",
    "comparison.recipe.epochs=1",
    "comparison.prediction.samples=[1, 2]",
    "comparison.prediction.full_curves=0",
    "comparison.judgement.n_draws=10",
    "report=false",
)
BLOCK_SIZES = (2_000, 50_000, 500_000)
"""Largest file, in bytes, of the runs that meet a full disk."""


class Faults:
    """A small run of ``configs/quickstart.yaml``, and what went wrong after each fault."""

    def __init__(self, base: Path, seed: int) -> None:
        self.base = base
        self.random = random.Random(seed)
        self.whole: dict[str, str] = {}
        self.rows: list[tuple[str, int, int, int, float]] = []

    def start(self, folder: Path, largest_file: int | None = None) -> subprocess.Popen[str]:
        """Start the run in a folder, with a limit on the size of its files."""
        command = [sys.executable, "-m", "mofgap", "run", "configs/quickstart.yaml", "-o", str(folder)]
        command += [word for setting in SMALL for word in ("--set", setting)]

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limit
        )

    def run_undisturbed(self) -> float:
        """Make the results that all others are compared with; returns the seconds it took.

        Raises:
            SystemExit: The run has no results.
        """
        begun, folder = time.monotonic(), self.base / "whole"
        said, _ = self.start(folder).communicate()
        seconds, self.whole = time.monotonic() - begun, results(folder)
        if not self.whole:
            raise SystemExit(said)
        print(f"undisturbed: {seconds:.0f} s, {len(self.whole)} results", flush=True)
        return seconds

    def finish(self, folder: Path) -> bool:
        """Run to the end; whether results are those of the undisturbed run."""
        process = self.start(folder)
        said, _ = process.communicate()
        if process.returncode or "Traceback" in said:
            print(said)
            return False
        return results(folder) == self.whole

    def kill(self, n_kills: int, seconds: float) -> None:
        """End a run by SIGKILL at random moments, each time a little further."""
        folder, begun, n_tracebacks = self.base / "killed", time.monotonic(), 0
        for _ in range(n_kills):
            process = self.start(folder)
            try:
                said, _ = process.communicate(timeout=self.random.uniform(0.5, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
            n_tracebacks += "Traceback" in said
        self.note("kill -9 at random moments", n_kills, n_tracebacks, not self.finish(folder), begun)

    def fill_the_disk(self) -> None:
        """Let writes fail above a size."""
        begun, n_tracebacks, n_wrong = time.monotonic(), 0, 0
        for size in BLOCK_SIZES:
            folder = self.base / f"full-{size}"
            said, _ = self.start(folder, largest_file=size).communicate()
            if "Traceback" in said:
                print(said)
                n_tracebacks += 1
            n_wrong += not self.finish(folder)
        self.note("no file above 2, 50, 500 kB", len(BLOCK_SIZES), n_tracebacks, n_wrong, begun)

    def flip(self, n_files: int) -> None:
        """Flip a bit in one file after another of the undisturbed run."""
        begun, n_wrong, folder = time.monotonic(), 0, self.base / "whole"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
        files = [path for path in files if path.relative_to(folder).parts[0] not in ("logs", "stale")]
        # Costs are no results: nothing is computed from them, and two runs never have the same.
        files = [path for path in files if not path.name.endswith(("cost.json", "costs.csv"))]
        for path in self.random.sample(files, min(n_files, len(files))):
            content = bytearray(path.read_bytes())
            content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)
            if not self.finish(folder) or path.read_bytes() == content:
                print(f"not noticed: {path.relative_to(folder)}")
                n_wrong += 1
        self.note("a flipped bit in a file", min(n_files, len(files)), 0, n_wrong, begun)

    def start_twice(self) -> None:
        """Start two runs in one folder."""
        begun, folder = time.monotonic(), self.base / "twice"
        both = [self.start(folder) for _ in range(2)]
        said = [process.communicate()[0] for process in both]
        codes = sorted(process.returncode for process in both)
        refused = sum("another mofgap run is at work" in text for text in said)
        n_tracebacks = sum("Traceback" in text for text in said)
        is_wrong = codes != [0, 1] or refused != 1 or results(folder) != self.whole
        self.note("two runs in one folder", 1, n_tracebacks, is_wrong, begun)

    def note(self, what: str, n: int, n_tracebacks: int, n_wrong: int, begun: float) -> None:
        """Keep a line of the table."""
        self.rows.append((what, n, n_tracebacks, int(n_wrong), round(time.monotonic() - begun, 1)))
        print_table(("fault", "times", "tracebacks", "wrong", "seconds"), self.rows[-1:])


def results(folder: Path) -> dict[str, str]:
    """sha256 of each result of a run folder, by name."""
    found = (path for pattern in RESULTS for path in folder.glob(pattern))
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(found)}


def main() -> None:
    """Print how often each fault ended in a traceback, or in other results."""
    parser = parser_of(__doc__)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--flips", type=int, default=20, help="files that get a flipped bit")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        faults = Faults(Path(name), options.seed)
        seconds = faults.run_undisturbed()
        for fault in options.faults:
            FAULTS[fault](faults, options, seconds)
        print()
        print_table(("fault", "times", "tracebacks", "wrong", "seconds"), faults.rows)


FAULTS: dict[str, Callable[[Faults, argparse.Namespace, float], None]] = {
    "twice": lambda faults, options, seconds: faults.start_twice(),
    "disk": lambda faults, options, seconds: faults.fill_the_disk(),
    "kill": lambda faults, options, seconds: faults.kill(options.kills, seconds / 2),
    "flip": lambda faults, options, seconds: faults.flip(options.flips),
}


if __name__ == "__main__":
    main()
