"""A whole training from its settings: labels and structures in, a model folder with its card out.

``mofgap train`` and a run make their models by it. ``--help`` imports this module, so it imports nothing
heavy at its top.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mofgap.choices import MAX_ATOMS, MAX_SEED, Disorder
from mofgap.configuration import ConfigurationError, below, part, schema
from mofgap.nearest import hint
from mofgap.plain_words import settings_of
from mofgap.shipped import CONFIG, DEFAULT_ENCODER, DESCRIPTION, model_folder, not_found
from mofgap.training.config import FEW_LABELS, FROM_A_MODEL, NETWORK, ComputeConfig, TrainingConfig
from mofgap.training.made_of import check_adapted, kept, model_settings
from mofgap.whole_file import why_missing

if TYPE_CHECKING:
    from mofgap.training.labels import Labels
    from mofgap.training.result import TrainingResult

TABLES = (".parquet", ".csv", ".tsv", ".xlsx")
"""Endings of files that labels may stand in; a parquet table holds their structures too."""


@schema
class LabelsConfig:
    """Labelled structures to train on."""

    labels: Path = Field(
        description="Parquet table of structures and gaps; or CSV, TSV or Excel file of only gaps."
    )
    cifs: Path | None = Field(
        None, description="Folder or archive of the CIFs, where the gaps are in a file of their own."
    )
    target: str = Field("gap_ev", description="Column of the gaps, eV.")
    split_column: str = Field(
        "split",
        description="Column that says train, val or test. Without it 80, 10 and 10 % are drawn, with "
        f"families kept together; with a model to start from, fewer than {FEW_LABELS} labels are all trained "
        "on.",
    )
    split_seed: int = Field(0, description="Seed of the splits that are drawn.", ge=0, le=MAX_SEED)
    all_rows: bool = Field(
        False,
        description="Train on every labelled structure, whatever its split. Error bars come from five more "
        "trainings, each without a fifth of the structures.",
    )
    disorder: Disorder = Field(
        "refuse", description="Partial occupancies: refuse the file, or keep the majority occupants."
    )
    max_atoms: int = Field(
        MAX_ATOMS,
        description="Largest cell of a CIF that is accepted.",
        ge=1,
        json_schema_extra={"unit": "atoms"},
    )
    level_of_theory: str = Field("unknown", description="Level of theory of the labels, shown with each gap.")
    citation: str = Field("", description="Reference to cite for the labels, and their licence.")
    cache: Path | None = Field(None, description="Folder that keeps graphs for the next training.")

    def __post_init__(self) -> None:
        if self.labels.suffix.lower() not in TABLES:
            raise ConfigurationError(f"expected one of {', '.join(TABLES)}, got {self.labels}", key="labels")
        if self.all_rows and self.split_column != "split":
            raise ConfigurationError("all rows are trained on: leave out split_column", key="all_rows")

    def check(self) -> None:
        """Check that the files and columns exist, without reading any structure.

        Raises:
            ConfigurationError: If a file is missing, or the labels lack a column.
        """
        for key, path in (("labels", self.labels), ("cifs", self.cifs)):
            if path is not None and (why := why_missing(path)):
                raise ConfigurationError(f"{path}: {why}", key=key)
        has_structures = self.labels.suffix.lower() == ".parquet"
        if has_structures == (self.cifs is not None):
            what = "holds structures itself" if has_structures else "holds labels only: name their CIFs too"
            raise ConfigurationError(f"{self.labels} {what}", key="cifs")
        known = _columns(self.labels)
        asked = {"target": self.target} | (
            {"split_column": self.split_column} if self.split_column != "split" else {}
        )
        for key, name in asked.items() if known else ():
            if name not in known:
                raise ConfigurationError(f"{self.labels}: no column {name!r}; {hint(name, known)}", key=key)

    def check_split(self) -> None:
        """Check that no column of splits would be overlooked for its name.

        Raises:
            ConfigurationError: If there is such a column.
        """
        known = _columns(self.labels)
        alike = [name for name in known if name.strip().lower() == "split"]
        if alike and self.split_column == "split" and "split" not in known:
            what = f"{self.labels}: {alike[0]!r} would not be read as the split; call the column 'split'"
            raise ConfigurationError(what, key="split_column")


def _described(name: str) -> str:
    """What a setting means, with both of its defaults."""
    field = settings_of(TrainingConfig)[name]
    usual = field.default
    return f"{field.description} By default {usual:g}, and {FROM_A_MODEL[name]:g} with a model to start from."


@schema
class ModelTraining(ComputeConfig, TrainingConfig):
    """How a gap model is trained on them, calibrated on their split val, and from where it starts."""

    from_model: str | None = Field(
        None,
        description="Gap model to start from, by name or folder, for gaps of another level of theory. Its "
        "encoder, method, adapters and head width stay, and its other networks for gaps of the same level.",
    )
    encoder: str = Field(
        DEFAULT_ENCODER,
        description="Pretrained encoder: a shipped name, or a folder of mofgap pretrain.",
    )
    ensemble_with: tuple[str, ...] = Field(
        (),
        description="Other gap models, by name or folder: the mean of all gaps is predicted. They have the "
        "same level of theory and were trained separately.",
    )
    learning_rate: float | None = Field(  # type: ignore[assignment]
        None, description=_described("learning_rate"), ge=0.0
    )
    kl_weight: float | None = Field(  # type: ignore[assignment]
        None, description=_described("kl_weight"), ge=0.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.from_model is not None:
            standard = {name: setting.default for name, setting in settings_of(type(self)).items()}
            own = [name for name in (*NETWORK, "encoder") if getattr(self, name) != standard[name]]
            if own:
                words = "the gap model to go on from has its own: leave it out"
                raise ConfigurationError(words, key=own[0])

    @property
    def start(self) -> tuple[str, str]:
        """Name of the model or encoder to start from, and the file in its folder with its hashes."""
        if self.from_model is not None:
            return self.from_model, CONFIG
        return self.encoder, DESCRIPTION

    @property
    def needs(self) -> list[tuple[str, str]]:
        """`start`, and the same for the other models of an ensemble."""
        return [self.start, *((name, CONFIG) for name in self.ensemble_with)]

    @property
    def settings(self) -> TrainingConfig:
        """The settings of the training. Defaults that depend on where it starts are filled in."""
        usual = FROM_A_MODEL if self.from_model is not None else {}
        left = [name for name in FROM_A_MODEL if getattr(self, name) is None]
        return part(TrainingConfig, usual | {n: v for n, v in vars(self).items() if n not in left})

    def check(self) -> None:
        """Check that the encoder or the models to start from exist, and that settings have an effect.

        Raises:
            ConfigurationError: If the encoder or a model that the training starts from does not exist,
                nothing is trained, ``dropout`` is given to a method without it, or the encoder lacks a block
                or layer that is named.
        """
        if not self.epochs and self.from_model is None:
            what = "0 epochs change no weights: name a model to start from (--from, from_model)"
            raise ConfigurationError(what, key="epochs")
        start = "encoder" if self.from_model is None else "from_model"
        keys = [start, *["ensemble_with"] * len(self.ensemble_with)]
        for key, (name, file) in zip(keys, self.needs, strict=True):
            if model_folder(name, file) is None:
                raise ConfigurationError(not_found(name, file), key=key)
        if self.dropout and (method := self._parent.get("method", self.method)) != "lora":
            raise ConfigurationError(f"{method} trains without dropout; lora has it", key="dropout")
        encoder = model_folder(self.encoder, DESCRIPTION)
        if self.from_model is None and self.method != "full" and encoder is not None:
            check_adapted(self, encoder)

    @property
    def notes(self) -> list[str]:
        """What the model to start from has in place of settings given here."""
        stays = kept(self._parent, self)
        words = f"{'; '.join(stays)} (as set or by default)"
        return [f"{self.from_model} keeps its own network: {words}"] if stays else []

    @property
    def _parent(self) -> dict[str, Any]:
        """What the model to start from is made of; empty without one."""
        folder = None if self.from_model is None else model_folder(self.from_model, CONFIG)
        return {} if folder is None else model_settings(folder)


@schema
class TrainingJob:
    """What a model is trained on, and how."""

    data: LabelsConfig = Field(description="Labelled structures.")
    training: ModelTraining = Field(default_factory=ModelTraining)

    def check(self) -> None:
        """Check that all files, columns and models exist, without reading any structure.

        Raises:
            ConfigurationError: If a file, a column, a model or an encoder is missing.
        """
        with below("data"):
            self.data.check()
            self.data.check_split()
        with below("training"):
            self.training.check()

    def read(self) -> Labels:
        """The labelled structures.

        Raises:
            TableError: If the labels or the structures cannot be read, or a needed split is empty.
        """
        from mofgap.training.labels import read_labels

        data = self.data
        return read_labels(
            data.labels,
            data.cifs,
            data.target,
            split_column=data.split_column,
            seed=data.split_seed,
            few=0 if self.training.from_model is None else FEW_LABELS,
            all_rows=data.all_rows,
            disorder=data.disorder,
            max_atoms=data.max_atoms,
        )

    def train(
        self, labels: Labels, folder: Path, name: str, command: str, *, resume: bool, progress: bool
    ) -> TrainingResult:
        """Train a model on labels that were read, and write its folder with the card.

        Args:
            labels: What `read` returns.
            folder: Becomes the model folder.
            name: Name of the model.
            command: The command line, for the card.
            resume: Go on from the last checkpoint.
            progress: Print one line per epoch.

        Raises:
            ConfigurationError: If the settings do not fit the encoder.
            ModelError: If the encoder or the gap model to start from cannot be loaded.
            TrainingError: If `mofgap.training.recipe.train` raises it.
        """
        from mofgap.gap.folder import About, find_model
        from mofgap.training.card import write_card
        from mofgap.training.compute import Compute
        from mofgap.training.encoder_folder import find_encoder
        from mofgap.training.network import network
        from mofgap.training.recipe import train

        asked, settings = self.training, self.training.settings
        if asked.from_model is not None:
            start, made_of = find_model(asked.from_model), None
        else:
            found = find_encoder(asked.encoder)
            start, made_of = found.weights, network(settings, found)
        about = About(name, level_of_theory=self.data.level_of_theory, citation=self.data.citation)
        compute = part(Compute, vars(asked), progress=progress)
        how = settings.finetuning
        outcome = train(
            labels,
            folder,
            made_of,
            how,
            start,
            about,
            [find_model(each) for each in asked.ensemble_with],
            cache=self.data.cache,
            resume=resume,
            compute=compute,
        )
        write_card(folder, labels, outcome, how, command, start)
        return outcome


def _columns(path: Path) -> list[str]:
    """Names of the columns of a table; none if it cannot be read, which `read` then explains."""
    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow.parquet import read_schema

            return list(read_schema(path).names)
        if path.suffix.lower() == ".xlsx":
            from openpyxl import load_workbook

            first = next(load_workbook(path, read_only=True).worksheets[0].iter_rows(values_only=True), ())
            return [str(name) for name in first if name is not None]
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","), [])
            return [] if len(names) == 1 and ";" in names[0] else names
    except Exception:  # whatever a damaged file leads to
        return []
