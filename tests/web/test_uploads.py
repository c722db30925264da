from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.item import InputItem, read_input
from mofgap.web import uploads
from mofgap.web.config import MB, ServeConfig
from mofgap.web.uploads import RequestError, Upload, inputs_of, plain_name, receive

BOUNDARY = "----boundary"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
LIMITS = ServeConfig(max_files=5, max_mb=1, max_structures=4)


def form(files: Sequence[tuple[str, bytes]], fields: Mapping[str, str] | None = None) -> bytes:
    parts = [
        f'Content-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + data
        for name, data in files
    ]
    parts += [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode()
        for name, text in (fields or {}).items()
    ]
    start = f"--{BOUNDARY}\r\n".encode()
    return b"".join(start + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


def received(body: bytes, folder: Path, kind: str = KIND, n_bytes: int = 1000) -> Upload:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), n_bytes):
            yield body[start : start + n_bytes]

    return asyncio.run(receive(chunks(), kind, folder, LIMITS))


def packed(names: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("n_bytes", [1, 7, 100_000])
def test_files_and_fields_arrive_whole_however_they_are_cut(tmp_path: Path, n_bytes: int) -> None:
    sent = [("a.cif", b"data_a\r\n--x\r\n"), ("größe.cif", bytes(range(256)))]
    upload = received(form(sent, {"level": "pbe", "window": "1.8 3.0"}), tmp_path, n_bytes=n_bytes)
    assert [(each.shown, each.path.read_bytes()) for each in upload.files] == sent
    assert upload.fields == {"level": "pbe", "window": "1.8 3.0"}


def test_each_file_is_shown_under_a_name_of_its_own(tmp_path: Path) -> None:
    sent = [(name, b"data_a") for name in ("3/a.cif", "a.cif", "a.cif", "a.cif")]
    shown = [each.shown for each in received(form(sent, {}), tmp_path).files]
    assert len(set(shown)) == 4 and shown[:2] == ["3/a.cif", "a.cif"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../etc/passwd",
            "/etc/passwd",
            "..",
            ".",
            "a/../../b.cif",
            "C:\\Windows\\x.cif",
            "*.cif",
            "[a].cif",
        ),
        *("@list.txt", "-", "-.cif", "~/x.cif", "x" * 300 + ".cif", "a\x00b.cif", ".cif", "%2e%2e/x.cif"),
    ],
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "upload"
    folder.mkdir()
    received(form([(name, b"data_x")]), folder)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.parent.parent == folder and path.read_bytes() == b"data_x"
    assert set(path.name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


@pytest.mark.parametrize("name", ["a.cif.gz", "b.TAR.XZ", "POSCAR", "c.extxyz"])
def test_endings_survive(name: str) -> None:
    assert plain_name(f"Ordner/{name}") == name
    assert plain_name("x" * 200 + name).endswith(name)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 415),
        (b"no form at all", KIND, 400),
        (form([("a.cif", b"x")])[:-12], KIND, 400),
        (form([]), KIND, 422),
        (form([("a.cif", b"x")], {"colour": "red"}), KIND, 422),
        (form([("a.cif", b"x")], {"level": "x" * 2000}), KIND, 422),
        (form([("a.cif", b"x")] * 6), KIND, 413),
        (form([("a.cif", b"x" * (MB + 1))]), KIND, 413),
    ],
    ids=["json", "no boundary", "no form", "cut", "no files", "unknown field", "long field", "many", "large"],
)
def test_other_requests_are_refused(tmp_path: Path, body: bytes, kind: str, status: int) -> None:
    with pytest.raises(RequestError) as found:
        received(body, tmp_path, kind)
    assert found.value.status == status


def test_an_upload_that_stands_still_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STALL_S", 0.01)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"--"
        await asyncio.Event().wait()

    with pytest.raises(RequestError) as found:
        asyncio.run(receive(chunks(), KIND, tmp_path, LIMITS))
    assert found.value.status == 408


