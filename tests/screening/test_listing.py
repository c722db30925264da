"""Inputs that are listed once give each shard what it would have found itself."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.inputs import expand_inputs
from mofgap.crystals.item import InputItem
from mofgap.crystals.reasons import StructureError
from mofgap.screening.listing import is_listing, read_listing, write_listing
from mofgap.screening.reading import Source
from mofgap.screening.shard import Shard, ShardError

CIF = "data_{}\n_cell_length_a 5\n" + "# more\n" * 50
XYZ = '1\nLattice="5 0 0 0 5 0 0 0 5"\nC 0 0 0\n'


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    """A folder, archives of all kinds, a file of several structures, and a name that leads nowhere."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.cif").write_text(CIF.format(i))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for i, method in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)):
            archive.writestr(f"\u00fc/{i}.cif", CIF.format(i) * 9, compress_type=method)
    for name, mode in (("t.tar", "w"), ("t.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:  # type: ignore[call-overload]
            tar.add(folder / "1.cif", "1.cif")
    (tmp_path / "s.xyz").write_text(XYZ + XYZ)
    return [str(tmp_path / name) for name in ("folder", "z.zip", "t.tar", "t.tar.gz", "s.xyz", "no.cif")]


def seen(source: Source) -> tuple[object, ...]:
    assert not isinstance(source, Crystal)
    if isinstance(source, ReadFailure):
        return source.source, source.structure_id, source.reason
    return source.source, source.structure_id, source.kind, source.named, source.read()


def taken(sources: Callable[[Shard], Iterable[Source]], n_shards: int) -> list[tuple[list[Any], Any]]:
    """Of each shard its inputs, and what all shards must agree on."""
    found = []
    for i in range(1, n_shards + 1):
        shard = Shard(i, n_shards)
        inputs = [seen(source) for source in sources(shard)]
        found.append((inputs, shard.whole))
    return found


@pytest.mark.parametrize("n_shards", [1, 3, 40])
def test_each_shard_gets_what_it_would_have_found(tmp_path: Path, many: list[str], n_shards: int) -> None:
    n = write_listing(tmp_path / "t.inputs", expand_inputs(many), n_shards)
    listed = taken(lambda shard: read_listing(tmp_path / "t.inputs", shard), n_shards)
    assert listed == taken(lambda shard: shard.take(expand_inputs(many)), n_shards)
    assert n == sum(len(inputs) for inputs, _ in listed) == 13


def test_the_table_of_contents_of_a_zip_is_not_read_again(
    tmp_path: Path, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_listing(tmp_path / "t.inputs", expand_inputs(many[1:2]), 1)
    items = list(read_listing(tmp_path / "t.inputs", Shard(1, 1)))

    def refuse(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(zipfile.ZipFile, "__init__", refuse)
    assert [item.read()[:6] for item in items[:2] if isinstance(item, InputItem)] == [b"data_0", b"data_1"]


def test_an_archive_that_changed_since_is_no_other_structure(tmp_path: Path, many: list[str]) -> None:
    write_listing(tmp_path / "t.inputs", expand_inputs(many[1:2]), 1)
    content = bytearray((tmp_path / "z.zip").read_bytes())
    content[200] ^= 1
    (tmp_path / "z.zip").write_bytes(content)
    first, *_ = read_listing(tmp_path / "t.inputs", Shard(1, 1))
    with pytest.raises(StructureError, match="list it again"):
        first.read()  # type: ignore[union-attr]


def test_a_tar_that_was_written_anew_gives_no_structure_under_the_name_of_another(tmp_path: Path) -> None:
    """Members of equal size in another order, as of a generator of structures."""
    (tmp_path / "a.cif").write_text(CIF.format("a"))
    (tmp_path / "b.cif").write_text(CIF.format("b"))
    for names in (["a", "b"], ["b", "a"]):
        with tarfile.open(tmp_path / "t.tar", "w") as tar:
            for name in names:
                tar.add(tmp_path / f"{name}.cif", f"{name}.cif")
        if names == ["a", "b"]:
            write_listing(tmp_path / "t.inputs", expand_inputs([str(tmp_path / "t.tar")]), 1)
    for item in read_listing(tmp_path / "t.inputs", Shard(1, 1)):
        with pytest.raises(StructureError, match="list it again"):
            item.read()  # type: ignore[union-attr]


def test_a_listing_of_other_shards_or_damaged_is_refused(tmp_path: Path, many: list[str]) -> None:
    folder = tmp_path / "t.inputs"
    write_listing(folder, expand_inputs(many), 2)
    with pytest.raises(ShardError, match="not made for 3 shards"):
        list(read_listing(folder, Shard(1, 3)))
    (path,) = folder.glob("*-1-of-2*")
    content = path.read_bytes()
    path.write_bytes(content[:300] + b"0" + content[301:])
    with pytest.raises(ShardError, match="make it again"):
        list(read_listing(folder, Shard(1, 2)))


def test_a_listing_may_end_in_a_slash(tmp_path: Path) -> None:
    (tmp_path / "t.inputs").mkdir()
    assert is_listing(f"{tmp_path / 't.inputs'}/") and not is_listing(f"{tmp_path}/")


def test_a_listing_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def sources() -> object:
        yield InputItem("a.cif", "a.cif")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_listing(tmp_path / "t.inputs", sources(), 2)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
