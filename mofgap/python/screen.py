"""The Python side of ``mofgap screen``."""

from __future__ import annotations

import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, get_type_hints

from mofgap.configuration import ConfigurationError
from mofgap.crystals.convert import crystal_from, is_one
from mofgap.crystals.crystal import MEMORY
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.inputs import PassedOver, expand_inputs, passed_over_words
from mofgap.crystals.reasons import MISSING, NO_MATCH
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.nearest import hint
from mofgap.plain_words import default_of, limits, meaning, settings_of
from mofgap.python.given import given_model
from mofgap.report.notebook import Screening
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.origin import ATTRIBUTE, N_COPIES, N_NOVEL, record
from mofgap.screening.outcome import Outcome
from mofgap.screening.rank import rank_rows
from mofgap.screening.reading import Source
from mofgap.screening.row import Row, column_names
from mofgap.screening.screen import stream_rows
from mofgap.screening.table import to_frame
from mofgap.shipped import argument_of


def screen(
    structures: Any, window: Any = None, *, progress: bool | None = None, **settings: Any
) -> Screening:
    """Predict and rank structures: ``mofgap screen`` in Python.

    >>> table = mofgap.screen("structures/*.cif", window=(1.8, 3.0))  # eV; the best structure first
    >>> table[["structure_id", "gap_ev", "gap_std_ev", "p_in_window", "warnings"]]

    Args:
        structures: One or many of: path of a file, folder, glob pattern, archive, ``@list.txt``, pymatgen
            ``Structure``, ASE ``Atoms``, `Crystal`. A mapping gives objects their names.
        window: See `ScreeningConfig`.
        progress: Show a bar while it works; by default in a notebook.
        **settings: See `ScreeningConfig`.

    Returns:
        A DataFrame with a row for each structure and each failure, and the columns of `Row` (those that begin
        with ``pbe_`` only with both levels). A notebook shows it as a table with the intervals drawn; its
        ``plot()`` returns them as a Figure.

    Raises:
        ConfigurationError: If a setting has the wrong type, is out of its range, or contradicts another.
        ModelError: If the model does not exist or is damaged.
        ValueError: If the model cannot give the chosen uncertainty, or the device is not available.
        sklearn.exceptions.NotFittedError: If the model is a `GapRegressor` without a `fit`.
        FileNotFoundError: If a path or pattern of ``structures`` leads to no file.
        TypeError: If an item of ``structures`` is neither a path nor a structure, or an argument is unknown.
    """
    for name in settings:
        if name not in settings_of(ScreeningConfig):
            raise TypeError(f"screen() has no argument {name!r}; {hint(name, signature(screen).parameters)}")
    model = given_model(settings.pop("model", None))
    loaded = model if isinstance(model, GapPredictor) else None
    if loaded is not None and settings.get("level") is not None:
        raise ConfigurationError("a loaded model has its own: give level or model, not both", key="level")
    named = argument_of(model) if isinstance(model, Path) else None if loaded else model
    config = ScreeningConfig(window=window, model=named, **settings)
    first, second_level = config.models
    predictor = loaded or load_model(first, config.device, second_level)
    predictor.check_spread(config.uncertainty)
    predictor.warn_if_raw()
    passed_over = PassedOver()
    stream = stream_rows(sources_of(structures, passed_over), predictor, config)
    rows = [row for rows in _with_bar(stream, progress) for row in rows]
    if passed_over:
        warnings.warn(passed_over_words(passed_over), stacklevel=2)
    columns = column_names(config.coverage, predictor.second_level is not None)
    table = to_frame(rank_rows(rows, **config.rank_settings), columns)
    found, counts = Screening(table), Outcome.of(rows)
    call = _call(window, settings, model, predictor)
    found.attrs[ATTRIBUTE] = record(call, len(table), config.table_settings) | {
        N_NOVEL: counts.n_novel,
        N_COPIES: counts.n_copies,
    }
    return found


