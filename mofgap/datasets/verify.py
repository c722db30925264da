"""Check files on this disk against their recorded sums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mofgap.datasets.checksum import Check, check, check_folder, has_sums, lock_of, read_sums
from mofgap.datasets.record import DatasetError
from mofgap.datasets.registry import Dataset, find_dataset, read_registry
from mofgap.shipped import shipped_folder


def check_all(folder: Path) -> Iterator[Check]:
    """Check every file with sums that this installation ships, and every dataset fetched into ``folder``.

    Raises:
        ValueError: If a file of sums cannot be read.
    """
    folders = {
        path
        for parent in (shipped_folder("models"), shipped_folder("data"), shipped_folder("examples").parent)
        for path in parent.iterdir()
        if path.is_dir() and has_sums(path)
    }
    for path in sorted(folders):
        yield from check_folder(path)
    for dataset in read_registry().values():
        if dataset.access == "download" and dataset.location(folder).is_file():
            yield check_fetched(dataset, folder)


def check_named(name: str, folder: Path) -> Iterator[Check]:
    """Check a dataset by name, a folder with sums (such as a model), or a file with its lock.

    Raises:
        DatasetError: If ``name`` is unknown, no sum was recorded for its file, or its package is not
            installed.
        ValueError: If a folder holds no sums, or they cannot be read.
    """
    path = Path(name)
    if path.is_dir():
        yield from check_folder(path)
    elif path.is_file():
        if not lock_of(path).is_file():
            what = f"its sum in {lock_of(path).name} is missing; mofgap data fetch writes it"
            raise DatasetError(f"{path}: {what}")
        yield check(path, locked(path))
    elif (models := shipped_folder("models") / name).is_dir():
        yield from check_folder(models)
    else:
        dataset = find_dataset(name)
        if dataset.access == "shipped":
            yield from check_folder(dataset.location(folder).parent)
        else:
            yield check_fetched(dataset, folder)


def check_fetched(dataset: Dataset, folder: Path) -> Check:
    """Check a file against the sum in the registry, or the one recorded when it was fetched."""
    path = dataset.location(folder)
    return check(path, dataset.sha256 or locked(path))


def locked(path: Path) -> str | None:
    """The sum that was recorded when a file was fetched; None if there is none.

    Raises:
        ValueError: If the record of the sum is damaged.
    """
    lock = lock_of(path)
    return read_sums(lock).get(path.name) if lock.is_file() else None
