import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest

from mofgap.crystals import item as item_module
from mofgap.crystals.cif import read_cif
from mofgap.crystals.inputs import expand_inputs, read_all
from mofgap.crystals.item import read_input
from tests.crystals.test_inputs import GOOD, own_name


def test_all_members_of_a_gzipped_cif_are_read(tmp_path):
    other = GOOD.replace(b"data_good", b"data_other", 1)
    assert other != GOOD
    (tmp_path / "all.cif.gz").write_bytes(
        gzip.compress(GOOD) + gzip.compress(other[:99]) + gzip.compress(other[99:])
    )
    first, second = read_all(tmp_path / "all.cif.gz")
    assert first.structure_id == "good" and second.structure_id == "other"


def test_an_archive_that_was_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "a.zip"
    for names in (("b.cif",), ("c.cif", "d.cif")):
        with zipfile.ZipFile(path, "w") as target:
            for name in names:
                target.writestr(name, f"# {name}")
        assert [own_name(item) for item in expand_inputs([path])] == list(names)


def test_a_gzipped_cif_is_the_cif(tmp_path, monkeypatch):
    packed = gzip.compress(GOOD)
    for name, data in (("a.cif.gz", packed), ("b.cif.gz", packed[:-9]), ("c.cif.gz", packed[:9] + b"?" * 40)):
        (tmp_path / name).write_bytes(data)
    (good,), (cut,), (damaged,) = map(read_input, expand_inputs([tmp_path]))
    (plain,) = read_cif(GOOD.decode(), "a.cif")
    assert good.structure_id == "a" and np.array_equal(good.frac_coords, plain.frac_coords)
    assert cut.reason.startswith("unreadable-file: ends early")
    assert damaged.reason.startswith("unreadable-file: ") and "fetch it again" in damaged.reason
    monkeypatch.setattr(item_module, "MAX_FILE_BYTES", len(GOOD) - 1)  # its packed size is far below
    (large,) = read_all(tmp_path / "a.cif.gz")
    assert large.reason.startswith("too-large: ")


@pytest.mark.parametrize(("ending", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_cif_packed_with_bzip2_or_xz_is_the_cif(tmp_path, monkeypatch, ending, pack):
    packed = pack(GOOD)
    for name, data in (("a", packed), ("b", packed[:-20]), ("c", packed[:15] + b"?" * 99)):
        (tmp_path / f"{name}.cif.{ending}").write_bytes(data)
    (good,), (cut,), (damaged,) = map(read_input, expand_inputs([tmp_path]))
    assert good.structure_id == "a" and good.n_atoms == 5
    for failure in (cut, damaged):
        assert failure.reason.startswith("unreadable-file: ") and "fetch it again" in failure.reason
    monkeypatch.setattr(item_module, "MAX_FILE_BYTES", len(GOOD) - 1)
    (large,) = read_all(tmp_path / f"a.cif.{ending}")
    assert large.reason.startswith("too-large: ")


@pytest.mark.parametrize(("byte", "value", "words"), [(8, 1, "encrypted"), (10, 9, "packed by method 9")])
def test_a_member_that_python_cannot_read_is_called_so(tmp_path, byte, value, words):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as target:
        target.writestr("a.cif", GOOD)
    data = bytearray(content.getvalue())
    data[data.index(b"PK\x01\x02") + byte] |= value
    (tmp_path / "x.zip").write_bytes(data)
    (failure,) = read_all(tmp_path / "x.zip")
    assert failure.source.endswith("x.zip:a.cif")
    assert failure.reason == f"unreadable-file: it is {words}; unpack the archive first"


def linked_archive(path, mode):
    with tarfile.open(path, mode) as target:
        member = tarfile.TarInfo("sub/real.cif")
        member.size = len(GOOD)
        target.addfile(member, io.BytesIO(GOOD))
        links = {"hard": "sub/real.cif", "soft": "sub/real.cif", "out": "/etc/hostname", "self": "self.cif"}
        for name, place in links.items():
            link = tarfile.TarInfo(f"{name}.cif")
            link.type, link.linkname = tarfile.LNKTYPE if name == "hard" else tarfile.SYMTYPE, place
            target.addfile(link)
    return path


def test_links_in_an_archive_have_the_content_of_its_members(tmp_path):
    path = linked_archive(tmp_path / "links.tar", "w")
    found = {entry.source.partition(":")[2]: entry for entry in expand_inputs([path])}
    assert list(found) == ["hard.cif", "out.cif", "self.cif", "soft.cif", "sub/real.cif"]
    assert all(found[name].read() == GOOD for name in ("hard.cif", "soft.cif", "sub/real.cif"))
    assert all(found[name].reason.startswith("unreadable-file: a link") for name in ("out.cif", "self.cif"))


def test_links_in_a_compressed_archive_are_failures(tmp_path):
    path = linked_archive(tmp_path / "links.tar.gz", "w:gz")
    member, *links = expand_inputs([path])
    assert member.read() == GOOD
    assert [link.reason.split(":")[0] for link in links] == ["unreadable-file"] * 4
