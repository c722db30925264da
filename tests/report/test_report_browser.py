"""The page in a real browser, driven over WebDriver's plain HTTP, with the network shut off."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mofgap.report.screened import screened
from mofgap.report.screening_page import drawn_rows, screening_page
from mofgap.report.structures import drawings_of
from mofgap.screening.row import Row
from mofgap.screening.table import to_frame
from mofgap.study.report.compared import read_compared
from mofgap.study.report.page import comparison_page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver on the PATH"
)

N_ROWS = 10_000
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
MARKUP = "<img src=x onerror=\"document.title='hacked'\">"


class Browser:
    """A session of WebDriver (https://www.w3.org/TR/webdriver2/), as much of it as these tests need."""

    def __init__(self, port: int, downloads: Path, extra: tuple[str, ...] = ()) -> None:
        self.root = f"http://127.0.0.1:{port}"
        options = {
            "binary": CHROMIUM,
            "args": [*FLAGS, *extra],
            "prefs": {"download.default_directory": str(downloads)},
        }
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._post("/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.root += f"/session/{session['sessionId']}"

    def open(self, page: Path) -> None:
        self._post("/url", {"url": page.as_uri()})

    def run(self, script: str) -> Any:
        return self._post("/execute/sync", {"script": script, "args": []})

    def phone(self) -> None:
        """The width of a small phone, which no window can be made as narrow as."""
        size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._post("/goog/cdp/execute", command)

    def print(self) -> str:
        return str(self._post("/print", {}))

    def accessibility_faults(self) -> list[str]:
        """What axe-core finds serious or critical; figures are pictures with a text beside them."""
        axe = pytest.importorskip("axe_core_python")
        self.run((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found: list[str] = self.run(
            "return axe.run({exclude: ['figure svg']}).then(r => r.violations"
            ".filter(v => ['serious', 'critical'].includes(v.impact))"
            ".map(v => `${v.id}: ${v.nodes.map(n => n.target.join(' ')).slice(0, 5).join(', ')}`))"
        )
        return found

    def wait(self, condition: str) -> None:
        self._post("/timeouts", {"script": 120_000})
        self.run(
            f"return new Promise(done => {{const look = () => ({condition}) ? done(true) : "
            "setTimeout(look, 20); look()})"
        )

    def complaints(self) -> list[str]:
        entries = self._post("/se/log", {"type": "browser"})
        # Reading a picture back from a software renderer is slow, which Chromium remarks on.
        return [e["message"] for e in entries if "GPU stall" not in e["message"]]

    def close(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self.root, method="DELETE"), timeout=30)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(self.root + path, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=240) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    assert CHROMEDRIVER is not None
    driver = subprocess.Popen(
        [CHROMEDRIVER, f"--port={number}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert driver.stdout is not None
    assert any("started successfully" in line for line in driver.stdout)
    yield number
    driver.terminate()
    driver.wait(10)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand rows, the first of which is a real file and the second one full of markup."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    gaps = np.round(rng.uniform(0, 5, N_ROWS), 4).tolist()
    rows = [
        Row(
            i + 1, f"folder/s{i}.cif", f"s{i}", "warning" if i % 3 else "ok", "",
            "CHO2Zn" if i % 2 else "CCuO2", 5, gap, 0.4, 0.2, 0.3, gap - 0.5, gap + 0.5, 0.5, 0.7,
            "novel: far away" if i % 3 else "", "PBE", "m",
        )
        for i, gap in enumerate(gaps)
    ]  # fmt: skip
    good = Path(__file__).parents[1] / "fixtures" / "cifs" / "good.cif"
    near: dict[str, Any] = {"gap_lo90_ev": 1.5, "gap_hi90_ev": 2.5, "p_in_window": 0.9, "novelty": 0.5}
    known = "train-1 (SAHYIK, 3.44 eV) | train-2"
    rows[0] = replace(
        rows[0], file=str(good), structure_id="good", formula="CHO2Zn", gap_ev=2.0, nearest=known, **near
    )
    texts = ("file", "structure_id", "formula", "warnings", "nearest")
    rows[1] = replace(rows[1], gap_ev=2.1, **near | dict.fromkeys(texts, MARKUP))
    rows.append(Row(None, MARKUP, MARKUP, "failed", f"{MARKUP}: {MARKUP}"))
    table = screened(to_frame(rows))
    structures = drawings_of(drawn_rows(table), [Path("/")])
    assert len(structures) == 1
    path = folder / "report.html"
    path.write_text(screening_page(table, MARKUP, (1.8, 3.0), structures), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def comparison(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "report.html"
    path.write_text(comparison_page(read_compared(run_folder)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(port: int, page: Path) -> Iterator[Browser]:
    session = Browser(port, page.parent, ("--window-size=1280,900",))
    session.open(page)
    session.wait("document.querySelector('.view img')")
    yield session
    session.close()


def test_opens_without_errors_or_outside_requests(browser: Browser) -> None:
    assert browser.complaints() == []
    assert browser.run("return performance.getEntriesByType('resource').map(e => e.name)") == []


def test_policy_forbids_requests_and_scripts_of_others(browser: Browser) -> None:
    fetched = browser.run("return fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert fetched == "refused"
    script = "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
    assert browser.run(f"{script} document.body.append(s); return window.ran === undefined")
    assert any("Content Security Policy" in line for line in browser.complaints())


def test_markup_is_text(browser: Browser) -> None:
    assert browser.run("return document.title") == f"Screening of {N_ROWS + 1:,} structures"
    assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert MARKUP in browser.run("return document.querySelector('.cards').textContent")
    assert MARKUP in browser.run("return document.querySelector('#table').textContent")
    assert MARKUP in browser.run("return document.querySelector('details').textContent")


def test_rows_that_were_sorted_otherwise_come_by_rank(port: int, tmp_path: Path) -> None:
    rows = [
        Row(None, "bad.cif", "bad", "failed", "no-cell: x"),
        *(Row(i, f"{i}.cif", f"s{i}", "ok", "", "CHO2Zn", 5, 2.0, 0.4) for i in (2, 3, 1)),
    ]
    (tmp_path / "report.html").write_text(screening_page(screened(to_frame(rows)), "t"), encoding="utf-8")
    session = Browser(port, tmp_path)
    try:
        session.open(tmp_path / "report.html")
        column = "return [...document.querySelectorAll('#table tbody tr')].map(r => r.cells[2].textContent)"
        assert session.run(column)[:3] == ["s1", "s2", "s3"]
    finally:
        session.close()


def test_names_stay_whole_and_notes_are_counted(port: int, tmp_path: Path) -> None:
    notes = "bond-lengths: brought to DFT | same-refcode: x | open-shell-metal: Fe | novel: far away"
    rows = [
        Row(
            i, f"{name}.cif", name, "warning", "", "C8H5AlO5", 38, 4.0, 0.3, 0.2, 0.2, 3.5, 4.5, 0.1, 0.2,
            notes,
        )
        for i, name in enumerate(("Hofmann-FeNi_LUFQUZ", "MOF-5-interpenetrated_HIFTOG"), start=1)
    ]  # fmt: skip
    path = tmp_path / "names.html"
    path.write_text(screening_page(screened(to_frame(rows)), "t"), encoding="utf-8")
    session = Browser(port, tmp_path, ("--window-size=1400,900",))
    try:
        session.open(path)
        lines = "new Set([...link.querySelectorAll('.part')].map((part) => part.offsetTop)).size"
        assert session.run(f"return [...document.querySelectorAll('.link')].map((link) => {lines})") == [1, 1]
        chips = "return [...document.querySelector('td.notes').children].map((chip) => chip.textContent)"
        assert session.run(chips) == ["same-refcode", "novel", "2 notes"]
    finally:
        session.close()


def test_sorts_ten_thousand_rows_within_a_second(browser: Browser) -> None:
    for key in ("gap_ev", "structure_id"):
        seconds = browser.run(
            f"const button = document.querySelector('th[data-key={key}] button');"
            "const start = performance.now();"
            "button.click(); document.body.offsetHeight; return (performance.now() - start) / 1000"
        )
        assert seconds < 1
    column = (
        "return [...document.querySelectorAll('#table tbody tr')].map(r => Number(r.cells[3].textContent))"
    )
    browser.run("document.querySelector('th[data-key=gap_ev] button').click()")
    rising = browser.run(column)
    assert rising == sorted(rising) and len(rising) > 10
    browser.run("document.querySelector('th[data-key=gap_ev] button').click()")
    falling = browser.run(column)
    assert falling == sorted(falling, reverse=True) and falling[0] > rising[-1]
    assert browser.run("return document.querySelector('[aria-sort]').ariaSort") == "descending"


def test_filters_search_elements_and_download(browser: Browser, page: Path) -> None:
    def set_value(field: str, value: str) -> str:
        browser.run(
            f"const f = document.getElementById('{field}'); f.value = '{value}';"
            "f.dispatchEvent(new Event('input', {bubbles: true}))"
        )
        return str(browser.run("return document.getElementById('count').textContent"))

    assert set_value("status", "failed").startswith("1 of")
    assert set_value("status", "predicted").startswith("10000 of")
    assert set_value("search", "s12 s123").startswith("11 of")  # s123 and s1230 to s1239
    browser.run("document.querySelector('[data-symbol=Cu]').click()")
    n_copper = int(browser.run("return document.getElementById('count').textContent").split()[0])
    assert 0 < n_copper < 11
    browser.run("document.getElementById('all').click(); document.getElementById('download').click()")
    target = page.parent / "selection.csv"
    end = time.monotonic() + 20
    while not target.exists():
        assert time.monotonic() < end
        browser.run("return new Promise(done => setTimeout(done, 20))")
    with target.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == n_copper and {row["formula"] for row in rows} == {"CCuO2"}
    browser.run("document.querySelector('[type=reset]').click()")
    browser.wait("document.getElementById('count').textContent.startsWith('10000 of')")


def test_prints(browser: Browser) -> None:
    paper = base64.b64decode(browser.print())
    assert paper.startswith(b"%PDF") and len(paper) > 50_000
    assert browser.run("return document.querySelectorAll('#table tbody tr').length") == 25


def test_paper_begins_with_the_first_row_and_leaves_the_screen_as_it_was(browser: Browser) -> None:
    browser.run("document.getElementById('next').click(); document.getElementById('next').click()")
    words = "document.getElementById('page').textContent"
    browser.run(f"addEventListener('beforeprint', () => {{window.onPaper = {words}}})")
    browser.print()
    assert browser.run("return window.onPaper") == f"rows 1 to 200 of {N_ROWS}"
    assert browser.run(f"return {words}") == f"rows 51 to 75 of {N_ROWS}"
    browser.run("document.getElementById('previous').click(); document.getElementById('previous').click()")


def test_structure_turns_in_3d_with_the_keyboard(browser: Browser) -> None:
    browser.run("document.querySelector('.turn').click()")
    browser.wait("document.querySelector('.view canvas')")
    shot = "return document.querySelector('.view canvas').toDataURL()"
    before = browser.run(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: '+'}));" + shot
    )
    after = browser.run(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}));" + shot
    )
    assert len(before) > 5000 and before != after


def test_cards_name_the_nearest_training_structures(browser: Browser) -> None:
    text = browser.run("return document.querySelector('.card').textContent")
    assert "SAHYIK train-1 3.44 eV" in " ".join(text.split())


def test_no_serious_accessibility_fault(browser: Browser) -> None:
    assert browser.accessibility_faults() == []


@pytest.fixture(scope="module")
def dark_phone(port: int, page: Path) -> Iterator[Browser]:
    dark = "--blink-settings=preferredColorScheme=0"
    session = Browser(port, page.parent, ("--window-size=500,800", dark))
    yield session
    session.close()


@pytest.mark.parametrize("which", ["page", "comparison"])
def test_dark_mode_and_phone_width(which: str, dark_phone: Browser, request: pytest.FixtureRequest) -> None:
    dark_phone.open(request.getfixturevalue(which))
    dark_phone.phone()
    ground = dark_phone.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(20, 24, 29)"
    assert dark_phone.run("return [document.documentElement.scrollWidth, window.innerWidth]") == [375, 375]
    assert dark_phone.accessibility_faults() == []


def test_comparison_opens_prints_and_is_accessible(browser: Browser, page: Path, comparison: Path) -> None:
    browser.open(comparison)
    try:
        assert browser.complaints() == []
        assert browser.run("return performance.getEntriesByType('resource').map(e => e.name)") == []
        assert browser.run("return document.querySelectorAll('figure svg').length") == 36
        tops = browser.run(
            "return [...document.querySelectorAll('.figures')].map(row =>"
            " new Set([...row.children].map(f => f.offsetTop)).size)"
        )
        assert set(tops) == {1}  # both splits side by side
        assert base64.b64decode(browser.print()).startswith(b"%PDF")
        assert browser.accessibility_faults() == []
    finally:
        browser.open(page)
