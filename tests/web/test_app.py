from __future__ import annotations

import ast
import asyncio
import io
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient

import mofgap
from mofgap.python.screen import screen
from mofgap.screening.levels import DEFAULT
from mofgap.screening.table import table_bytes
from mofgap.web import jobs as jobs_module
from mofgap.web.config import ServeConfig
from mofgap.web.pages import screen_page
from mofgap.web.uploads import RequestError

Writer = Callable[[Path, int], list[Path]]


def files(paths: list[Path], *others: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (path.name, path.read_bytes())) for path in paths] + [
        ("files", each) for each in others
    ]


def finished(client: TestClient, sent: list[Any], **data: str) -> str:
    """The id of a screening that is over."""
    answer = client.post("/api/screenings", files=sent, data=data)
    assert answer.status_code == 202, answer.text
    name = str(answer.json()["id"])
    wait_for(client, name)
    return name


def wait_for(client: TestClient, name: str) -> None:
    until = time.monotonic() + 60
    while client.get(f"/api/screenings/{name}").json()["state"] not in ("done", "failed"):
        assert time.monotonic() < until


def test_rows_are_those_of_mofgap_screen(client: TestClient, write_cifs: Writer, tmp_path: Path) -> None:
    paths = write_cifs(tmp_path, 4)
    answer = client.post("/api/screen", files=files(paths), data={"window": "1.8 3.0"})
    assert answer.status_code == 200, answer.text
    expected = screen(paths, (1.8, 3.0), device="cpu")
    expected["file"] = [Path(file).name for file in expected.file]
    found = pd.DataFrame(answer.json()["rows"], columns=answer.json()["columns"])
    assert list(found.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected), check_dtype=False)
    assert not list(client.app.state.jobs.root.iterdir())  # type: ignore[attr-defined]


def test_bad_files_cost_no_other(client: TestClient, write_cifs: Writer, tmp_path: Path) -> None:
    bad = [("empty.cif", b""), ("b.zip", b"PK\x03\x04"), ("c.tar.gz", b"\x1f\x8b"), ("d.cif", b"\xff\x00")]
    answer = client.post("/api/screen", files=files(write_cifs(tmp_path, 2), *bad)).json()
    assert answer["counts"]["failed"] == 4
    assert {row["file"] for row in answer["rows"] if row["status"] == "failed"} == {name for name, _ in bad}
    assert all(row["reason"] for row in answer["rows"] if row["status"] == "failed")
    assert [row["rank"] for row in answer["rows"]][:2] == [1, 2]


def test_who_waits_is_told_that_the_server_ends(
    client: TestClient, write_cifs: Writer, tmp_path: Path
) -> None:
    client.app.state.is_ending = True  # type: ignore[attr-defined]
    answer = client.post("/api/screen", files=files(write_cifs(tmp_path, 2)))
    assert answer.status_code == 503 and "is ending" in answer.json()["detail"]
    assert not client.app.state.jobs._jobs  # type: ignore[attr-defined]


def test_a_fault_of_our_own_costs_one_row(
    client: TestClient, write_cifs: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = jobs_module.screen_source

    def faulty(task: Any, source: Any) -> Any:
        if source.source == "s1.cif":
            raise KeyError("x")
        return real(task, source)

    monkeypatch.setattr(jobs_module, "screen_source", faulty)
    rows = client.post("/api/screen", files=files(write_cifs(tmp_path, 3))).json()["rows"]
    assert [row["file"] for row in rows if row["status"] == "failed"] == ["s1.cif"] and len(rows) == 3


def test_a_large_upload_does_not_hold_up_a_small_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_are_there = threading.Event()
    order: list[str] = []

    def recorded(task: Any, source: Any) -> Any:
        both_are_there.wait(60)
        order.append(source.source)
        return (jobs_module._failed(source, "x"),)

    monkeypatch.setattr(jobs_module, "screen_source", recorded)
    large = files([], *[(f"{i}.cif", b"x") for i in range(40)])
    client.post("/api/screenings", files=large)
    small = client.post("/api/screenings", files=files([], ("small.cif", b"x"))).json()["id"]
    while client.get(f"/api/screenings/{small}").json()["state"] == "reading":
        time.sleep(0.01)
    both_are_there.set()
    wait_for(client, small)
    assert order.index("small.cif") < 5


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"window": "3"}, "window"),
        ({"window": "3 1"}, "window"),
        ({"window": "a b"}, "window"),
        ({"window": "1,8"}, "two numbers, such as 1.8 3.0"),
        ({"window": "1,8 3,0"}, "two numbers, such as 1.8 3.0"),
        ({"window": "nan nan"}, "window"),
        ({"level": "b3lyp"}, "level"),
    ],
)
def test_wrong_fields_are_named(client: TestClient, data: dict[str, str], named: str) -> None:
    answer = client.post("/api/screen", files=files([], ("a.cif", b"x")), data=data)
    assert answer.status_code == 422 and named in answer.json()["detail"]
    assert not list(client.app.state.jobs.root.iterdir())  # type: ignore[attr-defined]


