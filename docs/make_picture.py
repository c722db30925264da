"""Draw docs/screening.svg: what a terminal shows of a screening of the example CIFs.

python docs/make_picture.py
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from mofgap.crystals.inputs import expand_inputs
from mofgap.gap.predictor import load_model
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.levels import ranking_words
from mofgap.screening.rank import rank_rows
from mofgap.screening.screen import stream_rows
from mofgap.screening.terminal import render

WINDOW = (1.8, 3.0)
N_SHOWN = 14
N_COLUMNS = 150
COMMAND = f"mofgap screen data/examples/*.cif --window {WINDOW[0]} {WINDOW[1]} --top {N_SHOWN}"
TOP = Path(__file__).resolve().parents[1]


def main() -> None:
    """Screen the examples as the command does without options, and write the picture."""
    config = ScreeningConfig(window=WINDOW)
    model, beside = config.models
    predictor = load_model(model, "cpu", beside)
    files = sorted((TOP / "data" / "examples").glob("*.cif"))
    batches = stream_rows(expand_inputs(files), predictor, config)
    rows = rank_rows([row for batch in batches for row in batch], "window")[:N_SHOWN]
    console = Console(
        record=True, width=N_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(f"$ {COMMAND}\n", highlight=False)
    render(console, rows, WINDOW, N_SHOWN)
    console.print(f"\nmofgap: {ranking_words(predictor.about.level_of_theory)}", highlight=False)
    svg = console.export_svg(title="mofgap", unique_id="mofgap")
    # The fonts would come from elsewhere; without them the viewer takes its own.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")
    svg = re.sub(r"<!--.*?-->\s*", "", svg)
    (TOP / "docs" / "screening.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
