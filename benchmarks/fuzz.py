"""Look for bytes that the readers of files, of archives or of the journal are not ready for.

Guided by coverage where ``atheris`` is installed (``pip install atheris``), else by mutation alone. A finding
is an exception, a reason ``unreadable`` or more than ``SLOW_SECONDS`` of CPU. Its bytes go to a file, to
become a fixture in ``tests/fixtures/fuzz``, which the tests read. Any finding ends in exit code 1.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import multiprocessing
import random
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Literal, get_args

from ase.build import bulk
from ase.io import write

from benchmarks.measure import example_texts, parser_of
from mofgap.choices import Disorder
from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.inputs import read_all
from mofgap.screening.journal import Finished, Journal, JournalError
from mofgap.screening.row import Row

SLOW_SECONDS = 5.0
MAX_BYTES = 20_000
HEADER = {"seed": 0}
WORDS = tuple(
    b"data_x|loop_|_cell_length_a|_atom_site_label|_atom_site_fract_x|_atom_site_type_symbol|"
    b"_atom_site_occupancy|_symmetry_equiv_pos_as_xyz|_space_group_name_Hall|?|.|'|\"|;\n|\n|#|1e300|nan|-1|"
    b"0.5(1)|x,y,z|-x+1/2,y,z|\xff|\x00|save_|_atom_site_disorder_group|P 1|192".split(b"|")
)


def read(data: bytes) -> list[str]:
    """Read a CIF with each way to settle disorder; reasons that no reader should give."""
    entries = [e for way in get_args(Disorder) for e in read_cif_bytes(data, "x.cif", disorder=way)]
    assert entries, "no entry"
    return [e.reason for e in entries if isinstance(e, ReadFailure) and e.reason.startswith("unreadable:")]


def unpack(data: bytes, ending: str) -> list[str]:
    """Read an archive."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{ending}"
        path.write_bytes(data)
        reasons = [entry.reason for entry in read_all(path) if isinstance(entry, ReadFailure)]
    return [reason for reason in reasons if reason.startswith("unreadable:")]


def resume(data: bytes) -> list[str]:
    """Go on with a journal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(data)
        with suppress(JournalError):
            Journal(path, HEADER, resume=True).close()
    return []


def seeds_of(target: str) -> list[bytes]:
    """What mutations begin with."""
    texts = sorted((text.encode() for text in example_texts()), key=len)[:8]
    fixtures = Path(__file__).parents[1] / "tests/fixtures/cifs"
    small = [path.read_bytes() for path in sorted(fixtures.rglob("*.cif")) if path.stat().st_size < MAX_BYTES]
    if target == "reader":
        return [*small, *texts[:3]]
    if target == "journal":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "journal"
            journal = Journal(path, HEADER, resume=False)
            journal.begin("a.cif")
            journal.add("a.cif", Finished("ab", (Row(None, "a.cif", "a", "ok", gap_ev=1.5),)))
            journal.close()
            return [path.read_bytes()]
    if target in FORMATS:
        return [in_format(target)]
    content = io.BytesIO()
    if target == ".zip":
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.cif", texts[0])
    else:
        modes: dict[str, Literal["w", "w:gz", "w:xz"]] = {".tar": "w", ".tar.gz": "w:gz", ".tar.xz": "w:xz"}
        with tarfile.open(fileobj=content, mode=modes[target]) as tar:
            info = tarfile.TarInfo("a.cif")
            info.size = len(texts[0])
            tar.addfile(info, io.BytesIO(texts[0]))
    return [content.getvalue()]


def in_format(ending: str) -> bytes:
    """Two structures as ASE writes them; one as a POSCAR."""
    frames = [bulk("ZnO", "zincblende", a=a, cubic=True) for a in (4.6, 4.7)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{ending}"
        if ending == ".vasp":
            write(path, frames[0], format="vasp")
        else:
            write(path, frames, format="extxyz" if ending == ".xyz" else ending[1:])
        return path.read_bytes()


GUIDED = ("mofgap.crystals", "mofgap.screening", "ase.io")
"""Packages whose code guides the search."""
FORMATS = (".xyz", ".vasp", ".json", ".traj", ".db")
TARGETS: dict[str, Callable[[bytes], list[str]]] = {
    "reader": read,
    "journal": resume,
    **{ending: partial(unpack, ending=ending) for ending in (".zip", ".tar", ".tar.gz", ".tar.xz", *FORMATS)},
}


class Findings:
    """What a target was not ready for, each kind once."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.kinds: set[str] = set()
        self.n_inputs = 0

    def look(self, data: bytes) -> None:
        """Give some bytes to the target, and keep them if it was not ready for them."""
        begun = time.process_time()
        self.n_inputs += 1
        try:
            reasons = TARGETS[self.target](data)
        except Exception as error:  # any is a finding
            reasons = [f"{type(error).__name__}: {error}"]
        if time.process_time() - begun > SLOW_SECONDS:
            reasons.append("slow")
        for reason in reasons:
            kind = reason[:40]
            if kind not in self.kinds:
                self.kinds.add(kind)
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"{self.target.strip('.')}-{hashlib.sha256(data).hexdigest()[:8]}"
                path.write_bytes(data)
                print(f"{path}: {reason}", flush=True)


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A few small changes: bits, cuts, repeats, words, and a piece of another file."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place = rng.randrange(len(content) + 1)
        end = min(len(content), place + rng.choice((1, 2, 8, 64, 512)))
        match rng.randrange(6):
            case 0 if place < len(content):
                content[place] ^= 1 << rng.randrange(8)
            case 1:
                del content[place:end]
            case 2:
                content[place:place] = content[place:end] * rng.choice((1, 2, 20))
            case 3:
                content[place:place] = rng.choice(WORDS)
            case 4:
                content[place:end] = rng.choice(WORDS)
            case 5:
                start = rng.randrange(len(other) + 1)
                content[place:end] = other[start : start + 200]
    return bytes(content[: max(MAX_BYTES, len(data))])


