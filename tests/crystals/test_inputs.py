import bz2
import errno
import gzip
import io
import lzma
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest

from mofgap.crystals import item as item_module
from mofgap.crystals import several
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formats import stem_of
from mofgap.crystals.inputs import expand_inputs, files_of
from mofgap.crystals.item import InputItem, read_input

GOOD = (Path(__file__).parents[1] / "fixtures" / "cifs" / "good.cif").read_bytes()
MEMBERS = ("sub/z.cif", "b.cif", "a.CIF", "sub/a.cif", ".hidden.cif", "notes.txt")
BY_NAME = ["a.CIF", "b.cif", "sub/a.cif", "sub/z.cif"]


@pytest.fixture
def folder(tmp_path):
    """A folder of CIFs, of which each names itself in a comment."""
    for member in MEMBERS:
        path = tmp_path / "mofs" / member
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(GOOD + f"# {member}\n".encode())
    return tmp_path / "mofs"


def archive(folder, suffix):
    path = folder.parent / f"mofs{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for member in MEMBERS:
                target.write(folder / member, member)
    else:
        mode = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}[suffix]
        with tarfile.open(path, mode) as target:
            for member in MEMBERS:
                target.add(folder / member, member)
    return path


def own_name(item):
    return item.read().decode().rsplit("# ", 1)[1].strip()


def test_hidden_folders_are_not_looked_into(folder):
    for name in (".ipynb_checkpoints", "sub/.snapshot"):
        (folder / name).mkdir()
        (folder / name / "b.cif").write_bytes(GOOD)
    assert [item.source for item in expand_inputs([folder])] == [str(folder / member) for member in BY_NAME]


def test_a_folder_gives_its_cifs_by_name(folder):
    items = list(expand_inputs([folder]))
    assert [item.source for item in items] == [str(folder / member) for member in BY_NAME]
    assert [own_name(item) for item in items] == BY_NAME


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz"])
def test_archives_give_their_members(folder, suffix):
    path = archive(folder, suffix)
    items = list(expand_inputs([path]))
    stored = [member for member in MEMBERS if member in BY_NAME]
    expected = BY_NAME if suffix in (".zip", ".tar") else stored
    assert [item.source for item in items] == [f"{path}:{member}" for member in expected]
    assert [own_name(item) for item in reversed(items)] == expected[::-1]
    (entry,) = read_input(items[0])
    assert entry.structure_id == Path(expected[0]).stem


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_members_that_are_many_and_tiny_are_refused(folder, suffix, monkeypatch):
    path = archive(folder, suffix)
    monkeypatch.setattr(several, "MOST_SMALL", 3)
    monkeypatch.setattr(several, "LEAST_BYTES", len(GOOD))
    assert len(list(expand_inputs([path]))) == 4
    monkeypatch.setattr(several, "LEAST_BYTES", len(GOOD) + 100)
    *items, refused = expand_inputs([path])
    assert len(items) <= 3 and isinstance(refused, ReadFailure) and refused.source == str(path)
    assert refused.reason.startswith("too-many-structures: ") and " 3 structures" in refused.reason


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_all_streams_of_a_packed_archive_are_read(folder, suffix):
    pack = {".tar.gz": gzip.compress, ".tar.bz2": bz2.compress, ".tar.xz": lzma.compress}[suffix]
    plain = archive(folder, ".tar").read_bytes()
    path = folder.parent / f"many{suffix}"
    path.write_bytes(b"".join(pack(plain[i : i + 3000]) for i in range(0, len(plain), 3000)))
    found = [own_name(item) for item in expand_inputs([path])]
    assert sorted(found) == BY_NAME


def test_a_packed_archive_without_the_ending_of_one_is_read(folder):
    path = archive(folder, ".tar.gz").rename(folder.parent / "renamed.tar")
    assert sorted(own_name(item) for item in expand_inputs([path])) == BY_NAME


def test_items_survive_a_process_boundary(folder):
    items = list(expand_inputs([archive(folder, ".tar"), archive(folder, ".zip"), folder]))
    assert [own_name(pickle.loads(pickle.dumps(item))) for item in items] == BY_NAME * 3


def test_patterns_are_sorted(folder):
    assert [item.source for item in expand_inputs([f"{folder}/**/*.cif"])] == [
        str(folder / member) for member in ("b.cif", "sub/a.cif", "sub/z.cif")
    ]


