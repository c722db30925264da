"""The QMOF database as it is published: an archive in an archive, or what was unpacked from it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.json_stream import JsonError, JsonStream
from mofgap.crystals.reasons import StructureError
from mofgap.crystals.zip_archive import open_zip
from mofgap.datasets.cif_records import read_cifs
from mofgap.datasets.label_table import LabelTable, labels_of_csv, labels_of_rows
from mofgap.datasets.record import DatasetError, Record, Records, flattened, from_dictionary

ID = "qmof_id"
STRUCTURES, CIFS, LABELS = "qmof_structure_data.json", "relaxed_structures", ("qmof.csv", "qmof.json")
ATOM_COLUMNS = {
    "pbe_ddec_charge": "pbe_ddec6_charge_e",
    "pbe_ddec_sum_bond_order": "pbe_ddec6_bond_order",
    "pbe_ddec_spin_density": "pbe_ddec6_spin_density",
    "pbe_magmom": "pbe_magmom_mu_b",
    "pbe_cm5_charge": "pbe_cm5_charge_e",
}
"""Per-atom quantities of the database, and their columns in a table; targets of pretraining."""


@dataclass(frozen=True, eq=False)
class Download:
    """Files of a folder or of an archive, found by their base name.

    Attributes:
        label: To show.
        place: The folder or archive that holds them.
    """

    label: str
    place: Path | zipfile.ZipFile

    def find(self, name: str) -> str | None:
        """Path within of the first file (or folder) of this name, by depth and name."""
        if isinstance(self.place, Path):
            names = [path.relative_to(self.place).as_posix() for path in _two_levels(self.place)]
        else:
            names = self.place.namelist()
        found = [n for n in names if PurePosixPath(n).name == name and not n.startswith("__MACOSX")]
        return min(found, key=lambda n: (n.count("/"), n), default=None)

    def open(self, name: str) -> IO[bytes]:
        """Open a file of the download."""
        return (self.place / name).open("rb") if isinstance(self.place, Path) else self.place.open(name)


def _two_levels(folder: Path) -> Iterator[Path]:
    """What lies in a folder and in its folders; the CIFs further down are many and not looked for."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and path.name != CIFS:
            yield from sorted(path.iterdir())


@contextmanager
def opened(path: Path) -> Iterator[Download]:
    """A download of QMOF: ``qmof_database.zip``, figshare's archive of all files, or a folder.

    Raises:
        DatasetError: If ``path`` is not a zip archive, is damaged, or cannot be unpacked by Python.
    """
    with ExitStack() as stack:
        try:
            download = Download(str(path), path if path.is_dir() else stack.enter_context(open_zip(path)))
            inner = download.find("qmof_database.zip")
            if inner and not any(download.find(name) for name in LABELS):
                archive = stack.enter_context(open_zip(stack.enter_context(download.open(inner))))
                download = Download(f"{path}:{inner}", archive)
            yield download
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DatasetError(
                f"{path}: the archive is damaged, or cannot be read ({error}); fetch it again, or unpack it"
            ) from error


def is_qmof(path: Path) -> bool:
    """Whether a folder or zip archive is a download of QMOF."""
    if not path.is_dir() and not zipfile.is_zipfile(path):
        return False
    with opened(path) as download:
        return any(download.find(name) for name in LABELS)


def read_labels_of(path: Path, columns: Mapping[str, str]) -> LabelTable:
    """The labels of a QMOF download by ``qmof_id``, from ``qmof.csv`` or else ``qmof.json``.

    Args:
        path: The download.
        columns: Names of columns, such as ``outputs.pbe.bandgap``, and what to call them.

    Raises:
        DatasetError: If the download ``path`` is damaged, holds no labels, or lacks a column of ``columns``.
    """
    with opened(path) as download:
        name = next((found for label in LABELS if (found := download.find(label))), None)
        if name is None:
            raise DatasetError(f"{path}: no {' or '.join(LABELS)} in it; fetch it again")
        source = f"{download.label}:{name}"
        with download.open(name) as file:
            if name.endswith(".csv"):
                return labels_of_csv(file, source, ID, columns)
            try:
                rows = (flattened(row) for row in JsonStream(file).items())
                return labels_of_rows(rows, source, ID, columns)
            except JsonError as error:
                raise DatasetError(f"{source}: {error}; fetch it again") from error


def read_structures(path: Path, max_atoms: int) -> Records:
    """Stream the relaxed structures of a QMOF download, with quantities of atoms where it has them.

    Raises:
        DatasetError: If the download ``path`` holds no relaxed structures, or is damaged.
    """
    with opened(path) as download:
        if name := download.find(STRUCTURES):
            with download.open(name) as file:
                yield from _from_json(file, f"{download.label}:{name}", max_atoms)
        elif name := download.find(f"{CIFS}.zip"):
            with download.open(name) as file, open_zip(file) as archive:
                yield from _from_cifs(archive, f"{download.label}:{name}", max_atoms)
        elif isinstance(download.place, Path) and (name := download.find(CIFS)):
            yield from read_cifs(download.place / name, max_atoms)
        else:
            raise DatasetError(
                f"{path}: neither {STRUCTURES} nor {CIFS}.zip nor {CIFS}/ in it; fetch it again"
            )


def _from_json(file: IO[bytes], source: str, max_atoms: int) -> Records:
    try:
        for entry in JsonStream(file).items():
            yield _record(entry, source, max_atoms)
    except JsonError as error:
        raise DatasetError(f"{source}: {error}; fetch it again") from error


def _record(entry: Any, source: str, max_atoms: int) -> Record | ReadFailure:
    if not isinstance(entry, Mapping) or not entry.get(ID):
        return ReadFailure(source, "", f"bad-record: an entry without {ID}")
    name = str(entry[ID])
    try:
        record = from_dictionary(entry.get("structure"), name, source, max_atoms)
    except StructureError as error:
        return ReadFailure(source, name, str(error))
    atoms = {ATOM_COLUMNS[key]: values for key, values in record.atoms.items() if key in ATOM_COLUMNS}
    return Record(record.crystal, atoms=atoms)


def _from_cifs(archive: zipfile.ZipFile, source: str, max_atoms: int) -> Records:
    """In the order stored: the archive may itself lie packed in another, where going back is slow."""
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        name = PurePosixPath(info.filename)
        if name.suffix == ".cif" and not name.name.startswith("."):
            for entry in read_cif_bytes(archive.read(info), f"{source}:{name}", max_atoms=max_atoms):
                yield Record(entry) if isinstance(entry, Crystal) else entry
