"""What the server takes and answers, as its description in OpenAPI says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from mofgap.screening.levels import DEFAULT, LEVELS

_WINDOW_WORDS = "Gap window in eV, such as “1.8 3.0”, or “1.8 inf”: rank by the probability to lie in it."
_FORM = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "Structures, such as CIFs, or archives of them; repeat the field for several.",
        },
        "window": {"type": "string", "description": _WINDOW_WORDS},
        "level": {
            "type": "string",
            "enum": list(LEVELS),
            "default": DEFAULT,
            "description": f"Level of theory: {', '.join(LEVELS)}; {DEFAULT} unless told otherwise.",
        },
    },
}
BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


class Fault(BaseModel):
    """Why a request was refused."""

    detail: str


class Table(BaseModel):
    """A ranked table.

    Attributes:
        columns: Names of the columns, as mofgap screen writes them.
        rows: Best first, failures last; a value for each column.
        counts: Numbers of rows by status.
        skipped: What was not read of folders and archives; empty for nothing.
    """

    columns: list[str]
    rows: list[dict[str, int | float | str | None]]
    counts: dict[str, int]
    skipped: str


class Progress(BaseModel):
    """How far a screening is."""

    id: str = Field(description="Names the screening; who knows it may see the screening.")
    state: Literal["reading", "screening", "done", "failed"]
    error: str = Field(description="Why the screening failed as a whole; empty otherwise.")
    done: int = Field(description="Inputs that are done: files, or parts of those that hold many structures.")
    total: int = Field(description="Inputs altogether; 0 while archives are read.")
    counts: dict[str, int] = Field(description="Numbers of rows by status.")
    skipped: str = Field(description="What was not read of folders and archives; empty for nothing.")
    kept: bool = Field(description="Whether it stays when its page is closed.")


class Model(BaseModel):
    """A model that gaps come from."""

    name: str
    level_of_theory: str
    citation: str
    calibrated: bool
    device: str


class Level(BaseModel):
    """A level of theory that can be chosen, and its models; the first is used for ranks."""

    level: str
    is_default: bool
    models: list[Model]


Faults = dict[int | str, dict[str, Any]]


def _faults(words: Mapping[int, str]) -> Faults:
    """Answers of an operation that end it, as FastAPI describes them."""
    return {status: {"model": Fault, "description": text} for status, text in sorted(words.items())}


EVERYWHERE = _faults(
    {
        401: "The token is missing or wrong.",
        421: "The server has another name.",
    }
)
_FOREIGN = {403: "The request came from a page of another server."}
UPLOAD_FAULTS = _faults(
    _FOREIGN
    | {
        400: "The form is cut off or damaged.",
        408: "Nothing came for a while.",
        413: "Too large, too many files or too many structures.",
        415: "The request is no form.",
        422: "A field is wrong, or there are no files.",
        503: "The server holds as many screenings as it may, or is ending.",
    }
)
LOST = _faults({404: "No such screening.", 422: "A parameter is wrong."})
LOST_OR_FOREIGN = LOST | _faults(_FOREIGN)
NO_REPORT = _faults(
    {409: "The screening is not done, or has failed.", 503: "Memory does not suffice for the report."}
)