@pytest.mark.parametrize("pattern", ["**", "**/*", "*", "s*"])
def test_a_pattern_gives_each_file_once(folder, pattern):
    found = [item.source for item in expand_inputs([f"{folder}/{pattern}"])]
    assert sorted(found) == sorted(set(found)) and str(folder / "sub/a.cif") in found
    assert [name for name in files_of(f"{folder}/{pattern}") if not name.endswith(".txt")] == found


def test_lists_and_standard_input(folder):
    lines = ["# chosen\n", f"{folder}/b.cif\n", "\n", f"{folder}/sub\r\n"]
    listing = folder / "list.txt"
    listing.write_text("".join(lines))
    expected = [str(folder / member) for member in ("b.cif", "sub/a.cif", "sub/z.cif")]
    assert [item.source for item in expand_inputs([f"@{listing}"])] == expected
    assert [item.source for item in expand_inputs(["-"], stdin=lines)] == expected
    zeros = "\0".join([*expected, ""])  # of find -print0
    assert [item.source for item in expand_inputs(["-"], stdin=[zeros])] == expected


def test_names_between_zeros_may_have_any_character(folder):
    names = [str(folder / name) for name in ("#1.cif", " a.cif", "new\nline.cif", "b.cif")]
    for name in names:
        Path(name).write_bytes(GOOD)
    stream = io.StringIO("\0".join([*names, ""]), newline="\n")
    assert [item.source for item in expand_inputs(["-"], stdin=stream)] == names
    assert [item.source for item in expand_inputs(["-"], stdin=[f"{name}\n" for name in names[:2]])] == names[
        :2
    ]
    assert list(expand_inputs(["-"], stdin=["#2.cif\n"])) == []
    (failure,) = expand_inputs(["-"], stdin=["b\0.\0c\0i\0f\0\r\0\n"])  # UTF-16
    assert isinstance(failure, ReadFailure)


def test_standard_input_may_be_a_cif():
    for head in ("", "#\\#CIF_1.1\n\n"):
        (item,) = expand_inputs(["-"], stdin=io.StringIO(head + GOOD.decode()))
        (crystal,) = read_input(item)
        assert (item.source, crystal.structure_id, crystal.n_atoms) == ("stdin", "stdin", 5)


def test_names_that_begin_like_a_cif_are_names(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "data_b.cif").write_bytes(GOOD)
    found = expand_inputs(["-"], stdin=["# mine\n", "data_b.cif\n", "data_c.cif\n", "_d.cif\n"])
    assert [entry.source for entry in found] == ["data_b.cif", "data_c.cif", "_d.cif"]
    assert [entry.source for entry in expand_inputs(["-"], stdin=["data_b.cif"])] == ["data_b.cif"]
    assert list(expand_inputs(["-"], stdin=[])) == []


def test_a_list_may_hold_names_that_are_no_text(folder):
    listing = folder / "list.txt"
    listing.write_bytes(f"\ufeff{folder}/b.cif\n{folder}/no".encode() + b"\xff.cif\n")
    found, missing = expand_inputs([f"@{listing}"])
    assert found.source == str(folder / "b.cif")
    assert missing.source == f"{folder}/no\udcff.cif" and missing.reason.startswith("missing-file")
    assert list(files_of(f"@{listing}")) == [str(folder / "b.cif")]


def damaged_archive(folder):
    path = archive(folder, ".tar.gz")
    path.write_bytes(path.read_bytes()[:150])
    return path


def zip_of_a_later_version():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as target:
        target.writestr("a.cif", GOOD)
    data = bytearray(content.getvalue())
    data[data.index(b"PK\x01\x02") + 6] = 99  # the version needed to unpack it
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.cif", "missing-file"),
        ("no*where.cif", "no-match"),
        ("@nolist.txt", "unreadable-list"),
        ("empty", "no-structures"),
        ("text.zip", "bad-archive"),
        ("text.tar.xz", "bad-archive"),
        ("cut.tar.gz", "bad-archive"),
        ("later.zip", "bad-archive"),
    ],
)
def test_names_that_lead_nowhere_are_failures(folder, monkeypatch, name, reason):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    for text in ("text.zip", "text.tar.xz"):
        (folder / text).write_text("no archive")
    (folder / "cut.tar.gz").write_bytes(damaged_archive(folder).read_bytes())
    (folder / "later.zip").write_bytes(zip_of_a_later_version())
    entries = list(expand_inputs([name, "b.cif"]))
    assert isinstance(entries[-1], InputItem)
    failures = [entry for entry in entries if isinstance(entry, ReadFailure)]
    assert [failure.reason.split(":")[0] for failure in failures] == [reason]


