"""Base class of data sets whose files are downloaded, recorded and verified."""

import logging
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch_geometric.data import Data, Dataset

from torch_geometric_flare._arguments import as_path, describe
from torch_geometric_flare._files import write_atomic
from torch_geometric_flare.datasets.arrays import Array
from torch_geometric_flare.datasets.hub import (
    archive_folder,
    check_revision,
    download_from_hub,
    extract_archive,
)
from torch_geometric_flare.datasets.records import (
    Fingerprint,
    Manifest,
    fingerprint,
    read_verified,
)
from torch_geometric_flare.datasets.stored import check_finite, deserialize, serialize
from torch_geometric_flare.fields import Fields

logger = logging.getLogger(__name__)


class VerifiedDataset(Dataset, ABC):
    r"""Base class of data sets of published files; each format is a subclass.

    All subclasses share:

    - **Files.** They are downloaded from the Hugging Face hub to `root/raw`, or placed
      there manually; archives are unpacked once. Size, SHA-256 and commit of downloads
      are recorded next to them.
    - **Processing, once.** Every sample of the split is read, checked and
      fingerprinted. `root/processed/<name>/<split>/manifest.json` is written last, so
      an interrupted run starts again. The results of a `pre_transform` are stored next
      to it; without one nothing is stored twice. As in PyG, the results of an earlier
      `pre_transform` are kept, with a warning, until `force_reload=True`.
    - **Reading, one by one.** A sample is read from disk on access and compared with
      its fingerprint; only its bytes are read.

    A format derives from `FilePerSample` (each sample has its own file), from
    `ConvertedFiles` (its files are slow to read, such as meshes) or from
    `StackedArrays` (samples are slices of arrays that hold all of them), which define
    the source of the samples, and defines

    - `repo_id` and `published_sizes`, the repository and the samples of each split;
    - `fields` and `features`, as class attributes or set before this constructor runs;
    - `name`, the subfolder of `root/processed`, which must depend on every argument
      that changes the samples, except `split`, `fields` and `pre_transform`;
    - `raw_file_names`, the required files and folders in `root/raw`;
    - `hub_files`, the files to download if one of them is missing;
    - `make_sample`, which converts raw arrays to a `Data`.

    Args:
        root: The folder for the files.
        split: One of the names in `published_sizes`.
        revision: The commit, tag or branch of the hub's repository; `None` takes the
            latest. Files downloaded earlier must belong to that revision.
        transform: Applied to each sample on access.
        pre_transform: Applied once to each sample; the result is stored.
        force_reload: Whether to process and fingerprint the raw files again. To
            download again, delete the files in `root/raw`.

    Raises:
        ValueError: If an argument is invalid, or if a file is malformed or has changed.
        FileNotFoundError: If the hub or the folder has no such files.
        ConnectionError: If files are missing and the hub cannot be reached.
    """

    repo_id: ClassVar[str]
    """Repository of data sets on the Hugging Face hub, `"owner/name"`."""
    published_sizes: ClassVar[Mapping[str, int]]
    """Published number of samples of each split."""
    hub_folder: ClassVar[str] = ""
    """Subfolder of `root/raw` for the repository's files."""
    fields: Fields
    """The columns of `y`."""
    features: Fields = ()
    """The columns of `x` after the coordinates."""
    conditions: Fields = ()
    """The columns of `u`; a sample without conditions has no `u`."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        revision: str | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
    ) -> None:
        if split not in self.published_sizes:
            raise ValueError(
                f"split must be one of {list(self.published_sizes)}, got {split!r}."
            )
        self.split = split
        self.revision = revision
        super().__init__(
            str(as_path(root)), transform, pre_transform, force_reload=force_reload
        )

    # Defined by each format.

    @property
    @abstractmethod
    def name(self) -> str:
        """Subfolder of `root/processed` for this variant of the data set."""

    @property
    @abstractmethod
    def raw_file_names(self) -> list[str]:
        """Required files and folders in `root/raw`."""

    @abstractmethod
    def hub_files(self) -> Iterable[str]:
        """Return the paths of the files to download, inside the hub's repository.

        An archive is unpacked to the folder of its name without suffixes. A generator
        may read a file that it has yielded before (such as an index of files): when it
        is resumed, that file is in `hub_folder`, in `raw_dir`.
        """

    @abstractmethod
    def make_sample(self, arrays: Mapping[str, Array], name: str) -> Data:
        """Return the sample from its raw arrays.

        Args:
            arrays: The arrays of one sample as in the files: numeric, otherwise
                unchecked.
            name: Name of the sample.

        Raises:
            ValueError: If the arrays are not of this format.
        """

    # Defined by `FilePerSample` and `StackedArrays`.

    @abstractmethod
    def sample_names(self) -> list[str]:
        """Return the names of the samples of the split, in their order.

        Raises:
            FileNotFoundError: If there are none.
        """

    @abstractmethod
    def _read_arrays(
        self, name: str, expected: Fingerprint | None
    ) -> tuple[Mapping[str, Array], Fingerprint]:
        """Return the raw arrays of a sample and the fingerprint of the read bytes.

        Raises:
            ValueError: If the fingerprint is not the expected one, or a file is
                malformed.
        """

    @abstractmethod
    def source(self, name: str) -> Path:
        """Return the raw file that a sample comes from, for messages."""

    # Shared by all formats.

    @property
    def processed_dir(self) -> str:
        """The folder of this variant and split."""
        return str(self.cache_dir / self.name / self.split)

    @property
    def cache_dir(self) -> Path:
        """Folder of the processed files."""
        return Path(self.root, "processed")

    @property
    def processed_file_names(self) -> list[str]:
        """The manifest, which is written last and lists all other files."""
        return ["manifest.json"]

    @property
    def sizes(self) -> list[int]:
        """Number of points of each sample before `transform`, from the manifest."""
        return [
            self._samples[self._names[index]]["num_points"] for index in self.indices()
        ]

    def download(self) -> None:
        """Download and unpack missing files that were not placed in `raw_dir`.

        Raises:
            FileNotFoundError: If a raw file is still missing.
        """
        filenames, kept = [], []
        for filename in self.hub_files():
            filenames.append(filename)
            target = Path(self.raw_dir, self.hub_folder)
            folder = archive_folder(target / filename)
            if folder is not None and folder.exists():
                kept.append(folder)
                continue
            path = download_from_hub(self.repo_id, filename, target, self.revision)
            if folder is not None:
                extract_archive(path, folder)
        missing = [path for path in map(Path, self.raw_paths) if not path.exists()]
        if missing:
            first, *others = missing
            kind = "file" if first.suffix else "folder"
            also = "".join(f", nor '{path.name}'" for path in others)
            away = " and ".join(f"'{path}'" for path in kept or [self.raw_dir])
            raise FileNotFoundError(
                f"'{first.parent}' has no {kind} '{first.name}'{also}"
                f". Place what is missing there, or move {away} away to fetch "
                f"{', '.join(filenames)} again."
            )

    def process(self) -> None:
        """Check and fingerprint every sample of the split; apply `pre_transform`."""
        names = self.sample_names()
        self._log_size(len(names))
        folder = Path(self.processed_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # Without a manifest, an interrupted run starts again.
        Path(self.processed_paths[0]).unlink(missing_ok=True)
        samples: dict[str, Fingerprint] = {}
        stored: set[Path] = set()
        for name in names:
            if Path(name).name != name:
                raise ValueError(f"the sample name {name!r} is not that of a file.")
            arrays, digest = self._read_arrays(name, None)
            data = self._make_checked(arrays, name)
            if self.pre_transform is not None:
                data = self.pre_transform(data)
                content = serialize(data, self.source(name))
                digest = fingerprint(content)
                path = folder / f"{name}.pt"
                stored.add(path)
                write_atomic(path, content)
            samples[name] = {
                **digest,
                "num_points": self._num_points(data, name),
                **self._notes(name, arrays),
            }
        for left_over in set(folder.glob("*.pt")) - stored:
            left_over.unlink()
        self._manifest().write(samples)

    def len(self) -> int:
        """Return the number of samples."""
        return len(self._names)

    def get(self, idx: int) -> Data:
        """Read and verify the sample at an index."""
        name = self._names[idx]
        expected = self._samples[name]
        if self._is_stored:
            path = Path(self.processed_dir, f"{name}.pt")
            return deserialize(read_verified(path, expected), path)
        return self._make_checked(self._read_arrays(name, expected)[0], name)

    def _process(self) -> None:
        # PyG's own method unpickles `pre_transform.pt` without `weights_only`. Here
        # the description of `pre_transform` is in the manifest, which is JSON.
        if self.revision is not None:
            for filename in self.hub_files():
                path = Path(self.raw_dir, self.hub_folder, filename)
                check_revision(path, self.revision)
        if self.force_reload or not Path(self.processed_paths[0]).exists():
            if self.log:
                logger.info("processing %s/%s", self.name, self.split)
            self.process()
        self._names = self.sample_names()
        self._samples, self._is_stored = self._manifest().read(self._names)

    def _notes(self, name: str, arrays: Mapping[str, Array]) -> dict[str, Any]:
        """Return plain values to keep in the manifest about a sample.

        Args:
            name: The sample.
            arrays: Its raw arrays.
        """
        return {}

    def _manifest(self) -> Manifest:
        return Manifest(
            Path(self.processed_paths[0]),
            None if self.pre_transform is None else describe(self.pre_transform),
            [field.name for field in self.fields],
        )

    def _make_checked(self, arrays: Mapping[str, Array], name: str) -> Data:
        with torch.device("cpu"):  # ignore torch's default device
            data = self.make_sample(arrays, name)
        check_finite(data, self.source(name), self.fields)
        return data

    def _num_points(self, data: Data, name: str) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyG warns before it returns None
            size = data.num_nodes
        if size is None:
            raise ValueError(
                f"pre_transform left no points of '{self.source(name)}': keep `x`, or "
                "set num_nodes."
            )
        return int(size)

    def _log_size(self, size: int) -> None:
        published = self.published_sizes[self.split]
        if size != published:
            # Logged, not warned about: a user's subset is not a mistake.
            logger.warning(
                "'%s' holds %d samples; the published %s split has %d.",
                self.raw_paths[0],
                size,
                self.split,
                published,
            )
