"""What one run does, from its data to its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from mofgap.configuration import ConfigurationError, below, part, schema
from mofgap.encoders.registry import encoder_config
from mofgap.screening.config import ScreeningConfig
from mofgap.shipped import CONFIG, COST, DESCRIPTION, METRICS, model_folder, not_found
from mofgap.study.config import ComparisonConfig, is_name
from mofgap.study.layout import COSTS, MANIFEST, PREDICTIONS, RUN_CONFIG, SUMMARY
from mofgap.study.members import members
from mofgap.study.methods.method import method_of
from mofgap.training.config import ComputeConfig, PretrainingConfig
from mofgap.training.job import LabelsConfig, ModelTraining, TrainingJob
from mofgap.training.made_of import check_adapted

PRETRAINED = "pretraining"
"""Folder of a run with the encoder that was pretrained in it."""

TAKEN = tuple(Path(name).stem for name in (PREDICTIONS, SUMMARY, METRICS, MANIFEST, COSTS, COST))
"""Names of other tables and records at the top of a run folder."""


@schema
class RunPretraining(ComputeConfig, PretrainingConfig):
    """An encoder pretrained in this run, in place of the one that the comparison names."""

    table: Path = Field(description="Parquet table with per-atom targets and a column split.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.table.suffix != ".parquet":
            words = f"expected a parquet table with values of atoms, got {self.table}"
            raise ConfigurationError(words, key="table")


@schema
class RunCalibration(LabelsConfig):
    """Structures that a trained model is calibrated on anew, in place of those of its split val."""

    # What a calibration does not use.
    split_column: SkipJsonSchema[str] = Field("split", init=False)
    split_seed: SkipJsonSchema[int] = Field(0, init=False)
    all_rows: SkipJsonSchema[bool] = Field(False, init=False)
    level_of_theory: SkipJsonSchema[str] = Field("unknown", init=False)
    citation: SkipJsonSchema[str] = Field("", init=False)
    cache: SkipJsonSchema[Path | None] = Field(None, init=False)


@schema
class ShardedScreening(ScreeningConfig):
    """A screening in shards, gathered to one ranked table."""

    workers: SkipJsonSchema[int] = Field(1, init=False)  # a run says it once for all: resources.screen.cpus
    inputs: tuple[str, ...] = Field(
        description="CIF files, folders, glob patterns, archives or @list.txt, as mofgap screen takes them."
    )
    shards: int = Field(
        1, description="Jobs that share the structures; the table is the same for any number.", ge=1
    )
    table: str = Field(
        "screening.csv", description="Name of the table in the run folder: .csv, .parquet or .json."
    )
    part_rows: int | None = Field(
        None,
        description="Rows of each file of a table NAME.parquet, which is then a folder. By default one file.",
        ge=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        table = Path(self.table)
        if not self.inputs or "-" in self.inputs:
            words = "name at least one file, folder or list; standard input is none"
            raise ConfigurationError(words, key="inputs")
        if table.suffix not in (".csv", ".parquet", ".json") or table.name != self.table:
            words = f"expected NAME.csv, NAME.parquet or NAME.json, got {self.table!r}"
            raise ConfigurationError(words, key="table")
        if self.part_rows is not None and table.suffix != ".parquet":
            raise ConfigurationError("only a table NAME.parquet has parts", key="part_rows")
        if table.stem in TAKEN:
            raise ConfigurationError(f"{table} is what another file of the run is called", key="table")

    def in_processes(self, workers: int) -> ScreeningConfig:
        """The screening itself, in a number of processes."""
        return part(ScreeningConfig, vars(self), workers=workers)


@schema
class JobResources:
    """Resources of a job of a rule."""

    cpus: int = Field(
        1,
        description="Cores and threads of each process. Another number may change the last digits.",
        ge=1,
    )
    memory_mb: int = Field(4000, description="Memory to ask a scheduler for, on each node, MB.", ge=1)
    minutes: int = Field(60, description="Minutes to ask a scheduler for.", ge=1)
    gpus: int = Field(0, description="GPUs to ask a scheduler for, on each node.", ge=0)


@schema
class ResourcesConfig:
    """Resources of jobs, by rule. Cores count everywhere, the others only for a scheduler such as SLURM."""

    pretrain: JobResources = Field(default_factory=JobResources, description="Pretraining of an encoder.")
    prepare: JobResources = Field(
        default_factory=JobResources, description="Reading of structures, their graphs and splits."
    )
    encode: JobResources = Field(
        default_factory=JobResources, description="The encoder and its frozen features."
    )
    train: JobResources = Field(default_factory=JobResources, description="One training.")
    predict: JobResources = Field(default_factory=JobResources, description="One file of predictions.")
    calibrate: JobResources = Field(
        default_factory=JobResources, description="The calibrated predictions of one split."
    )
    compare: JobResources = Field(default_factory=JobResources, description="Scores and verdicts.")
    report: JobResources = Field(default_factory=JobResources, description="The report.")
    list: JobResources = Field(default_factory=JobResources, description="The inputs of all shards.")
    screen: JobResources = Field(default_factory=JobResources, description="One shard of a screening.")
    gather: JobResources = Field(default_factory=JobResources, description="The table of all shards.")
    partition: str | None = Field(
        None, description="Partition of the cluster; null leaves it to the scheduler."
    )
    account: str | None = Field(None, description="Account of the cluster; null leaves it to the scheduler.")
    retries: int = Field(
        0, description="How often a job that failed is started again; it continues where it stopped.", ge=0
    )

    def of(self, rule: str) -> JobResources:
        """The resources of a job of a rule."""
        found: JobResources = getattr(self, rule)
        return found


@schema
class RunConfig:
    """What one run does: train a model and screen with it, compare methods, or screen alone.

    Leave out the sections that you do not need.
    """

    name: str = Field(description="Name of the run, of its folder below runs/, and of the model it trains.")
    data: LabelsConfig | None = Field(None, description="Labelled structures that a model is trained on.")
    training: ModelTraining | None = Field(
        None, description="How that model is trained; a screening of the same run uses it."
    )
    calibration: RunCalibration | None = Field(
        None, description="Other structures that the trained model is calibrated on."
    )
    comparison: ComparisonConfig | None = Field(
        None, description="A comparison of methods: data, trainings and how they are judged."
    )
    pretraining: RunPretraining | None = Field(
        None, description="An encoder pretrained in this run, in place of the one that the comparison names."
    )
    screening: ShardedScreening | None = Field(
        None, description="A screening in shards, gathered to one ranked table."
    )
    report: bool = Field(True, description="Write report.html.")
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ConfigurationError(f"expected letters, digits, dots, dashes, got {self.name!r}", key="name")
        if self.comparison is None and self.screening is None and self.data is None:
            raise ConfigurationError(
                "nothing to do: a run needs data to train on, a comparison or a screening"
            )
        if self.data is None and (self.training or self.calibration):
            raise ConfigurationError("there are no labelled structures to train on", key="data")
        if self.data is not None and self.comparison is not None:
            words = "a run trains one model or compares methods: make two runs"
            raise ConfigurationError(words, key="comparison")
        if self.data is not None and self.screening and (self.screening.model or self.screening.level):
            words = "this run screens with the model that it trains: leave it out"
            raise ConfigurationError(words, key=f"screening.{'model' if self.screening.model else 'level'}")
        if self.pretraining is not None and self.comparison is None:
            raise ConfigurationError("there is no comparison that would use the encoder", key="pretraining")

    @property
    def command(self) -> str:
        """The command that its model and its table record: the same at any place.

        It does this run again from the folder that relative paths count from.
        """
        return f"mofgap run {RUN_CONFIG}  # the configuration in the folder of the run {self.name}"

    @property
    def job(self) -> TrainingJob | None:
        """The training of a model, if there is one."""
        return None if self.data is None else TrainingJob(self.data, self.training or ModelTraining())

    def check(self) -> None:
        """Check that columns, models and encoders exist before any stage runs.

        Raises:
            ConfigurationError: If a column, a model or an encoder is missing.
        """
        if self.job is not None:
            self.job.check()
        if self.calibration is not None:
            with below("calibration"):
                self.calibration.check()
        if self.comparison is not None:
            self._check_comparison(self.comparison)
        model = self.screening.model if self.screening is not None else None
        if model is not None and model_folder(model, CONFIG) is None:
            raise ConfigurationError(not_found(model, CONFIG), key="screening.model")

    def _check_comparison(self, wanted: ComparisonConfig) -> None:
        try:
            labels = LabelsConfig(wanted.data.table, wanted.data.cifs, wanted.data.target)
            labels.check()
        except ConfigurationError as error:
            named = (replace(each, key=each.key.replace("labels", "table")) for each in error.problems)
            raise ConfigurationError(*(each.below("comparison.data") for each in named)) from error
        for name, split in wanted.splits.items():
            with below(f"comparison.splits.{name}"):
                asked = {"group": split.group} if split.kind == "grouped" else {}
                if split.column == "split":
                    labels.check_split()
                else:
                    asked["column"] = split.column
                for key, column in asked.items():
                    try:
                        replace(labels, split_column=column).check()
                    except ConfigurationError as error:
                        raise ConfigurationError(error.problems[0].words, key=key) from error
        if self.pretraining is not None:
            new = self.pretraining
            n_blocks = encoder_config(new.architecture, new.encoder_settings).n_blocks
            ablations = {f"ablations.{m.variant}": m.recipe for m in members(wanted) if m.variant}
            for place, recipe in {"recipe": wanted.recipe, **ablations}.items():
                if wrong := [block for block in recipe.blocks if block >= n_blocks]:
                    words = f"the encoder of pretraining has blocks 0 to {n_blocks - 1}, not {wrong[0]}"
                    raise ConfigurationError(words, key=f"comparison.{place}.blocks")
            return
        if (folder := model_folder(wanted.encoder, DESCRIPTION)) is None:
            raise ConfigurationError(not_found(wanted.encoder, DESCRIPTION), key="comparison.encoder")
        for member in members(wanted):
            if method_of(member.method).adaptation != "full":
                with below(
                    f"comparison.ablations.{member.variant}" if member.variant else "comparison.recipe"
                ):
                    check_adapted(member.recipe, folder)

    def nodes_and_processes(self, rule: str) -> tuple[int, int]:
        """On how many nodes a job of a rule runs, and in how many processes on each."""
        if rule == "pretrain" and self.pretraining is not None:
            return self.pretraining.nodes, self.pretraining.devices
        if rule == "train" and self.job is not None:
            return self.job.training.nodes, self.job.training.devices
        if rule == "train" and self.comparison is not None:
            return self.comparison.compute.nodes, self.comparison.compute.devices
        return 1, 1

    def cores(self, rule: str) -> int:
        """Cores of a job of a rule, on each node."""
        return self.resources.of(rule).cpus * self.nodes_and_processes(rule)[1]

    def comparison_in(self, run: Path) -> ComparisonConfig:
        """The comparison, with the encoder that this run pretrains, if there is such a pretraining.

        Raises:
            ConfigurationError: If the configuration of the run has no comparison.
        """
        if self.comparison is None:
            raise ConfigurationError("this run has no comparison: mofgap config comparison prints one")
        if self.pretraining is None:
            return self.comparison
        return replace(self.comparison, encoder=str(run / PRETRAINED))
