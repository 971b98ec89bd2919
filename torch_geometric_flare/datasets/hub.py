r"""Download official files from the Hugging Face hub, verify and unpack them.

The hub's client downloads and resumes. This module adds guarantees that neither the
client, `torch_geometric.data.extract_tar` nor pooch gives: hashes recorded on first
use, atomic unpacking, and no links in archives.
"""

import errno
import gzip
import os
import re
import shutil
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from torch_geometric_flare._arguments import first_line
from torch_geometric_flare._extras import MissingExtra, install_command
from torch_geometric_flare.datasets.records import (
    read_json,
    record_path,
    verify,
    write_record,
)


def download_from_hub(
    repo_id: str,
    filename: str,
    folder: str | os.PathLike[str],
    revision: str | None = None,
) -> Path:
    r"""Download one file of a data set repository, unless it exists already.

    `<filename>.json` in the same folder records the size and SHA-256 of the file, the
    repository, the requested revision and its commit. A file that is already in
    `folder` is not downloaded again: it is verified against its record, or recorded as
    it is if it was placed manually and has none.

    Args:
        repo_id: The repository, as `"owner/name"`.
        filename: The file's path inside the repository, and inside `folder`.
        folder: The local folder.
        revision: A commit, tag or branch; `None` takes the latest.

    Returns:
        The path of the local file.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        ConnectionError: If the hub cannot be reached.
        FileNotFoundError: If the hub has no such repository, revision or file.
        ValueError: If the bytes differ from the record, or from the hash that the hub
            gives, or if the file was downloaded at another revision.
    """
    path = Path(folder) / filename
    if path.exists():
        if record_path(path).exists():
            verify(path)
        else:
            write_record(path, repo_id=None, revision=None, commit=None)
        check_revision(path, revision)
        return path

    with _clear_errors(repo_id, filename, folder, revision):
        from huggingface_hub import hf_hub_download

        fetched = hf_hub_download(
            repo_id=repo_id,
            filename=filename,
            repo_type="dataset",
            revision=revision,
            local_dir=Path(folder),
        )

    path = Path(fetched)
    commit, expected = _client_notes(Path(folder), filename)
    sha256 = write_record(path, repo_id=repo_id, revision=revision, commit=commit)
    if expected is not None and sha256 != expected:
        # Remove it; the next call would treat it as a file placed manually.
        path.unlink()
        record_path(path).unlink()
        raise ValueError(
            f"'{filename}' arrived damaged: its SHA-256 is {sha256}, the hub gives "
            f"{expected}. It has been removed; fetch it again."
        )
    return path


def list_hub_files(
    repo_id: str,
    pattern: str,
    folder: str | os.PathLike[str],
    revision: str | None = None,
) -> list[str]:
    r"""Return the paths of files of a data set repository, in alphabetical order.

    Args:
        repo_id: The repository, as `"owner/name"`.
        pattern: Pattern that paths inside the repository must match, such as
            `"train/*.npz"`.
        folder: Folder in which files can be placed manually, for the messages.
        revision: A commit, tag or branch; `None` takes the latest.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        ConnectionError: If the hub cannot be reached.
        FileNotFoundError: If the hub has no such repository, revision or files.
    """
    with _clear_errors(repo_id, pattern, folder, revision):
        from huggingface_hub import HfApi

        names = HfApi().list_repo_files(repo_id, repo_type="dataset", revision=revision)
    # Ignore folders of the same name further down.
    depth = pattern.count("/")
    paths = sorted(
        name
        for name in names
        if name.count("/") == depth and PurePosixPath(name).match(pattern)
    )
    if not paths:
        raise FileNotFoundError(
            f"the data set repository '{repo_id}' has no files '{pattern}' at revision "
            f"{revision!r}. {_remedy(repo_id, pattern, folder, revision)}"
        )
    return paths


def _remedy(
    repo_id: str, wanted: str, folder: str | os.PathLike[str], revision: str | None
) -> str:
    """Return a hint how to get files without a connection."""
    names = "" if "*" in wanted else f" {wanted}"
    command = f"hf download {repo_id}{names} --repo-type dataset"
    command += f" --revision {revision}" if revision else ""
    return (
        f"Place '{Path(folder, wanted)}' by hand, or fetch it on a machine with a "
        f'connection: `{command} --local-dir "{folder}"`.'
    )


