"""Write point clouds and meshes to files for ParaView."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyvista as pv
import torch
from torch import Tensor
from vtkmodules.vtkCommonCore import vtkStringArray

from torch_geometric_flare._arguments import expand_path
from torch_geometric_flare.mesh_io.xml_names import escaped_names

_XML = (".vtp", ".vtu", ".vts", ".vtr", ".vti")


def write_points(
    path: str | os.PathLike[str],
    pos: Tensor,
    fields: Mapping[str, Tensor],
    *,
    notes: Mapping[str, str] | None = None,
) -> Path:
    r"""Write points and their fields as VTK PolyData with one vertex per point.

    Args:
        path: File to write, ending in `.vtp`; an existing file is replaced atomically.
        pos: Points; 2D points get $z = 0$.
        fields: Values at the points by name; one channel is written as a scalar.
        notes: Texts for the file's field data, such as the source of the values.

    Shapes:
        - `pos`: $(N, 3)$ or $(N, 2)$
        - `fields`: $(N)$ or $(N, C)$ each

    Returns:
        The path of the file.

    Raises:
        ValueError: If the file's name does not end in `.vtp`, or if a shape is wrong.
        OSError: If the file cannot be written.
    """
    path = expand_path(path)
    if path.suffix.lower() != ".vtp":
        raise ValueError(f"path must end in .vtp, got {str(path)!r}")
    if pos.ndim != 2 or pos.size(1) not in (2, 3) or pos.size(0) == 0:
        raise ValueError(
            f"pos must have shape [N, 3] or [N, 2] with N > 0, got {list(pos.shape)}"
        )
    padded = torch.nn.functional.pad(pos, (0, 3 - pos.size(1)))
    cloud = pv.PolyData(_as_array(padded))
    for name, values in fields.items():
        if values.ndim not in (1, 2) or values.size(0) != pos.size(0):
            raise ValueError(
                f"fields[{name!r}] must have shape [{pos.size(0)}] or "
                f"[{pos.size(0)}, C], got {list(values.shape)}"
            )
        scalar = values.ndim == 2 and values.size(1) == 1
        cloud.point_data[name] = _as_array(values.squeeze(1) if scalar else values)
    add_notes(cloud, notes or {})
    return save_dataset(cloud, path)


def add_notes(dataset: Any, notes: Mapping[str, str]) -> None:
    """Add texts to the field data of a PyVista dataset.

    Args:
        dataset: The dataset, which is changed in place.
        notes: Texts by name, of any characters, such as the unit m²/s².
    """
    for name, text in notes.items():
        # Uses VTK directly, which writes UTF-8; PyVista refuses non-ASCII text.
        array = vtkStringArray()
        array.SetName(name)
        array.InsertNextValue(text)
        dataset.GetFieldData().AddArray(array)


def save_dataset(dataset: Any, path: str | os.PathLike[str]) -> Path:
    """Save a PyVista dataset through a temporary file in the same folder.

    Args:
        dataset: Any dataset with a `save` method.
        path: File to write; its suffix selects the format.

    Returns:
        The path of the file.

    Raises:
        ValueError: If this type of dataset cannot be saved in the format.
        FileNotFoundError: If the folder of `path` does not exist.
        OSError: If VTK could not write the file.
    """
    path = expand_path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path={str(path)!r} lies in no folder that exists: create it first"
        )
    # A temporary folder, because a file from `mkstemp` would keep its private mode.
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
        written = Path(folder) / path.name
        xml = path.suffix.lower() in _XML and isinstance(dataset, pv.DataSet)
        with escaped_names(dataset) if xml else nullcontext():
            dataset.save(written)
        if not written.is_file():  # VTK reports failures on stderr only
            raise OSError(f"VTK could not write {str(path)!r}")
        written.replace(path)
    return path


def _as_array(values: Tensor) -> npt.NDArray[Any]:
    values = values.detach().cpu()
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    elif values.dtype == torch.bool:
        values = values.to(torch.uint8)
    array: npt.NDArray[Any] = values.contiguous().numpy()
    return array