@pytest.mark.parametrize("window", ["1.8 3.0", "1.8,3.0", "(1.8, 3.0)", "1.8; inf"])
def test_a_window_may_be_written_in_ways(
    client: TestClient, window: str, write_cifs: Writer, tmp_path: Path
) -> None:
    data = {"window": window, "level": "PBE"}
    (row,) = client.post("/api/screen", files=files(write_cifs(tmp_path, 1)), data=data).json()["rows"]
    assert row["window_lo_ev"] == 1.8 and row["p_in_window"] is not None and row["model"] == "tiny"


def test_every_reason_is_one_sentence(client: TestClient, write_cifs: Writer, tmp_path: Path) -> None:
    (path,) = write_cifs(tmp_path, 1)
    begun = client.post("/api/screenings", files={"files": ("a.cif", path.read_bytes())}).json()
    answer = client.get(f"/api/screenings/{begun['id']}/rows", params={"limit": -1})
    assert answer.status_code == 422 and answer.json()["detail"].startswith("limit: ")


def test_a_name_with_quotes_stays(client: TestClient, write_cifs: Writer, tmp_path: Path) -> None:
    (path,) = write_cifs(tmp_path, 1)
    done = client.post("/api/screen", files={"files": ('MOF "a".cif', path.read_bytes())})
    assert done.json()["rows"][0]["structure_id"] == 'MOF "a"'


def test_models_are_those_of_the_levels(client: TestClient) -> None:
    found = {each["level"]: each for each in client.get("/api/models").json()}
    assert [name for name, each in found.items() if each["is_default"]] == [DEFAULT]
    assert [each["name"] for each in found["both"]["models"]] == ["tiny-hse", "tiny"]
    assert (
        found["pbe"]["models"][0]["level_of_theory"] == "PBE" and not found["pbe"]["models"][0]["calibrated"]
    )


