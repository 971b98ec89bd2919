"""Predict fields on your own meshes with a trained surrogate.

    python examples/predict.py runs/mesh/last.ckpt my_body.stl
    python examples/predict.py runs/mesh/last.ckpt my_folder --png
    python examples/predict.py last.ckpt body.vtp --fields "pressure=p-total (Pa)"

reads a mesh (.stl, .ply, .obj, .vtp, .vtu or .vtk), or all meshes of a folder, and
writes `my_body_stl_predicted.vtp`, the same mesh with the fields of the checkpoint by
name, such as `pressure`, in the units of the training data, at cells or points as in
training (or by `--cells` or `--points`). It opens in ParaView. The output for a folder
is in `my_folder_predicted`.

A mesh must have the position and orientation of the training meshes. Meshes in other
units are scaled for the prediction with `--scale`; the file keeps the original
coordinates. If the surrogate was trained only on surfaces, extract the surface of a
volume mesh first. Inputs other than the coordinates are arrays of the mesh, or
constants from `--set`, in the unit of the training data; normals and areas are
computed. If an array of the mesh has another name than the field or input, pass it with
`--fields`. If the surrogate was trained with weights, points are weighted by the areas
of the cells around them, so that the mesher does not matter; `--weight area` does the
same for older checkpoints.

With `--forces --speed 38.9 --area 2.17` it prints the coefficients of drag (flow along
x), lift (+z) and moments (`--moments-about X,Y,Z`) of the predicted `pressure`, without
friction, and writes `forces.csv`. A pressure in Pa needs `--density`. True fields of
the mesh are kept as `<name>_true`, with the difference as `<name>_error`, and their
forces are printed too, with the errors of drag and lift over all such meshes;
`--train-meshes my_meshes` names the training meshes, whose mean forces are the
baseline.
"""

import sys

from torch_geometric_flare.experiments import predict_command_line


def main(argv=None):
    """Run the command line and return its exit code."""
    return predict_command_line(__doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