@contextmanager
def _clear_errors(
    repo_id: str, wanted: str, folder: str | os.PathLike[str], revision: str | None
) -> Iterator[None]:
    """Convert exceptions of the hub's client to errors that say what to do."""
    remedy = _remedy(repo_id, wanted, folder, revision)
    try:
        from huggingface_hub.errors import (
            EntryNotFoundError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise MissingExtra(
            f"'{Path(folder, wanted)}' is missing, and fetching it needs "
            f"huggingface_hub: {install_command('data')}; or place the file there."
        ) from error
    try:
        yield
    except Exception as error:
        # The types of connection errors depend on the client's HTTP library. A full or
        # read-only disk is not one.
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise
        absent = EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
        # LocalEntryNotFoundError, raised when offline, is a subclass of this.
        offline = isinstance(error, LocalEntryNotFoundError)
        is_absent = isinstance(error, absent) and not offline
        kind = FileNotFoundError if is_absent else ConnectionError
        raise kind(
            f"'{wanted}' is missing, and the data set repository '{repo_id}' does "
            f"not give it at revision {revision!r} ({first_line(error)}). {remedy}"
        ) from error


def check_revision(path: str | os.PathLike[str], revision: str | None) -> None:
    r"""Check that a recorded file belongs to the requested revision.

    Args:
        path: The file; only its record is read.
        revision: A commit (or the first seven characters of it, or more), tag or
            branch; `None` accepts any. A file placed manually has no known revision and
            gives a `UserWarning`.

    Raises:
        ValueError: If the file was downloaded at another revision.
    """
    if revision is None:
        return
    beside = record_path(Path(path))
    record = read_json(beside) if beside.exists() else {}
    if record.get("repo_id") is None:
        warnings.warn(
            f"'{path}' was placed by hand: revision {revision!r} cannot be checked.",
            stacklevel=2,
        )
        return
    commit = record.get("commit")
    is_commit = re.fullmatch(r"[0-9a-f]{7,40}", revision) is not None
    if revision == record.get("revision") or (
        commit and is_commit and commit.startswith(revision)
    ):
        return
    raise ValueError(
        f"'{path}' was fetched at revision {record.get('revision')!r} (commit "
        f"{commit}), not at revision={revision!r}. Pass another root, or delete what "
        "was fetched."
    )


def archive_folder(path: Path) -> Path | None:
    r"""Return the folder for an archive: its path without suffixes.

    Args:
        path: The path of a file, which need not exist.

    Returns:
        The folder, or `None` if the name is not that of a tar archive.
    """
    match = re.fullmatch(r"(.+)\.(tar|tgz|tar\.gz|tar\.bz2|tar\.xz)", path.name)
    return None if match is None else path.with_name(match[1])


def extract_archive(
    path: str | os.PathLike[str], folder: str | os.PathLike[str]
) -> Path:
    r"""Unpack a tar archive of plain files and folders into a new folder.

    The archive is verified first if it has a record. It is unpacked to a temporary
    folder, which is renamed to `folder` when complete, so that `folder` holds
    everything or does not exist. If the archive holds a single folder with the name of
    `folder`, the content of that folder is used.

    Args:
        path: The archive (`.tar`, `.tar.gz`, …).
        folder: The folder to create.

    Returns:
        `folder`.

    Raises:
        FileExistsError: If `folder` exists.
        FileNotFoundError: If the archive is missing.
        ValueError: If the archive differs from its record, cannot be read, or has a
            member that is a link or a device or that would leave `folder`.
        RuntimeError: On Python 3.10.0 to 3.10.11, whose tarfile has no filters.
    """
    path, folder = Path(path), Path(folder)
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("Unpacking archives safely needs Python 3.10.12 or later.")
    if folder.exists():
        raise FileExistsError(f"'{folder}' exists; delete it to unpack '{path}' anew.")
    if record_path(path).exists():
        verify(path)

    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    content = scratch / "content"  # the folder of mkdtemp is private
    content.mkdir()
    try:
        try:
            with tarfile.open(path) as archive:
                archive.extractall(content, filter=_plain_member)
                # tarfile stops at the end marker, before gzip's checksum.
                while archive.fileobj is not None and archive.fileobj.read(1 << 20):
                    pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"'{path}' is damaged or not a safe tar archive: {error}. Delete it "
                f"and '{record_path(path).name}', then fetch it again."
            ) from error
        entries = [e for e in content.iterdir() if not e.name.startswith(".")]
        if len(entries) == 1 and entries[0].is_dir() and entries[0].name == folder.name:
            content = entries[0]
        try:
            os.replace(content, folder)
        except OSError:
            # Another process may have unpacked the same archive meanwhile.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _plain_member(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Also refuse links, which tarfile's data filter allows inside `folder`."""
    path = PurePosixPath(member.name)
    is_plain = member.isreg() or member.isdir()
    if not is_plain or path.is_absolute() or ".." in path.parts:
        raise ValueError(
            f"archive member '{member.name}' is a link or a device, or leaves the "
            "folder: refusing to unpack it."
        )
    return tarfile.data_filter(member, folder)


def _client_notes(folder: Path, filename: str) -> tuple[str | None, str | None]:
    """Return the commit and, for large files, the SHA-256 that the client records."""
    notes = folder / ".cache/huggingface/download" / f"{filename}.metadata"
    lines = notes.read_text().split() if notes.is_file() else []
    commit, etag = (lines + ["", ""])[:2]
    return (
        commit if re.fullmatch(r"[0-9a-f]{40}", commit) else None,
        etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None,
    )
