"""Text files as other programs write them."""

import codecs
import struct

import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.mesh_io import read_mesh
from torch_geometric_flare.mesh_io.dialects import Malformed, rewrite

CORNERS = ((0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 0, 3))
FACES = ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3))


def stl(faces=FACES):
    """The facets of a tetrahedron as text."""
    text = ""
    for face in faces:
        text += "facet normal 0 0 0\n outer loop\n"
        text += "".join("  vertex {} {} {}\n".format(*CORNERS[c]) for c in face)
        text += " endloop\nendfacet\n"
    return text


def obj(corner="{0}", faces=FACES):
    """A tetrahedron as vertices and faces."""
    text = "".join("v {} {} {}\n".format(*point) for point in CORNERS)
    for face in faces:
        text += f"f {' '.join(corner.format(c + 1, 3 * c + 1) for c in face)}\n"
    return text


def check(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    folder = path.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    mesh = pv.read(rewrite(path, folder))
    assert mesh.n_cells == 4
    assert mesh.n_points == 4
    assert mesh.volume == pytest.approx(1.0)


@pytest.mark.parametrize(
    "text",
    [
        f"solid\n{stl()}endsolid\n",
        f"solid wing\n{stl()}endsolid wing\n",
        f"solid wing\n{stl()}end solid wing\n",
        f"solid left\n{stl(FACES[:2])}endsolid left\nsolid r\n{stl(FACES[2:])}endsolid",
        f"SOLID WING\n{stl().upper()}ENDSOLID WING\n",
        f"Solid Wing\n{stl().title()}EndSolid Wing\n",
        f"solid wing\n{stl()}",
        f"\n  solid wing\n{stl()}endsolid\n\n",
        f"solid wing\n{stl().replace('endfacet', 'end facet')}end solid\n",
        f"solid wing\r\n{stl()}endsolid\r\n".replace("\n", "\r\n"),
    ],
)
def test_dialects_of_text_stl(tmp_path, text):
    check(tmp_path / "a.stl", text)
    check(tmp_path / "b.STL", codecs.BOM_UTF8 + text.encode())
    check(tmp_path / "c.stl", codecs.BOM_UTF16_LE + text.encode("utf-16-le"))


def test_a_binary_stl_whose_header_says_solid(tmp_path):
    content = b"solid by someone".ljust(80) + struct.pack("<I", 4)
    for face in FACES:
        corners = [value for c in face for value in CORNERS[c]]
        content += struct.pack("<12fH", 0, 0, 0, *corners, 0)
    check(tmp_path / "a.stl", content)


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_text_stl_that_ends_inside_of_a_facet_is_refused(tmp_path, number):
    text = f"solid a\n{stl(FACES[:number])}"
    for cut in ("endfacet\n", " endloop\nendfacet\n", stl()[-40:]):
        (tmp_path / "a.stl").write_text(text[: len(text) - len(cut)])
        with pytest.raises(Malformed, match=rf" facet {number}\b"):
            rewrite(tmp_path / "a.stl", tmp_path)


PLY = """ply
format ascii 1.0
comment By Someone
element vertex 4
property float x
property float y
property float z
element face 4
property list uchar int vertex_indices
end_header
"""
PLY += "".join("{} {} {}\n".format(*point) for point in CORNERS)
PLY += "".join("3 {} {} {}\n".format(*face) for face in FACES)


@pytest.mark.parametrize(
    "text",
    [PLY, PLY.upper(), PLY.title(), PLY.replace("ply", "PLY", 1)],
)
def test_dialects_of_ply(tmp_path, text):
    check(tmp_path / "a.ply", text)
    check(tmp_path / "b.PLY", codecs.BOM_UTF8 + text.encode())
    check(tmp_path / "c.ply", codecs.BOM_UTF16_LE + text.encode("utf-16-le"))


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_the_body_of_a_ply_file_stays(tmp_path, kind):
    points = np.array(CORNERS) + 448251.37
    write_ply(tmp_path / "a.ply", points, FACES, kind)
    content = (tmp_path / "a.ply").read_bytes()
    assert rewrite(tmp_path / "a.ply", tmp_path) == tmp_path / "a.ply"
    header, end, body = content.partition(b"end_header\n")
    (tmp_path / "a.ply").write_bytes(codecs.BOM_UTF8 + (header + end).upper() + body)
    np.testing.assert_array_equal(read_mesh(tmp_path / "a.ply").points, points)


@pytest.mark.parametrize(
    "text",
    [
        obj(),
        obj().replace("\nf ", " # corner\nf ") + "# the end\n",
        "# by someone\nmtllib a.mtl\no body\n" + obj() + "l 1 2\nl 3 4 1\np 2\n",
        obj("{0}/{1}"),
        obj("{0}//{1}"),
        "vt 0 0\nvn 0 0 1\ng a\nusemtl b\ns off\n" + obj("{0}/1/1"),
        obj().replace("1 2 4", "1 \\\n 2 4"),
        obj().replace("f 2 3 4", "f -3 -2 -1"),
    ],
)
def test_dialects_of_obj(tmp_path, text):
    check(tmp_path / "a.obj", text)
    check(tmp_path / "b.obj", codecs.BOM_UTF8 + text.encode())


@pytest.mark.parametrize("sides", [6, 20])
def test_seams_of_a_texture_leave_a_vertex_one(tmp_path, sides):
    sphere = pv.Sphere(theta_resolution=sides, phi_resolution=sides)
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in sphere.points]
    faces = sphere.regular_faces
    # A corner of its own in the texture for each corner of each face.
    lines += [f"vt {n / 7 % 1:.6f} 0.5" for n in range(faces.size)]
    for number, face in enumerate(faces):
        corners = (f"{v + 1}/{3 * number + k + 1}" for k, v in enumerate(face))
        lines.append(f"f {' '.join(corners)}")
    (tmp_path / "a.obj").write_text("\n".join(lines))
    found = read_mesh(tmp_path / "a.obj")
    assert found.n_points == sphere.n_points
    np.testing.assert_array_equal(found.regular_faces, faces)
    np.testing.assert_allclose(found.points, sphere.points, rtol=1e-6, atol=1e-7)


