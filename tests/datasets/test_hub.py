import builtins
import hashlib
import io
import json
import tarfile
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from torch_geometric_flare.datasets.hub import (
    check_revision,
    download_from_hub,
    extract_archive,
)
from torch_geometric_flare.datasets.records import verify

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b"surface"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class FakeHub:
    """Stands in for `hf_hub_download`, and notes what it was asked."""

    def __init__(self, content=CONTENT, etag=None, commit=COMMIT):
        self.content, self.etag, self.commit = content, etag, commit
        self.calls = []

    def __call__(self, **arguments):
        self.calls.append(arguments)
        folder = Path(arguments["local_dir"])
        path = folder / arguments["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)
        if self.etag is not None:
            notes = folder / ".cache/huggingface/download"
            notes.mkdir(parents=True)
            notes = notes / f"{arguments['filename']}.metadata"
            notes.write_text(f"{self.commit}\n{self.etag}\n1700000000.0\n")
        return str(path)


@pytest.fixture
def use_hub(monkeypatch):
    def use(download):
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return download

    return use


def make_archive(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                archive.addfile(member)
    return path


def test_download_records_what_arrived(tmp_path, use_hub):
    hub = use_hub(FakeHub(etag=SHA256))
    path = download_from_hub("owner/name", "a.bin", tmp_path, revision="v1")

    assert path == tmp_path / "a.bin"
    assert json.loads((tmp_path / "a.bin.json").read_text()) == {
        "file": "a.bin",
        "size": 7,
        "sha256": SHA256,
        "repo_id": "owner/name",
        "revision": "v1",
        "commit": COMMIT,
    }
    assert hub.calls == [
        {
            "repo_id": "owner/name",
            "filename": "a.bin",
            "repo_type": "dataset",
            "revision": "v1",
            "local_dir": tmp_path,
        }
    ]
    assert download_from_hub("owner/name", "a.bin", tmp_path, revision="v1") == path
    assert len(hub.calls) == 1


@pytest.mark.parametrize("content", [b"SURFACE", b"surface!", b""])
def test_changed_bytes_are_refused(tmp_path, use_hub, content):
    use_hub(FakeHub())
    path = download_from_hub("owner/name", "a.bin", tmp_path)
    verify(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.bin' has changed since it was recorded"):
        verify(path)
    with pytest.raises(ValueError, match=r"a\.bin' has changed since it was recorded"):
        download_from_hub("owner/name", "a.bin", tmp_path)


def test_damaged_download_is_removed(tmp_path, use_hub):
    use_hub(FakeHub(etag=hashlib.sha256(b"other").hexdigest()))
    with pytest.raises(ValueError, match="arrived damaged"):
        download_from_hub("owner/name", "a.bin", tmp_path)
    assert not (tmp_path / "a.bin").exists()
    assert not (tmp_path / "a.bin.json").exists()


def test_etag_of_a_small_file_is_no_sha256(tmp_path, use_hub):
    use_hub(FakeHub(etag="a" * 40))
    assert download_from_hub("owner/name", "a.bin", tmp_path).read_bytes() == CONTENT


def test_file_placed_by_hand_is_recorded(tmp_path, use_hub):
    hub = use_hub(FakeHub())
    (tmp_path / "a.bin").write_bytes(b"mine")
    path = download_from_hub("owner/name", "a.bin", tmp_path)
    record = json.loads((tmp_path / "a.bin.json").read_text())
    assert hub.calls == []
    assert (record["size"], record["repo_id"]) == (4, None)
    verify(path)
    with pytest.warns(UserWarning, match="placed by hand: revision 'v1'"):
        check_revision(path, "v1")


@pytest.mark.parametrize("revision", [None, "v1", COMMIT, COMMIT[:7]])
def test_revision_that_fits(tmp_path, use_hub, revision):
    use_hub(FakeHub(etag=SHA256))
    path = download_from_hub("owner/name", "a.bin", tmp_path, revision="v1")
    check_revision(path, revision)


@pytest.mark.parametrize("revision", ["v2", "main", COMMIT[:6], "f" * 40, ""])
def test_revision_that_does_not_fit(tmp_path, use_hub, revision):
    use_hub(FakeHub(etag=SHA256))
    download_from_hub("owner/name", "a.bin", tmp_path, revision="v1")
    with pytest.raises(ValueError, match="was fetched at revision 'v1'"):
        download_from_hub("owner/name", "a.bin", tmp_path, revision=revision)


def test_verify_without_file_or_record(tmp_path):
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "a.bin")
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "a.bin")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_record(tmp_path, text):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    (tmp_path / "a.bin.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.bin\.json' is not"):
        verify(tmp_path / "a.bin")


def test_offline(tmp_path):
    # The real client: offline, it opens no connection.
    with pytest.raises(ConnectionError) as caught:
        download_from_hub("owner/name", "a.tar.gz", tmp_path, revision="v1")
    message = str(caught.value)
    assert "'a.tar.gz' is missing" in message
    assert f"'{tmp_path / 'a.tar.gz'}' by hand" in message
    assert (
        "hf download owner/name a.tar.gz --repo-type dataset --revision v1" in message
    )
    assert not (tmp_path / "a.tar.gz.json").exists()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (LocalEntryNotFoundError("offline"), ConnectionError),
        (huggingface_hub.errors.EntryNotFoundError("404"), FileNotFoundError),
        (TimeoutError("read timed out"), ConnectionError),
        (RuntimeError("broken pipe"), ConnectionError),
        (OSError(28, "No space left on device"), OSError),
    ],
)
def test_client_errors(tmp_path, use_hub, raised, expected):
    def download(**arguments):
        raise raised

    use_hub(download)
    with pytest.raises(expected) as caught:
        download_from_hub("owner/name", "a.bin", tmp_path)
    assert type(caught.value) is expected
    if expected is OSError:
        assert caught.value is raised
    else:
        assert "'a.bin' is missing" in str(caught.value)
        assert caught.value.__cause__ is raised