def test_an_upload_that_is_broken_off_ends(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"--"
        raise ClientDisconnect

    with pytest.raises(RequestError, match="broken off"):
        asyncio.run(receive(chunks(), KIND, tmp_path, LIMITS))


def test_inputs_have_the_names_that_were_sent(
    tmp_path: Path, write_cifs: Callable[[Path, int], list[Path]]
) -> None:
    (cif,) = write_cifs(tmp_path / "cifs", 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(cif, "in/s0.cif")
    sent = [("../größe.cif", cif.read_bytes()), ("x y.zip", buffer.getvalue())]
    sent += [("t.tgz", packed({"p.cif": cif.read_bytes()})), ("e.zip", b"PK")]
    (tmp_path / "up").mkdir()
    found = inputs_of(received(form(sent), tmp_path / "up"), LIMITS)
    names = [each.source for each in found]
    assert names == ["../größe.cif", "x y.zip:in/s0.cif", "t.tgz:p.cif", "e.zip"]
    assert isinstance(found[-1], ReadFailure) and found[-1].reason.startswith("bad-archive")
    assert [each.read() for each in found if not isinstance(each, ReadFailure)] == [cif.read_bytes()] * 3
    assert [each.structure_id for each in found] == ["größe", "s0", "p", "e"]
    assert all(each.data is None for each in found if not isinstance(each, ReadFailure))


def test_the_same_name_twice_is_told_apart(tmp_path: Path) -> None:
    upload = received(form([("a.cif", b"1"), ("a.cif", b"2")]), tmp_path)
    assert [each.source for each in inputs_of(upload, LIMITS)] == ["a.cif", "2/a.cif"]


def test_other_files_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    sent = [("mofs/a.cif", b"1"), ("mofs/README.md", b"2"), ("b.txt", b"3")]
    sent += [("mofs/._a.cif", b"4"), ("mofs/.ipynb_checkpoints/a-checkpoint.cif", b"5")]
    found = inputs_of(received(form(sent), tmp_path), LIMITS)
    assert [each.source for each in found] == ["mofs/a.cif", "b.txt"]  # who names a file wants it read
    (tmp_path / "other").mkdir()
    with pytest.raises(RequestError) as error:
        inputs_of(received(form([("mofs/README.md", b"2")]), tmp_path / "other"), LIMITS)
    assert error.value.status == 422


def test_what_is_not_read_of_folders_and_archives_is_counted(tmp_path: Path) -> None:
    inner = packed({"b.cif": b"data_b"})
    files = [
        ("up.tgz", packed({"a.cif": b"data_a", "more.tgz": inner})),
        ("d/more.zip", b"PK"),
        ("d/a.cif", b""),
    ]
    upload = received(form(files), tmp_path)
    assert len(inputs_of(upload, LIMITS)) == 2
    assert upload.passed_over == {".tgz": 1, ".zip": 1}


def test_a_stopped_upload_is_unpacked_no_further(tmp_path: Path) -> None:
    upload = received(form([("a.cif", b"1")]), tmp_path)
    upload.is_stopped = True
    with pytest.raises(RequestError) as error:
        inputs_of(upload, LIMITS)
    assert error.value.status == 410


def test_a_list_of_names_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.cif"
    secret.write_text("data_secret")
    (tmp_path / "up").mkdir()
    upload = received(form([("@list.txt", str(secret).encode())]), tmp_path / "up")
    (found,) = inputs_of(upload, LIMITS)
    assert not isinstance(found, ReadFailure) and b"data_secret" not in found.read()


@pytest.mark.parametrize(
    "members", [{f"{i}.cif": b"x" for i in range(5)}, {"a.cif": bytes(MB)}], ids=["many", "large"]
)
def test_archives_have_limits_too(tmp_path: Path, members: dict[str, bytes]) -> None:
    upload = received(form([("a.tar.gz", packed(members))]), tmp_path)
    with pytest.raises(RequestError) as found:
        inputs_of(upload, LIMITS)
    assert found.value.status == 413


@pytest.mark.parametrize("ending", ["extxyz", "json", "db", "traj"])
@pytest.mark.parametrize("in_archive", [False, True])
def test_other_formats_arrive_as_structures(tmp_path: Path, ending: str, in_archive: bool) -> None:
    from ase import Atoms
    from ase.io import write
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms = Atoms("ZnO", positions=[[0, 0, 0], [0, 0, 2]], cell=[4, 4, 6], pbc=True)
    path = tmp_path / f"x.{ending}"
    if ending == "json":
        path.write_text(AseAtomsAdaptor.get_structure(atoms).to_json())  # type: ignore[arg-type]
    else:
        write(path, [atoms])
    name, data = f"größe.{ending}", path.read_bytes()
    (tmp_path / "up").mkdir()
    sent = ("a.tgz", packed({name: data})) if in_archive else (name, data)
    (item,) = inputs_of(received(form([sent]), tmp_path / "up"), LIMITS)
    assert isinstance(item, InputItem) and item.data is None
    (entry,) = read_input(item)
    assert isinstance(entry, Crystal) and entry.n_atoms == 2, entry
    assert entry.structure_id == "größe" and entry.source.endswith(name)


def test_a_poscar_is_named_by_its_folder(tmp_path: Path) -> None:
    found = inputs_of(received(form([("mof-5/CONTCAR", b"x"), ("POSCAR", b"x")]), tmp_path), LIMITS)
    assert [each.structure_id for each in found] == ["mof-5", "POSCAR"]


def test_the_blocks_of_a_cif_are_counted(tmp_path: Path) -> None:
    for name, content in (("a.cif", b"data_a\n" * 5), ("a.cif.gz", gzip.compress(b"data_a\n" * 5))):
        (tmp_path / name).mkdir()
        upload = received(form([(name, content)]), tmp_path / name)
        with pytest.raises(RequestError, match="more than 4 structures"):
            inputs_of(upload, LIMITS)
