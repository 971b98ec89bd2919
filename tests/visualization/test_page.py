import base64
import re

import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization import mesh_page, page

PRESSURE = Field("pressure", 1, "m²/s²")


def ball(location="cell", truth=True):
    mesh = pv.Sphere(theta_resolution=8, phi_resolution=8)
    data, number = (
        (mesh.cell_data, mesh.n_cells)
        if location == "cell"
        else (mesh.point_data, mesh.n_points)
    )
    data["pressure"] = np.arange(number, dtype=float)
    if truth:
        data["pressure_true"] = np.arange(number, dtype=float) + 1.0
    return mesh


def traces(text):
    return re.findall(r'"intensity":\s*\{"dtype"', text)


@pytest.mark.parametrize("location", ["cell", "point"])
def test_a_page_of_its_own(location):
    text = mesh_page(
        ball(location),
        PRESSURE,
        title="a <ball>",
        location=location,
        note="from <here>",
    )
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert len(traces(text)) == 3
    for word in ("truth", "prediction", "error", r"kinematic pressure [m\u00b2"):
        assert word in text
    assert "<title>a &lt;ball&gt;</title>" in text
    assert "<p>from &lt;here&gt;</p>" in text
    assert '<html lang="en">' in text
    assert (
        '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    )
    # The library is inside, and nothing is loaded from elsewhere.
    assert len(text) > 1_000_000
    heads = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)
    assert [tag for tag in heads if "src=" in tag or "href=" in tag] == []


def test_text_that_plotly_shows():
    """It decodes `&lt;` and `&amp;`, but not `&quot;`."""
    field = Field("pressure", 1, 'lbf/in" & <x>')
    text = mesh_page(ball(truth=False), field, title="ball")
    (label,) = set(re.findall(r"<extra>(.*?)</extra>", json_text(text)))
    assert label == 'pressure [lbf/in" &amp; &lt;x&gt;]'


def json_text(text):
    """The page with the escapes of JSON decoded."""
    escapes = re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), text)
    return escapes.replace('\\"', '"')


def test_a_prediction_alone():
    text = mesh_page(ball(truth=False), PRESSURE, title="ball", location="cell")
    assert len(traces(text)) == 1


def test_each_cell_has_its_value():
    """Three vertices of their own, with the one value of the cell."""
    from plotly import graph_objects as go

    seen = []
    original = go.Mesh3d.__init__

    def look(self, *args, **kwargs):
        seen.append(kwargs)
        original(self, *args, **kwargs)

    go.Mesh3d.__init__ = look
    try:
        mesh_page(ball(truth=False), PRESSURE, title="ball", location="cell")
    finally:
        go.Mesh3d.__init__ = original
    drawn, *_ = [kwargs for kwargs in seen if "intensity" in kwargs]
    corners = np.stack([drawn[n] for n in "ijk"], axis=1)
    # Shades would make colours that are not those of the bar.
    assert drawn["lighting"]["ambient"] == 1.0 and drawn["lighting"]["diffuse"] == 0.0
    values = drawn["intensity"][corners]
    assert (values == values[:, :1]).all()
    mesh = ball()
    centres = np.stack([drawn[n][corners].mean(axis=1) for n in "xyz"], axis=1)
    order = np.argsort(values[:, 0])
    np.testing.assert_allclose(
        centres[order], mesh.cell_centers().points, rtol=0, atol=1e-6
    )


def test_what_cannot_be_shown_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="no cell data 'pressure'"):
        mesh_page(pv.Sphere(), PRESSURE, title="ball", location="cell")
    monkeypatch.setattr(page, "MOST_TRIANGLES", 50)
    with pytest.raises(ValueError, match="more than the 50 .* decimate"):
        mesh_page(ball(), PRESSURE, title="ball", location="cell")


def test_gaps_in_the_truth_are_grey():
    mesh = ball("point")
    mesh.point_data["pressure_true"][[2, 9]] = np.nan
    text = mesh_page(mesh, PRESSURE, title="ball", location="point")
    assert len(traces(text)) == 3
    assert text.count('"color":"lightgrey"') == 2  # truth and error


@pytest.mark.parametrize("location", ["cell", "point"])
def test_a_mesh_far_from_the_origin(location):
    def coordinates(mesh):
        mesh[PRESSURE.name] = np.zeros(
            mesh.n_cells if location == "cell" else mesh.n_points
        )
        text = mesh_page(mesh, PRESSURE, title="ball", location=location)
        found = [
            np.frombuffer(
                base64.b64decode(code.encode().decode("unicode_escape")), "f4"
            )
            for code in re.findall(r'"[xyz]":\s*\{"dtype":"f4","bdata":"([^"]+)"', text)
        ]
        return text, np.stack(found)

    near = ball(location, truth=False)
    near.clear_data()
    near.points = near.points.astype(np.float64)
    far = near.copy()
    place = np.array([455_000.0, 5_411_000.0, 120.0])  # a national grid, in metres
    far.points = near.points + place
    text, found = coordinates(far)
    assert "(455000, 5411000, 120)" in text
    text, expected = coordinates(near)
    assert "relative to (" not in text
    np.testing.assert_allclose(found, expected, atol=1e-7)  # in single precision 0.5