def test_files_are_read_through_their_dialect(tmp_path):
    (tmp_path / "a.stl").write_text(f"SOLID A\n{stl().upper()}END SOLID A\n")
    (tmp_path / "b.obj").write_text(obj("{0}/{1}") + "l 1 2\n")
    for name in ("a.stl", "b.obj"):
        found = read_mesh(tmp_path / name)
        assert (found.n_cells, found.n_points) == (4, 4)
    (tmp_path / "a.stl").write_text(f"solid a\n{stl()[:-20]}")
    with pytest.raises(ValueError, match="a.stl' .* facet 4"):
        read_mesh(tmp_path / "a.stl")


def test_the_reason_of_vtk_is_told(tmp_path):
    (tmp_path / "a.obj").write_text(obj() + "f 1 2 x\n")
    with pytest.raises(ValueError, match="a.obj' cannot be read.* VTK says: "):
        read_mesh(tmp_path / "a.obj")


def write_ply(path, points, triangles, kind):
    header = (
        f"ply\nformat {kind} 1.0\nelement vertex {len(points)}\n"
        "property float quality\nproperty double x\nproperty double y\n"
        f"property double z\nelement face {len(triangles)}\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    if kind == "ascii":
        rows = [f"7 {x:.12g} {y:.12g} {z:.12g}" for x, y, z in points]
        rows += [f"3 {a} {b} {c}" for a, b, c in triangles]
        path.write_text(header + "\n".join(rows) + "\n")
        return
    order = ">" if "big" in kind else "<"
    content = [struct.pack(order + "f3d", 7.0, *point) for point in points]
    content += [struct.pack(order + "B3i", 3, *corners) for corners in triangles]
    path.write_bytes(header.encode() + b"".join(content))


def write_text_stl(path, points, triangles):
    facets = [
        "facet normal 0 0 0\nouter loop\n"
        + "".join(f"vertex {x:.12g} {y:.12g} {z:.12g}\n" for x, y, z in points[corners])
        + "endloop\nendfacet\n"
        for corners in triangles
    ]
    path.write_text("solid\n" + "".join(facets) + "endsolid\n")


@pytest.mark.parametrize(
    "kind", ["stl", "ascii", "binary_little_endian", "binary_big_endian"]
)
@pytest.mark.parametrize("place", [(0, 0, 0), (3.5e6, 5.8e6, 100), (-4e8, 0, 0)])
def test_vertices_far_from_the_origin_keep_their_places(tmp_path, kind, place):
    sphere = pv.Sphere(theta_resolution=12, phi_resolution=12)
    points = np.asarray(sphere.points, float) + place
    triangles = sphere.faces.reshape(-1, 4)[:, 1:]
    path = tmp_path / ("far.stl" if kind == "stl" else "far.ply")
    if kind == "stl":
        write_text_stl(path, points, triangles)
    else:
        write_ply(path, points, triangles, kind)
    mesh = read_mesh(path)
    assert (mesh.n_points, mesh.n_cells) == (sphere.n_points, sphere.n_cells)
    assert mesh.is_manifold
    # Twelve digits were written.
    assert mesh.area == pytest.approx(sphere.area, rel=2e-3 if place[0] < 0 else 1e-5)
    assert mesh.points.dtype == (np.float64 if any(place) else np.float32)