def mutations(target: str, seed: int) -> Iterator[bytes]:
    """What is known, mutated without guidance and without end."""
    rng, seeds = random.Random(seed), seeds_of(target)
    while True:
        yield mutated(rng.choice(seeds), rng.choice(seeds), rng)


def by_mutation(findings: Findings, seconds: float, seed: int) -> None:
    """Mutate what is known, without guidance."""
    end = time.monotonic() + seconds
    for data in mutations(findings.target, seed):
        if time.monotonic() > end:
            return
        findings.look(data)


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods that a module defines."""
    for value in vars(module).values():
        owners = [value, *vars(value).values()] if isinstance(value, type) else [value]
        for one in owners:
            one = getattr(one, "__func__", one)  # of a classmethod
            if isinstance(one, FunctionType) and one.__module__ == module.__name__:
                yield one


def by_coverage(findings: Findings, seconds: float, seed: int, corpus: Path) -> None:
    """Keep what reaches new code, by libFuzzer; it ends the process."""
    import atheris

    for name in [name for name in sys.modules if name.startswith(GUIDED)]:
        for function in functions_of(sys.modules[name]):
            atheris.instrument_func(function)
    corpus.mkdir(parents=True, exist_ok=True)
    for data in seeds_of(findings.target):
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    options = [
        f"-max_total_time={seconds:.0f}",
        f"-seed={seed + 1}",
        f"-max_len={max(MAX_BYTES, *map(len, seeds_of(findings.target)))}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(corpus)], findings.look)
    atheris.Fuzz()


def main() -> None:
    """Fuzz one target after another, in a process each; end with 1 where something was found."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="for all targets together")
    parser.add_argument("--target", choices=TARGETS, nargs="*", default=list(TARGETS))
    parser.add_argument("--findings", type=Path, default=Path("fuzz"), help="folder for what is found")
    parser.add_argument("--corpus", type=Path, help="folder of what reached new code, to go on with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unguided", action="store_true", help="mutate without atheris")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        for target in options.target:
            findings, seconds = Findings(target, options.findings), options.seconds / len(options.target)
            if not options.unguided and importlib.util.find_spec("atheris"):
                corpus = (options.corpus or Path(temporary)) / target.strip(".")
                # libFuzzer ends its process.
                process = multiprocessing.get_context("fork").Process(
                    target=by_coverage, args=(findings, seconds, options.seed, corpus)
                )
                process.start()
                process.join()
            else:
                by_mutation(findings, seconds, options.seed)
                print(f"{target}: {findings.n_inputs} inputs, {len(findings.kinds)} findings", flush=True)
    sys.exit(options.findings.exists() and any(options.findings.iterdir()))


if __name__ == "__main__":
    main()