def test_client_not_installed(tmp_path, monkeypatch):
    original = builtins.__import__

    def without_client(name, *arguments, **keywords):
        if name.startswith("huggingface_hub"):
            raise ModuleNotFoundError(name)
        return original(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_client)
    with pytest.raises(ImportError, match=r'pip install "\.\[data\]'):
        download_from_hub("owner/name", "a.bin", tmp_path)
    (tmp_path / "a.bin").write_bytes(CONTENT)
    download_from_hub("owner/name", "a.bin", tmp_path)


@pytest.mark.parametrize("prefix", ["set/", "./set/", "", "other/"])
def test_extract(tmp_path, prefix):
    members = {f"{prefix}train/1.txt": b"one", f"{prefix}test/2.txt": b"two"}
    path = make_archive(tmp_path / "a.tar.gz", members)
    folder = extract_archive(path, tmp_path / "raw" / "set")
    inner = folder / "other" if prefix == "other/" else folder
    assert folder == tmp_path / "raw" / "set"
    assert (inner / "train/1.txt").read_bytes() == b"one"
    assert (inner / "test/2.txt").read_bytes() == b"two"
    assert folder.stat().st_mode & 0o700 == 0o700
    assert [path.name for path in folder.parent.iterdir()] == ["set"]
    with pytest.raises(FileExistsError, match="delete it to unpack"):
        extract_archive(path, folder)


def test_extract_ignores_hidden_siblings(tmp_path):
    members = {"._set": b"junk", "set/1.txt": b"one"}
    path = make_archive(tmp_path / "a.tar.gz", members)
    extract_archive(path, tmp_path / "set")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["1.txt"]


@pytest.mark.parametrize(
    "member",
    [
        {"../escaped.txt": b"out"},
        {"set/../../escaped.txt": b"out"},
        {"set/link": (tarfile.SYMTYPE, "/etc/passwd")},
        {"set/link": (tarfile.SYMTYPE, "1.txt")},
        {"set/link": (tarfile.SYMTYPE, ".."), "set/link/escaped.txt": b"out"},
        {"set/link": (tarfile.LNKTYPE, "set/1.txt")},
        {"set/device": (tarfile.CHRTYPE, "")},
        {"set/pipe": (tarfile.FIFOTYPE, "")},
    ],
)
def test_unsafe_archive(tmp_path, member):
    (tmp_path / "raw").mkdir()
    path = make_archive(tmp_path / "a.tar.gz", {"set/1.txt": b"one"} | member)
    with pytest.raises(ValueError, match="refusing to unpack"):
        extract_archive(path, tmp_path / "raw" / "set")
    assert list((tmp_path / "raw").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "raw"]


def test_absolute_member(tmp_path):
    target = tmp_path / "escaped.txt"
    path = make_archive(tmp_path / "a.tar.gz", {str(target): b"out"})
    with pytest.raises(ValueError, match="refusing to unpack"):
        extract_archive(path, tmp_path / "raw" / "set")
    assert not target.exists()


@pytest.mark.parametrize("damage", ["truncated", "text", "flipped"])
def test_damaged_archive(tmp_path, damage):
    noise = bytes(i * i * 31 % 251 for i in range(20000))
    path = make_archive(tmp_path / "a.tar.gz", {"set/1.txt": noise})
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "text":
        content = bytearray(b"<html>not found</html>")
    else:
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tar\.gz' is damaged"):
        extract_archive(path, tmp_path / "raw" / "set")
    assert list((tmp_path / "raw").iterdir()) == []


def test_archive_is_verified_when_unpacked(tmp_path):
    path = make_archive(tmp_path / "a.tar.gz", {"set/1.txt": b"one"})
    download_from_hub("owner/name", "a.tar.gz", tmp_path)
    make_archive(path, {"set/1.txt": b"another"})
    with pytest.raises(ValueError, match="has changed since it was recorded"):
        extract_archive(path, tmp_path / "raw" / "set")
    assert not (tmp_path / "raw").exists()
