import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest

from mofgap.crystals import inputs
from mofgap.crystals.cif import ReadFailure
from mofgap.crystals.inputs import InputItem, expand_inputs, read_input

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


def test_items_survive_a_process_boundary(folder):
    items = list(expand_inputs([archive(folder, ".tar"), archive(folder, ".zip"), folder]))
    assert [own_name(pickle.loads(pickle.dumps(item))) for item in items] == BY_NAME * 3


def test_patterns_are_sorted(folder):
    assert [item.source for item in expand_inputs([f"{folder}/**/*.cif"])] == [
        str(folder / member) for member in ("b.cif", "sub/a.cif", "sub/z.cif")
    ]


def test_lists_and_standard_input(folder):
    lines = ["# chosen\n", f"{folder}/b.cif\n", "\n", f"{folder}/sub\r\n"]
    listing = folder / "list.txt"
    listing.write_text("".join(lines))
    expected = [str(folder / member) for member in ("b.cif", "sub/a.cif", "sub/z.cif")]
    assert [item.source for item in expand_inputs([f"@{listing}"])] == expected
    assert [item.source for item in expand_inputs(["-"], stdin=lines)] == expected


def damaged_archive(folder):
    path = archive(folder, ".tar.gz")
    path.write_bytes(path.read_bytes()[:150])
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.cif", "missing-file"),
        ("no*where.cif", "no-match"),
        ("@nolist.txt", "unreadable-list"),
        ("empty", "no-cifs"),
        ("text.zip", "bad-archive"),
        ("text.tar.xz", "bad-archive"),
        ("cut.tar.gz", "bad-archive"),
    ],
)
def test_names_that_lead_nowhere_are_failures(folder, monkeypatch, name, reason):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    for text in ("text.zip", "text.tar.xz"):
        (folder / text).write_text("no archive")
    (folder / "cut.tar.gz").write_bytes(damaged_archive(folder).read_bytes())
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

    monkeypatch.setattr(inputs, "read_cif_bytes", breaks)
    (failure,) = read_input(InputItem("b.cif", str(folder / "b.cif")))
    assert failure == ReadFailure("b.cif", "b", "unreadable: TypeError: incompatible arguments")


def test_a_huge_file_is_a_failure(folder, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_FILE_BYTES", 100)
    names = [folder, archive(folder, ".zip"), archive(folder, ".tar"), archive(folder, ".tar.gz")]
    for entry in expand_inputs(names):
        (failure,) = read_input(entry) if isinstance(entry, InputItem) else [entry]
        assert failure.reason.startswith("too-large")


def test_the_stream_is_lazy(folder):
    def endless():
        while True:
            yield f"{folder}/b.cif\n"

    stream = expand_inputs(["-"], stdin=endless())
    assert [next(stream).source for _ in range(3)] == [str(folder / "b.cif")] * 3


def test_links_in_an_archive_are_not_followed(tmp_path):
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as target:
        link = tarfile.TarInfo("link.cif")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        target.addfile(link)
        member = tarfile.TarInfo("real.cif")
        member.size = len(GOOD)
        target.addfile(member, io.BytesIO(GOOD))
    assert [item.source for item in expand_inputs([path])] == [f"{path}:real.cif"]