def test_a_file_that_vanishes_is_a_failure(folder):
    item = next(iter(expand_inputs([folder])))
    Path(item.path).unlink()
    (failure,) = read_input(item)
    assert failure.reason.startswith("unreadable-file: No such file")


def test_a_reader_that_breaks_costs_one_file(folder, monkeypatch):
    def breaks(*_, **__):
        raise TypeError("incompatible arguments")

    monkeypatch.setattr(item_module, "read_cif_bytes", breaks)
    (failure,) = read_input(InputItem("b.cif", str(folder / "b.cif")))
    assert (failure.source, failure.structure_id) == ("b.cif", "b")
    assert failure.reason.startswith("unreadable: TypeError: incompatible arguments; ")


def test_a_huge_file_is_a_failure(folder, monkeypatch):
    monkeypatch.setattr(item_module, "MAX_FILE_BYTES", 100)
    names = [folder, archive(folder, ".zip"), archive(folder, ".tar"), archive(folder, ".tar.gz")]
    found = list(expand_inputs(names))
    assert len(found) >= len(names)
    for entry in found:
        (failure,) = read_input(entry) if isinstance(entry, InputItem) else [entry]
        assert failure.reason.startswith("too-large")


def test_the_stream_is_lazy(folder):
    def endless():
        while True:
            yield f"{folder}/b.cif\n"

    stream = expand_inputs(["-"], stdin=endless())
    assert [next(stream).source for _ in range(3)] == [str(folder / "b.cif")] * 3


def test_members_of_one_name_have_each_their_content(folder):
    path = folder / "twice.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("b.cif", "# first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            target.writestr("b.cif", "# second")
    items = list(expand_inputs([path]))
    assert [own_name(item) for item in items] == ["first", "second"]
    assert [item.source for item in items] == [f"{path}:b.cif", f"{path}:2/b.cif"]
    assert {item.structure_id for item in items} == {"b"}


def test_an_empty_name_is_no_folder():
    (failure,) = expand_inputs([""])
    assert failure.reason.startswith("missing-file: the name is empty")


def test_linked_folders_are_read_once(folder):
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "e.cif").write_bytes(GOOD)
    (elsewhere / "back").symlink_to(folder)
    for name, place in {"a-link": elsewhere, "b-link": elsewhere, "self": folder / "self"}.items():
        (folder / name).symlink_to(place)
    (folder / "sub" / "up").symlink_to(folder)
    names = [item.source for item in expand_inputs([folder])]
    assert names == [str(folder / member) for member in [*BY_NAME, "a-link/e.cif"]]


def test_a_folder_that_cannot_be_listed_is_a_failure(folder, monkeypatch):
    listed = os.scandir

    def scandir(name):
        if str(name).endswith("sub"):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return listed(name)

    monkeypatch.setattr(os, "scandir", scandir)  # root may list any
    *items, failure = expand_inputs([folder])
    assert [item.source for item in items] == [str(folder / "a.CIF"), str(folder / "b.cif")]
    assert failure.source == str(folder / "sub")
    assert failure.reason.startswith("unreadable-folder: Permission denied")


@pytest.mark.parametrize("name", ["x" * 300 + ".cif", "@" + "x" * 300, "loop.cif", "nul\0.cif"])
def test_names_that_cannot_be_looked_up_are_failures(folder, name):
    (folder / "loop.cif").symlink_to(folder / "loop.cif")
    name = str(folder / name) if name == "loop.cif" else name
    *failures, item = expand_inputs(["-"], stdin=[name, f"{folder}/b.cif"])
    assert [failure.reason.split(":")[0] for failure in failures] == ["unreadable-file"]
    assert own_name(item) == "b.cif"
    assert isinstance(next(expand_inputs([name])), ReadFailure)


@pytest.mark.parametrize("name", ["pipe.cif", "pipe.tar.gz"])
def test_a_pipe_is_a_failure(folder, name):
    os.mkfifo(folder / name)
    (item,) = expand_inputs([folder / name])
    (failure,) = read_input(item)
    assert failure.reason.startswith("unreadable-file: not a regular file")


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("a:1.cif", "a:1"),
        ("f/a.zip:g/b:1.cif", "b:1"),
        ("a.tar.xz:b.cif", "b"),
        ("a.tgz:x.cif", "x"),
        ("d/a.cif.gz", "a"),
    ],
)
def test_names_with_colons_are_not_archives(source, stem):
    assert stem_of(source) == stem
