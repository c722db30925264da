from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mofgap.crystals import json_stream
from mofgap.crystals.json_stream import JsonError, JsonStream, opened

texts = st.text(max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
few = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True, params=[1, 5, 1 << 20])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in tiny pieces, so that every boundary falls somewhere inconvenient."""
    monkeypatch.setattr(json_stream, "_PIECE", request.param)


def stream(text: str) -> JsonStream:
    return JsonStream(io.BytesIO(text.encode()))


class TestItems:
    @few
    @given(rows=st.lists(values, max_size=4), indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
    def test_are_what_json_reads(self, rows: list[Any], indent: int | None, ascii_only: bool) -> None:
        text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
        assert list(stream(f" {text}\n").items()) == rows

    def test_may_follow_each_other_without_a_space(self) -> None:
        rows = [{"a": i} for i in range(5)]
        found = stream(" " + "".join(map(json.dumps, rows)))
        assert [found.value() for _ in rows] == rows

    def test_that_follow_each_other_without_a_space_are_read_one_at_a_time(self) -> None:
        found = stream('{"a": 1}' * 300_000)
        found.value()
        assert found.n_bytes <= 1 << 20

    def test_may_be_no_number(self) -> None:
        (row,) = stream('[{"gap": NaN}]').items()
        assert math.isnan(row["gap"])

    @pytest.mark.parametrize("text", ["[1, 2", "[1 2]", "{}", "[1,]", "", '["half', "[nope]"])
    def test_end_with_an_error_where_the_text_is_damaged(self, text: str) -> None:
        with pytest.raises(JsonError):
            list(stream(text).items())

    def test_need_utf_8(self) -> None:
        with pytest.raises(JsonError, match="UTF-8"):
            list(JsonStream(io.BytesIO(b'["\xff"]')).items())


@few
@given(members=st.dictionaries(texts, values, max_size=4))
def test_members_give_names_and_their_values(members: dict[str, Any]) -> None:
    reader = stream(json.dumps(members))
    assert {name: reader.value() for name in reader.members()} == members


def test_files_are_read_packed_and_plain(tmp_path: Path) -> None:
    text = b"[1, 2]"
    (tmp_path / "a.json").write_bytes(text)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "a.json.zip", "w") as archive:
        archive.writestr("a.json", text)
    for path in sorted(tmp_path.iterdir()):
        with opened(path) as file:
            assert list(JsonStream(file).items()) == [1, 2]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip"])
@pytest.mark.parametrize("cut", [False, True])
def test_damaged_packing_is_told(tmp_path: Path, suffix: str, cut: bool) -> None:
    path = tmp_path / f"a.json{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.json", json.dumps(list(range(999))))
    else:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[suffix]
        path.write_bytes(pack(json.dumps(list(range(999))).encode()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if cut else b"[1, 2]")
    with pytest.raises(JsonError, match="damaged"), opened(path) as file:
        list(JsonStream(file).items())


def test_an_archive_of_two_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")
    with pytest.raises(JsonError, match="2 JSON files"), opened(tmp_path / "a.zip"):
        pass


def test_an_archive_that_macos_made_holds_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.json", "[1]")
        archive.writestr("__MACOSX/._a.json", b"\0\5\x16\7")
    with opened(tmp_path / "a.zip") as file:
        assert list(JsonStream(file).items()) == [1]


@pytest.mark.parametrize("ending", [".JSON.GZ", ".Json.Zip"])
def test_endings_in_capitals_say_the_same(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    if ending.lower().endswith("gz"):
        path.write_bytes(gzip.compress(b"[1]"))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.json", "[1]")
    with opened(path) as file:
        assert list(JsonStream(file).items()) == [1]


@pytest.mark.parametrize(("flag", "method", "why"), [(1, 8, "is encrypted"), (0, 9, "is packed by method 9")])
def test_archives_that_python_does_not_read_are_named(
    tmp_path: Path, flag: int, method: int, why: str
) -> None:
    path = tmp_path / "x.json.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.json", "[1]")
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8], data[entry + 10] = flag, method
    path.write_bytes(data)
    with pytest.raises(JsonError, match=why), opened(path):
        pass
