"""What one run does, from its data to its report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mofgap.configuration import ConfigurationError, section, setting
from mofgap.encoders.registry import DEFAULT, ENCODERS, registered
from mofgap.screening.levels import Level, models_of
from mofgap.screening.rank import check_window
from mofgap.study.config import ComparisonConfig, is_name

PRETRAINED = "pretraining"
"""Folder of a run with the encoder that was pretrained in it."""

TAKEN = ("predictions", "comparison", "metrics", "manifest")
"""Names of other tables and records at the top of a run folder."""


@dataclass(frozen=True)
class PretrainingConfig:
    """An encoder pretrained in this run, in place of the one that the comparison names."""

    table: Path = setting(..., "Parquet table with per-atom targets and a column split.")
    architecture: str = setting(DEFAULT, f"Encoder to pretrain: {', '.join(ENCODERS)}.")
    blocks: int = setting(5, "Blocks of the encoder.", least=1)
    width: int = setting(128, "Features of an atom.", least=8)
    epochs: int = setting(8, "Passes over the training structures.", least=1)
    batch_atoms: int = setting(2500, "Atoms of a batch.", least=1)
    learning_rate: float = setting(1.5e-3, "Peak of the schedule.", above=0.0)
    seed: int = setting(0, "Of initialisation, order and masks.", least=0)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where to train.")
    devices: int = setting(1, "How many devices on each node, a process each.", least=1)
    nodes: int = setting(1, "How many nodes; more than one need a scheduler.", least=1)
    strategy: str = setting("auto", "How they share the work, in Lightning's words, such as ddp.")
    precision: Literal["32-true", "bf16-mixed"] = setting("32-true", "Of the arithmetic.")

    def __post_init__(self) -> None:
        registered(self.architecture)
        if self.table.suffix != ".parquet":
            raise ConfigurationError(
                f"table: expected a parquet table with values of atoms, got {self.table}"
            )


@dataclass(frozen=True)
class ScreeningConfig:
    """A screening in shards, gathered to one ranked table."""

    inputs: tuple[str, ...] = setting(
        ..., "CIF files, folders, glob patterns, archives or @list.txt, as mofgap screen takes them."
    )
    shards: int = setting(1, "Jobs that share the structures; the table is the same for any number.", least=1)
    level: Level | None = setting(
        None, "In place of a model: pbe, hse06, or both (hse06, and pbe in columns beside it)."
    )
    model: str | None = setting(
        None, "A shipped model, or a model folder; null: that of the level, qmof-pbe where there is neither."
    )
    window: tuple[float, float] | None = setting(
        None, "Gap window, eV: rank by the probability to lie in it."
    )
    rank_by: Literal["window", "low", "high", "std"] | None = setting(
        None, "What comes first; null: the window where there is one, else the smallest gap."
    )
    top: int | None = setting(None, "Keep so many of the best; null keeps all.", least=1)
    uncertainty: Literal["auto", "distance", "closed-form", "weights", "rows"] = setting(
        "auto", "Where the epistemic part of the error bar comes from."
    )
    samples: int = setting(32, "Draws of weights or rows.", least=0)
    seed: int = setting(0, "Of the draws.", least=0)
    max_atoms: int = setting(1000, "Largest cell that is accepted.", least=1)
    disorder: Literal["refuse", "majority"] = setting("refuse", "What to do about partial occupancies.")
    coverage: float = setting(0.9, "Of the intervals.", least=0.5, most=0.99)
    novelty: Literal["keep", "last", "drop"] = setting("keep", "Structures unlike all of training.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where the network runs.")
    batch_atoms: int = setting(4000, "Atoms of a batch on a GPU.", least=1)
    table: str = setting("screening.csv", "Name of the table in the run folder: .csv, .parquet or .json.")

    def __post_init__(self) -> None:
        if not self.inputs or "-" in self.inputs:
            raise ConfigurationError("inputs: name at least one file, folder or list; standard input is none")
        if (
            Path(self.table).suffix not in (".csv", ".parquet", ".json")
            or Path(self.table).name != self.table
        ):
            raise ConfigurationError(
                f"table: expected NAME.csv, NAME.parquet or NAME.json, got {self.table!r}"
            )
        if Path(self.table).stem in TAKEN:
            raise ConfigurationError(f"table: {self.table} is what another file of the run is called")
        if self.rank_by == "window" and self.window is None:
            raise ConfigurationError("rank_by: window needs a window")
        if self.window is not None:
            try:
                check_window(*self.window)
            except ValueError as error:
                raise ConfigurationError(f"window: {error}") from error
        try:
            models_of(self.level, self.model)
        except ValueError as error:
            raise ConfigurationError(f"level: {error}") from error


@dataclass(frozen=True)
class JobResources:
    """What one job of a rule gets."""

    cpus: int = setting(
        1,
        "Cores and threads of each process: sums on other numbers may differ in last digits.",
        least=1,
    )
    memory_mb: int = setting(4000, "Memory to ask a scheduler for, on each node, MB.", least=1)
    minutes: int = setting(60, "Time to ask a scheduler for.", least=1)
    gpus: int = setting(0, "GPUs to ask a scheduler for, on each node.", least=0)


@dataclass(frozen=True)
class ResourcesConfig:
    """What jobs get, by rule. Cores count everywhere, the rest where a scheduler such as SLURM is asked."""

    pretrain: JobResources = section(JobResources, "Pretraining of an encoder.")
    prepare: JobResources = section(JobResources, "Reading of structures, their graphs and splits.")
    encode: JobResources = section(JobResources, "The encoder and its frozen features.")
    train: JobResources = section(JobResources, "One training.")
    predict: JobResources = section(JobResources, "One file of predictions.")
    calibrate: JobResources = section(JobResources, "The calibrated predictions of one split.")
    compare: JobResources = section(JobResources, "Scores and verdicts.")
    report: JobResources = section(JobResources, "The report.")
    screen: JobResources = section(JobResources, "One shard of a screening.")
    gather: JobResources = section(JobResources, "The table of all shards.")
    partition: str | None = setting(None, "Partition of the cluster; null leaves it to the scheduler.")
    account: str | None = setting(None, "Account of the cluster; null leaves it to the scheduler.")
    retries: int = setting(0, "How often a job that died is started again; it goes on where it was.", least=0)


@dataclass(frozen=True)
class RunConfig:
    """What one run does: a comparison of methods, a screening, or both; leave out what you do not need."""

    name: str = setting(..., "Name of the run, and of its folder below runs/.")
    comparison: ComparisonConfig | None = setting(None, "What is trained on what, and how it is judged.")
    pretraining: PretrainingConfig | None = setting(
        None, "An encoder pretrained in this run, in place of the one that the comparison names."
    )
    screening: ScreeningConfig | None = setting(None, "A screening in shards, gathered to one ranked table.")
    report: bool = setting(True, "Write report.html.")
    resources: ResourcesConfig = section(ResourcesConfig)

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ConfigurationError(f"name: expected letters, digits, dots, dashes, got {self.name!r}")
        if self.comparison is None and self.screening is None:
            raise ConfigurationError("nothing to do: a run needs a comparison or a screening")
        if self.pretraining is not None and self.comparison is None:
            raise ConfigurationError("pretraining: there is no comparison that would use the encoder")

    def spread(self, rule: str) -> tuple[int, int]:
        """On how many nodes a job of a rule runs, and in how many processes on each."""
        if rule == "pretrain" and self.pretraining is not None:
            return self.pretraining.nodes, self.pretraining.devices
        if rule == "train" and self.comparison is not None:
            return self.comparison.compute.nodes, self.comparison.compute.devices
        return 1, 1

    def cores(self, rule: str) -> int:
        """Of a job of a rule, on each node."""
        cpus: int = getattr(self.resources, rule).cpus
        return cpus * self.spread(rule)[1]

    def comparison_in(self, run: Path) -> ComparisonConfig:
        """The comparison, starting from the encoder that is pretrained in the run if one is.

        Raises:
            ConfigurationError: There is no comparison.
        """
        if self.comparison is None:
            raise ConfigurationError("this run has no comparison")
        if self.pretraining is None:
            return self.comparison
        return replace(self.comparison, encoder=str(run / PRETRAINED))
