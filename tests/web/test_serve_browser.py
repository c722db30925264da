"""The page in a real browser."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
WIDE, PHONE = (1400, 900), (390, 844)
MARKUP = "<img src=x onerror=alert(1)>.cif"
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


class Page:
    """A page of the server, what it complains of, and what it asks for."""

    def __init__(self, browser: Any, url: str, size: tuple[int, int] = WIDE, scheme: str = "light") -> None:
        width, height = size
        self.context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": height}, reduced_motion="reduce"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self._hear(message.text))
        self.page.on("pageerror", lambda error: self._hear(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def _hear(self, words: str) -> None:
        if "GPU stall" not in words:  # of the software renderer
            self.complaints.append(words)

    def close(self) -> None:
        self.context.close()

    def screen(self, files: list[Any]) -> None:
        self.page.set_input_files("#files", files)
        self.page.click("#start")
        self.page.wait_for_selector("#actions:not([hidden])")

    def cells(self, column: int) -> list[str]:
        found: list[str] = self.page.locator(f"#rows tbody td:nth-child({column})").all_text_contents()
        return found

    def accessibility_faults(self) -> list[str]:
        axe = pytest.importorskip("axe_core_python")
        self.page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found: list[str] = self.page.evaluate(
            "axe.run({exclude: ['iframe']}).then(r => r.violations"
            ".map(v => `${v.id}: ${v.nodes.map(n => n.target.join(' ')).slice(0, 5).join(', ')}`))"
        )
        return found

    @property
    def overflow(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.fixture
def cifs(write_cifs: Callable[[Path, int], list[Path]], tmp_path: Path) -> list[Any]:
    named = {"name": MARKUP, "mimeType": "", "buffer": b"no structure"}
    paths = write_cifs(tmp_path, 3)
    return [*({"name": p.name, "mimeType": "", "buffer": p.read_bytes()} for p in paths), named]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_files_become_a_ranked_table(
    browser: Any, server: Any, cifs: list[Any], size: tuple[int, int], scheme: str
) -> None:
    with closing(Page(browser, server.url, size, scheme)) as it:
        assert it.accessibility_faults() == [] and it.overflow <= 0
        it.page.fill("#low", "1.8")
        it.page.fill("#high", "3.0")
        it.screen(cifs)
        assert it.cells(1) == ["1", "2", "3", "–"]
        assert "4 structures" in it.page.text_content("#state")
        assert it.accessibility_faults() == [] and it.overflow <= 0
        assert it.page.locator("img[src=x]").count() == 0 and MARKUP[:-4] in "".join(it.cells(2))
        assert it.page.locator(".interval .inside").count() == 3
        with it.page.expect_download() as download:
            it.page.click("#csv")
        assert download.value.suggested_filename == "mofgap.csv"
        assert len(download.value.path().read_text(encoding="utf-8").splitlines()) == 5
        assert it.complaints == []
        assert all(url.startswith((server.url, "blob:", "data:")) for url in it.asked)


def test_the_report_shows_structures_and_cannot_ask_the_server(
    browser: Any, server: Any, cifs: list[Any]
) -> None:
    with closing(Page(browser, server.url)) as it:
        it.screen(cifs)
        it.page.focus("#tab-table")
        it.page.keyboard.press("ArrowRight")
        playwright.expect(it.page.locator("#report-state")).to_have_text("", timeout=PATIENCE_MS)
        report = it.page.frames[1]
        report.wait_for_selector(".view img")
        assert report.evaluate("origin") == "null"
        assert (
            report.evaluate(f"fetch('{server.url}/api/models').then(() => 'read', () => 'refused')")
            == "refused"
        )
        assert it.accessibility_faults() == []


def test_nothing_is_left_when_the_page_is_closed_unless_it_is_kept(
    browser: Any, server: Any, cifs: list[Any]
) -> None:
    with closing(Page(browser, server.url)) as it:
        it.screen(cifs)
        assert len(list(server.folder.iterdir())) == 1
        it.page.goto("about:blank")
        assert soon(lambda: not list(server.folder.iterdir()))
        it.page.goto(server.url)
        it.screen(cifs)
        it.page.click("#keep")
        it.page.wait_for_selector("#kept:not([hidden])")
        address = it.page.url
    with closing(Page(browser, address)) as other:
        other.page.wait_for_selector("#actions:not([hidden])")
        assert other.cells(1) == ["1", "2", "3", "–"]


def test_files_are_dropped_and_started_by_keyboard(browser: Any, server: Any) -> None:
    with closing(Page(browser, server.url)) as it:
        dropped = it.page.evaluate_handle(
            "() => {const found = new DataTransfer();"
            " found.items.add(new File(['no structure'], 'a.cif')); return found}"
        )
        it.page.dispatch_event("#drop", "dragenter", {"dataTransfer": dropped})
        assert "over" in it.page.get_attribute("#drop", "class")
        it.page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
        playwright.expect(it.page.locator("#chosen")).to_contain_text("1 file")
        it.page.focus("#level")
        it.page.keyboard.press("Tab")
        it.page.keyboard.press("Enter")
        it.page.wait_for_selector("#actions:not([hidden])")
        assert it.page.locator("tr.failed").count() == 1


def test_many_files_go_in_one_upload(
    browser: Any, server: Any, cifs: list[Any], write_cifs: Callable[[Path, int], list[Path]], tmp_path: Path
) -> None:
    many = [str(path) for path in write_cifs(tmp_path / "many", 60)]
    with closing(Page(browser, server.url)) as it:
        it.page.set_input_files("#files", [{**cifs[0], "name": f"s{i}.cif"} for i in range(201)])
        assert it.page.is_disabled("#start") and "200" in it.page.text_content("#fault")
        it.screen(many)
        assert sorted(it.cells(2)) == sorted(f"s{i}" for i in range(60))


def test_what_the_server_refuses_is_said(browser: Any, server: Any, cifs: list[Any]) -> None:
    with closing(Page(browser, server.url)) as it:
        it.page.fill("#low", "3")
        it.page.fill("#high", "1")
        it.page.set_input_files("#files", cifs)
        it.page.click("#start")
        playwright.expect(it.page.locator("#fault")).to_contain_text("window")
        assert it.page.is_enabled("#start")


def test_the_token_page_and_the_interface_are_accessible(browser: Any, listening: Any) -> None:
    server = listening("0123456789abcdef-token")
    with closing(Page(browser, server.url, PHONE, "dark")) as it:
        assert it.accessibility_faults() == [] and it.overflow <= 0
        it.page.fill("#token", "0123456789abcdef-token")
        it.page.keyboard.press("Enter")
        it.page.wait_for_selector("#form")
        it.page.goto(f"{server.url}/docs")
        assert it.accessibility_faults() == [] and it.overflow <= 0


def test_a_second_screening_takes_the_place_of_an_upload(
    browser: Any, server: Any, cifs: list[Any], write_cifs: Callable[[Path, int], list[Path]], tmp_path: Path
) -> None:
    with closing(Page(browser, server.url)) as it:
        slow = it.context.new_cdp_session(it.page)
        slow.send("Network.enable")
        limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 3000}
        slow.send("Network.emulateNetworkConditions", limits)
        it.page.set_input_files("#files", [str(path) for path in write_cifs(tmp_path / "many", 60)])
        it.page.click("#start")
        playwright.expect(it.page.locator("#state")).to_contain_text("Uploading")
        it.screen(cifs)
        slow.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": -1})
        it.page.wait_for_timeout(2000)
        assert it.cells(1) == ["1", "2", "3", "–"] and it.page.is_visible("#actions")
        assert it.page.is_hidden("#fault") and "4 structures" in it.page.text_content("#state")


def test_the_report_is_drawn_while_the_table_is_shown(browser: Any, server: Any, cifs: list[Any]) -> None:
    with closing(Page(browser, server.url)) as it:
        it.screen(cifs)
        it.page.click("#tab-report")
        it.page.click("#tab-table")
        playwright.expect(it.page.locator("#report-state")).to_have_text("", timeout=PATIENCE_MS)
        report = it.page.frames[1]
        report.wait_for_function("document.querySelectorAll('.view img').length === 3")
        it.page.click("#tab-report")
        widths = "[...document.querySelectorAll('.view img')].map(image => image.naturalWidth)"
        assert all(width > 0 for width in report.evaluate(widths))


def test_the_address_of_a_kept_screening_works_in_an_open_page_and_after_the_next_one(
    browser: Any, server: Any, cifs: list[Any]
) -> None:
    with closing(Page(browser, server.url)) as it:
        it.screen(cifs)
        it.page.click("#keep")
        it.page.wait_for_selector("#kept:not([hidden])")
        kept = it.page.url
        it.screen(cifs[:1])
        assert it.cells(1) == ["1"] and it.page.url != kept
        it.page.go_back()
        it.page.wait_for_selector("#kept:not([hidden])")
        assert it.cells(1) == ["1", "2", "3", "–"] and it.page.url == kept
        it.page.go_forward()
        it.page.wait_for_selector("#result", state="hidden")


def test_what_is_no_longer_on_the_server_cannot_be_asked_for(
    browser: Any, server: Any, cifs: list[Any]
) -> None:
    with closing(Page(browser, server.url)) as it:
        it.page.clock.install()
        it.screen(cifs)
        screening = it.page.get_attribute("#csv", "href").removesuffix("/table.csv")
        assert it.page.request.delete(f"{server.url}{screening}").ok
        it.page.clock.run_for(30_000)
        playwright.expect(it.page.locator("#state")).to_have_text("No longer on the server")
        assert it.page.is_hidden("#downloads") and it.cells(1) == ["1", "2", "3", "–"]
        it.page.focus(".skip")
        it.page.keyboard.press("Enter")
        assert it.cells(1) == ["1", "2", "3", "–"], "a place on the page is no other screening"


def test_the_token_page_leads_to_the_screening_that_was_asked_for(
    browser: Any, listening: Any, cifs: list[Any]
) -> None:
    token = "0123456789abcdef-token"
    server = listening(token)
    with closing(Page(browser, f"{server.url}/?token={token}")) as it:
        it.screen(cifs)
        it.page.click("#keep")
        it.page.wait_for_selector("#kept:not([hidden])")
        kept = it.page.url
        it.context.clear_cookies()
        it.page.goto("about:blank")
        it.page.goto(kept)
        for given in ("wrong", token):
            it.page.fill("#token", given)
            it.page.keyboard.press("Enter")
            it.page.wait_for_selector(".fault" if given == "wrong" else "#actions:not([hidden])")
        assert it.cells(1) == ["1", "2", "3", "–"]


def soon(condition: Callable[[], bool]) -> bool:
    """Whether something becomes true within some seconds."""
    return any(condition() or threading.Event().wait(0.05) for _ in range(400))
