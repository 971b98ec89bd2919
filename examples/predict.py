"""Predict fields on meshes of your own with a trained surrogate.

    python examples/predict.py runs/mesh/last.ckpt my_body.stl
    python examples/predict.py runs/mesh/last.ckpt my_folder --png
    python examples/predict.py last.ckpt body.vtp --fields "pressure=p-total (Pa)"

reads a mesh (.stl, .ply, .obj, .vtp, .vtu or .vtk), or all meshes of a folder, and
writes `my_body_stl_predicted.vtp`, the same mesh with the fields of the checkpoint by
their names, such as `pressure`, in the units of the training, at the cells or the
points as it was trained (`--cells` and `--points` choose). It opens in ParaView. Those
of a folder go to `my_folder_predicted`.

A mesh must stand as those of the training do. Meshes in other units are scaled for the
prediction by `--scale`; the file keeps their own coordinates. Of a volume mesh, extract
the surface first where the surrogate has seen surfaces alone. Inputs besides the
coordinates are arrays of the mesh of that name, or constants by `--set`, each number in
the unit of the training; normals and areas are computed. Where an array of the mesh has
another name than a field or an input, `--fields` says which one it is. Points count
by the areas of the cells around them, so that the mesher does not matter, if the
surrogate was trained that way; `--weight area` asks for it of older checkpoints.

With `--forces --speed 38.9 --area 2.17` it prints the coefficients of drag (flow along
x), lift (+z) and moments (`--moments-about X,Y,Z`) of the predicted `pressure`, without
friction, and writes `forces.csv`. A pressure in Pa needs `--density`. Fields that the
mesh brings are kept as `<name>_true`, with the difference as `<name>_error`, and their
forces printed too, with the errors of drag and lift over all such meshes;
`--train-meshes my_meshes` names those of the training, whose mean forces are the
baseline.
"""

import sys

from torch_geometric_flare.experiments import predict_command_line


def main(argv=None):
    """Run the command line and return its exit code."""
    return predict_command_line(__doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