def test_a_report_of_a_screening_that_was_removed_leaves_nothing(
    client: TestClient, write_cifs: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"/api/screenings/{finished(client, files(write_cifs(tmp_path, 1)))}"
    begun, removed = threading.Event(), threading.Event()

    def slow(*_: object) -> str:
        begun.set()
        removed.wait(30)
        return "page"

    monkeypatch.setattr(jobs_module, "report_of", slow)
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(client.get, f"{at}/report")
        assert begun.wait(30)
        assert client.delete(at).status_code == 204
        removed.set()
        assert report.result().status_code == 404
    assert not list(client.app.state.jobs.root.iterdir())  # type: ignore[attr-defined]


def test_a_screening_is_watched_fetched_and_removed(
    client: TestClient, write_cifs: Writer, tmp_path: Path
) -> None:
    paths = write_cifs(tmp_path, 3)
    name = finished(client, files(paths, ("<b>bad</b>.cif", b"x")), window="1.8 3.0")
    at = f"/api/screenings/{name}"
    state = client.get(at).json()
    assert (state["done"], state["total"], state["counts"]["failed"]) == (4, 4, 1)
    assert len(client.get(f"{at}/rows", params={"limit": 2}).json()["rows"]) == 2
    rows = client.app.state.jobs.find(name).rows()  # type: ignore[attr-defined]
    columns = client.get(f"{at}/rows").json()["columns"]
    for kind in ("csv", "json", "xlsx", "parquet"):
        answer = client.get(f"{at}/table.{kind}")
        assert answer.status_code == 200 and f"mofgap.{kind}" in answer.headers["content-disposition"]
        if kind == "csv":
            assert answer.content == table_bytes(".csv", rows, columns)
            assert len(pd.read_csv(io.BytesIO(answer.content))) == 4
    report = client.get(f"{at}/report")
    assert "Screening of 4 structures" in report.text and report.text.count('class="view"') >= 3
    assert "<b>bad</b>" not in report.text and str(client.app.state.jobs.root) not in report.text  # type: ignore[attr-defined]
    assert "sandbox" in report.headers["content-security-policy"]
    assert client.delete(at).status_code == 204
    assert not list(client.app.state.jobs.root.iterdir())  # type: ignore[attr-defined]
    assert {client.get(f"{at}{each}").status_code for each in ("", "/rows", "/table.csv", "/report")} == {404}
    assert client.get(f"{at}/table.exe").status_code in (404, 422)


def test_who_asks_for_the_report_of_a_failed_screening_is_told_why(client: TestClient) -> None:
    name = finished(client, files([], ("folder/notes.txt", b"x")))
    why = client.get(f"/api/screenings/{name}").json()["error"]
    report = client.get(f"/api/screenings/{name}/report")
    assert report.status_code == 409 and report.json()["detail"] == why != ""


def test_who_asks_for_a_report_that_no_memory_suffices_for_is_told_a_cure(
    client: TestClient, write_cifs: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: object) -> str:
        raise BrokenExecutor

    at = f"/api/screenings/{finished(client, files(write_cifs(tmp_path, 1)))}"
    with monkeypatch.context() as patched:
        patched.setattr(jobs_module, "report_of", died)
        report = client.get(f"{at}/report")
    words = report.json()["detail"]
    assert report.status_code == 503 and "memory" in words and "mofgap report" in words
    assert "Screening of 1 structure" in client.get(f"{at}/report").text


def test_a_stop_while_files_are_unpacked_leaves_none(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpacked(upload: Any, limits: object) -> None:
        while not upload.is_stopped:
            (upload.folder / "unpacked").write_bytes(b"x")
            time.sleep(0.001)
        raise RequestError(410, "stopped")

    monkeypatch.setattr("mofgap.web.jobs.inputs_of", unpacked)
    name = client.post("/api/screenings", files=files([], ("a.cif", b"x"))).json()["id"]
    assert client.delete(f"/api/screenings/{name}").status_code == 204
    assert not list(client.app.state.jobs.root.iterdir())  # type: ignore[attr-defined]


def test_screenings_expire_unless_they_are_kept(client: TestClient) -> None:
    jobs = client.app.state.jobs  # type: ignore[attr-defined]
    names = [finished(client, files([], ("a.cif", b"x"))) for _ in range(2)]
    assert client.post(f"/api/screenings/{names[1]}/keep").json()["kept"]

    def after(minutes: float) -> list[int]:
        client.portal.call(jobs.expire, time.monotonic() + 60 * minutes)  # type: ignore[union-attr]
        return [client.get(f"/api/screenings/{name}").status_code for name in names]

    assert after(4) == [200, 200]
    assert after(6) == [404, 200]
    assert len(list(jobs.root.iterdir())) == 1
    assert after(25 * 60) == [404, 404]
    assert not list(jobs.root.iterdir())


def test_limits_are_told(serving: Callable[..., TestClient]) -> None:
    client = serving(max_files=2, max_mb=1, max_screenings=1)
    many = client.post("/api/screen", files=files([], *[(f"{i}.cif", b"x") for i in range(3)]))
    large = client.post("/api/screen", files=files([], ("a.cif", bytes(2**20 + 1))))
    assert many.status_code == large.status_code == 413
    assert "2 files" in many.json()["detail"] and "1 MB" in large.json()["detail"]
    name = finished(client, files([], ("a.cif", b"x")))
    assert client.post("/api/screen", files=files([], ("a.cif", b"x"))).status_code == 503
    client.delete(f"/api/screenings/{name}")
    assert client.post("/api/screen", files=files([], ("a.cif", b"x"))).status_code == 200


def test_twenty_visitors_get_their_own_rows(server: Any, write_cifs: Writer, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import httpx

    (path,) = write_cifs(tmp_path, 1)

    def visit(i: int) -> list[str]:
        sent = [("files", (f"v{i}-{k}.cif", path.read_bytes())) for k in range(3)]
        answer = httpx.post(f"{server.url}/api/screen", files=sent, data={"level": "pbe"}, timeout=120)
        return sorted(row["file"] for row in answer.json()["rows"] if row["status"] != "failed")

    with ThreadPoolExecutor(20) as visitors:
        found = list(visitors.map(visit, range(20)))
    assert found == [[f"v{i}-{k}.cif" for k in range(3)] for i in range(20)]
    assert not list(server.folder.iterdir())


def test_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    pages = [client.get(path).text for path in ("/", "/docs")]
    for page in pages:
        for target in re.findall(r'(?:src|href|action)="([^"]*)"', page):
            assert target.startswith(("/", "#")) and not target.startswith("//")
            if target.startswith("/assets"):
                assert client.get(target).status_code == 200
        assert "<script>" not in page and " style=" not in page and not re.search(r"\son\w+=", page)
    for name in ("serve.css", "serve.js"):
        text = client.get(f"/assets/{name}").text
        assert "http://" not in text and "https://" not in text and "innerHTML" not in text
    assert client.get("/assets/../app.py").status_code == client.get("/assets/x").status_code == 404


def test_the_first_level_is_the_default(client: TestClient) -> None:
    page = screen_page(client.app.state.settings)  # type: ignore[attr-defined]
    assert re.findall(r'<option value="(\w+)"', page)[0] == DEFAULT


def test_the_interface_is_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    form = described["paths"]["/api/screen"]["post"]["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    assert set(form["properties"]) == {"files", "window", "level"}
    page = client.get("/docs").text
    for path in described["paths"]:
        assert path in page
    assert "HTTPValidationError" not in described["components"]["schemas"]
    assert "409" in described["paths"]["/api/screenings/{screening_id}/report"]["get"]["responses"]


def test_nothing_of_the_product_imports_the_server() -> None:
    root = Path(mofgap.__file__).parent
    for path in root.rglob("*.py"):
        if path.parent.name == "web" or path == root / "cli" / "serve.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("mofgap.web") for name in names), path


def test_an_upload_without_a_folder_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_module.Jobs(ServeConfig(max_screenings=1), None)  # type: ignore[arg-type]
    root, jobs.root = jobs.root, jobs.root / "gone"
    with pytest.raises(FileNotFoundError):
        jobs.new_folder()
    jobs.root = root
    assert jobs.new_folder().is_dir()
    asyncio.run(jobs.close())