def _call(window: Any, settings: Mapping[str, Any], model: Any, predictor: GapPredictor) -> str:
    """The call as a user would write it, without the structures."""
    given = {"window": window, **settings, "model": model and predictor.about.name}
    words = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    return f"mofgap.screen({', '.join(['...', *words])})"


def _describe(function: Any) -> None:
    """Give ``screen`` the arguments of `ScreeningConfig`: their names, types, defaults and what they mean."""
    fields, types = settings_of(ScreeningConfig), get_type_hints(ScreeningConfig)
    types["model"] = str | Path | GapPredictor | None
    structures, window, progress, _ = signature(function, eval_str=True).parameters.values()
    added = {
        name: Parameter(name, Parameter.KEYWORD_ONLY, default=default_of(field), annotation=types[name])
        for name, field in fields.items()
    }
    first = added.pop("window").replace(kind=window.kind)
    arguments = [structures, first, *added.values(), progress]
    function.__signature__ = Signature(arguments, return_annotation=Screening)
    words = {name: f"{meaning(f)} ({limits(f)})".removesuffix(" ()") for name, f in fields.items()}
    words["model"] += " Or a loaded model, which stays on its device, or a fitted `GapRegressor`."
    lines = {
        name: textwrap.fill(
            f"{name}: {text}", 110, initial_indent=" " * 8, subsequent_indent=" " * 12
        ).strip()
        for name, text in words.items()
    }
    doc = function.__doc__.replace("window: See `ScreeningConfig`.", lines.pop("window"))
    function.__doc__ = doc.replace("**settings: See `ScreeningConfig`.", f"\n{' ' * 8}".join(lines.values()))


_describe(screen)


def _with_bar(stream: Iterator[tuple[Row, ...]], progress: bool | None) -> Iterator[tuple[Row, ...]]:
    """The stream, while a bar counts its inputs; in a notebook the bar is the notebook's own."""
    if progress is None:
        progress = "ipykernel" in sys.modules
    if not progress:
        return stream
    from tqdm.auto import tqdm

    return iter(tqdm(stream, desc="screening", unit=" files", leave=False))


def sources_of(structures: Any, passed_over: PassedOver) -> Iterator[Source]:
    """Inputs from paths and structure objects, one or many, or a mapping from names to them.

    Objects without a name are named by their position. Files that are not read are counted in
    ``passed_over``.

    Raises:
        FileNotFoundError: If a path or pattern of ``structures`` leads to no file. For a list it is raised
            before anything is predicted.
        TypeError: If an item of ``structures`` is neither a path nor a structure.
    """
    names: list[str] = []
    if isinstance(structures, Mapping):
        names, structures = [str(name) for name in structures], list(structures.values())
    many = isinstance(structures, Iterable) and not is_one(structures)
    items = structures if many else [structures]
    if isinstance(items, list | tuple):
        for item in items:
            if isinstance(item, str | Path):
                _check_there(item)
    return _sources(items, names, passed_over)


def _check_there(path: str | Path) -> None:
    first = next(expand_inputs([path]), None)
    if isinstance(first, ReadFailure) and first.source == str(path):
        name, _, words = first.reason.partition(": ")
        if name in (MISSING, NO_MATCH):
            raise FileNotFoundError(f"{first.source}: {words}")


def _sources(items: Iterable[Any], names: Sequence[str], passed_over: PassedOver) -> Iterator[Source]:
    for place, item in enumerate(items, start=1):
        if isinstance(item, str | Path):
            _check_there(item)
            yield from expand_inputs([item], passed_over=passed_over)
            continue
        name = names[place - 1] if names else getattr(item, "structure_id", "") or f"structure-{place}"
        try:
            crystal = crystal_from(item, name)
        except TypeError as error:
            raise TypeError(f"structure {place}: {error}") from error
        except ValueError as error:
            yield ReadFailure(MEMORY, name, str(error))
        else:
            yield replace(crystal, structure_id=name)
