from __future__ import annotations

import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mofgap.study.report.compared import read_compared
from mofgap.study.report.page import comparison_page

MARKUP = "</style><script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    return comparison_page(read_compared(run_folder))


def _write_run(folder: Path, splits: tuple[str, ...]) -> Path:
    spec = importlib.util.spec_from_file_location("run_folder", Path(__file__).with_name("conftest.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Path(module.write_run(folder, splits))


def text_of(page: str) -> str:
    found: list[str] = []

    class Texts(HTMLParser):
        def handle_data(self, data: str) -> None:
            found.append(data)

    Texts().feed(re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))
    return " ".join(" ".join(found).split())


def test_every_claim_has_its_verdict_on_both_splits(page: str) -> None:
    text = text_of(page)
    assert all(f"{claim} Statement {claim}." in text for claim in "abcd")
    assert page.count('class="verdict supported"') == 4 and page.count('class="verdict not-supported"') == 2
    assert "+0.300 [+0.200, +0.400]" in text and "With other estimators and spreads" in text


def test_tables_show_means_standard_errors_and_intervals(page: str, run_folder: Path) -> None:
    entry = next(
        each
        for each in json.loads((run_folder / "comparison.json").read_text())["methods"]
        if (each["method"], each["split"], each["spread"]) == ("balora-closed-form", "group", "total")
    )
    assert f"{entry['mean']['mae_ev']:.3f}" in text_of(page)
    assert re.search(r"± 0\.010 \[0\.\d{3}, 0\.\d{3}\]", page)
    assert f"{100 * entry['mean']['coverage_90']:.1f}" in text_of(page)


def test_ablations_stand_beside_what_is_configured(page: str) -> None:
    text = text_of(page)
    assert "One thing changed" in text and "2 differences from what is configured" in text
    table = text[text.index("One thing changed") : text.index("2 differences")]
    names = re.findall(r"(as configured|rank-4) BaLoRA, closed form (split|group)", table)
    assert names == [(name, split) for name in ("as configured", "rank-4") for split in ("split", "group")]
    assert "LoRA ensemble" not in table
    assert "rank-4 split MAE / eV BaLoRA, closed form BaLoRA, closed form +0.010 [-0.020, +0.030] 2" in text


def test_figures_of_the_splits_stand_side_by_side_and_say_how_they_were_made(page: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == 36, "nine figures of three methods and nine of the others, for two splits"
    assert page.count("Figures of the other methods") == 1
    for caption in captions:
        assert re.search(r"\b(60 structures|\d+ settings?)\b", caption) and "Split" in caption.title()
    assert "oracle" in page and "area 0." in page and "ρ" in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_nothing_outside_is_asked_for_and_no_script_runs(page: str) -> None:
    assert "script-src 'none'" in page and "<script" not in page and "<link" not in page
    assert not re.search(r'(src|href)="(?!#|data:)', page.replace("xlink:", ""))


def test_markup_is_text(tmp_path: Path) -> None:
    compared = read_compared(_write_run(tmp_path / "run", ("split",)))
    compared.summary["verdicts"][0]["statement"] = MARKUP
    compared.summary["definitions"][MARKUP] = MARKUP
    compared.summary["paired"][0]["a"] = MARKUP
    page = comparison_page(type(compared)(MARKUP, compared.summary, compared.predictions))
    assert "<script" not in page and page.count("&lt;script&gt;") >= 4


@pytest.mark.parametrize("splits", [("split", "without-Co"), ("without-Co",)])
def test_any_splits_give_a_page(splits: tuple[str, ...], tmp_path: Path) -> None:
    page = comparison_page(read_compared(_write_run(tmp_path / "run", splits)))
    assert page.rstrip().endswith("</html>") and "nan" not in text_of(page)
