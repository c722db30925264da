"""The settings of a screening, each declared once.

The options of ``mofgap screen``, the arguments of `mofgap.screen`, the section ``screening`` of a run and
``mofgap config`` all come from here. ``--help`` imports this module, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AllowInfNan, BeforeValidator, Field

from mofgap.choices import (
    BATCH_ATOMS,
    MAX_ATOMS,
    MAX_SEED,
    N_SAMPLES,
    Device,
    Disorder,
    Uncertainty,
    check_draws,
)
from mofgap.configuration import ConfigurationError, schema
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.plain_words import settings_of
from mofgap.screening.levels import Level, Models, in_lower_case, models_of
from mofgap.screening.rank import Duplicates, Novelty, RankBy, check_window, ranking
from mofgap.screening.row import DEFAULT_COVERAGE, column_names


def _infinite(end: Any) -> Any:
    """An open end, which YAML and JSON have as text."""
    return float(end) if isinstance(end, str) and end in ("inf", "-inf") else end


WindowEnd = Annotated[float, AllowInfNan(True), BeforeValidator(_infinite)]


@schema
class ScreeningConfig(PreparationConfig):
    """How structures are read, predicted and ranked."""

    window: tuple[WindowEnd, WindowEnd] | None = Field(
        None,
        description="Gap window, lower and upper end, inf for an open one. Structures are ranked by the "
        "probability that their gap lies in it.",
        json_schema_extra={"unit": "eV"},
    )
    rank_by: RankBy | None = Field(
        None,
        description="What comes first: likeliest in the window, lowest gap, highest gap, or smallest "
        "standard deviation. By default window if one is given, else low.",
    )
    top: int | None = Field(
        None,
        description="Keep only this number of ranks, which copies of a structure share. Failures are always "
        "listed. By default all are kept.",
        ge=1,
    )
    model: str | None = Field(
        None,
        description="Name of a shipped model, or a model folder. By default those of the level.",
    )
    level: Annotated[Level | None, BeforeValidator(in_lower_case)] = Field(
        None,
        description="Level of theory, instead of a model: the shipped model of pbe, of hse06 (a hybrid "
        "functional, mostly larger gaps), or both: rank by hse06, with pbe in columns of its own. By default "
        "both, unless a model is given.",
    )
    uncertainty: Uncertainty = Field(
        "auto",
        description="How the epistemic part of the error bar is computed. auto: as intervals were "
        "calibrated, which is distance for the shipped models. distance: distance to the nearest training "
        "structure, and part of the disagreement of the networks. closed-form: variance of the adapters' "
        "posterior. weights, rows: spread over draws from it, one draw for a structure or for each atom.",
    )
    samples: int = Field(
        N_SAMPLES,
        description="Number of draws for weights and rows. 0 leaves out the epistemic part of any kind.",
        ge=0,
    )
    seed: int = Field(0, description="Seed of the draws.", ge=0, le=MAX_SEED)
    max_atoms: int = Field(
        MAX_ATOMS,
        description="Largest cell that is accepted.",
        ge=1,
        json_schema_extra={"unit": "atoms"},
    )
    disorder: Disorder = Field(
        "refuse", description="Partial occupancies: refuse the file, or keep the majority occupants."
    )
    coverage: float = Field(
        DEFAULT_COVERAGE,
        description="Share of gaps that the intervals should contain. It names their columns.",
        ge=0.5,
        le=0.99,
    )
    novelty: Novelty = Field(
        "keep",
        description="Structures unlike the training data, whose gaps may be wrong: keep their rank, rank "
        "them last, or drop them.",
    )
    duplicates: Duplicates = Field(
        "keep",
        description="Inputs of the same structure, in another cell, name or file: keep all of them with one "
        "rank, or only the first: the best without a warning, if there is one; ties go by name.",
    )
    workers: int = Field(1, description="Number of processes. The table does not depend on it.", ge=1)
    device: Device = Field("auto", description="Where the network runs.")
    batch_atoms: int = Field(
        BATCH_ATOMS, description="Size of a batch on a GPU.", ge=1, json_schema_extra={"unit": "atoms"}
    )

    def __post_init__(self) -> None:
        if self.window is not None:
            _checked("window", check_window, *self.window)
        _checked("rank_by", ranking, self.rank_by, self.window)
        _checked("level", models_of, self.level, self.model)
        _checked("samples", check_draws, self.uncertainty, self.samples)

    @property
    def models(self) -> Models:
        """The model of the ordinary columns, and that of `PBE_COLUMNS`; None where there are none."""
        return models_of(self.level, self.model)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the table."""
        return column_names(self.coverage, self.models[1] is not None)

    @property
    def row_settings(self) -> dict[str, Any]:
        """Settings, except model and device, that decide the numbers of a row; a resumed run has the same."""
        names = (
            "window",
            "uncertainty",
            "samples",
            "seed",
            "batch_atoms",
            "max_atoms",
            "disorder",
            "coverage",
            *settings_of(PreparationConfig),
        )
        return {name: getattr(self, name) for name in names}

    @property
    def rank_settings(self) -> dict[str, Any]:
        """Settings that decide which rows a table keeps, and their order; the same for all its shards."""
        return {
            "rank_by": ranking(self.rank_by, self.window),
            "top": self.top,
            "novelty": self.novelty,
            "duplicates": self.duplicates,
        }

    @property
    def table_settings(self) -> dict[str, Any]:
        """Both: all but model and device that decides a table."""
        return {**self.row_settings, **self.rank_settings}


def _checked(key: str, check: Callable[..., Any], *values: Any) -> None:
    """Call a check of several settings; its refusal names the setting ``key``."""
    try:
        check(*values)
    except ValueError as error:
        raise ConfigurationError(str(error), key=key) from error
