import base64

from torch_geometric_flare.experiments.page import (
    Section,
    render_markdown,
    render_page,
)


def test_a_page_shows_its_sections_and_escapes_text():
    png = bytes([137, 80, 78, 71, 0, 255])
    page = render_page(
        "A < B",
        [
            Section(tables=[(["model", "error"], [["FLARE & co", "0.1"]])]),
            Section(heading="Facts", items=["<b>"], paragraphs=["'one'"]),
            Section(pictures={'a "car"': png}),
        ],
    )
    assert page.count("A &lt; B") == 2  # title and heading
    assert "<th>model</th><th>error</th>" in page
    assert "<td>FLARE &amp; co</td><td>0.1</td>" in page
    assert page.index("</table>") < page.index("<h2>Facts</h2>") < page.index("<img")
    assert "<li>&lt;b&gt;</li>" in page
    assert "<p>&#39;one&#39;</p>" in page
    assert 'alt="a &#34;car&#34;"' in page
    assert base64.b64encode(png).decode() in page
    assert page.count("<h2>") == page.count("<ul>") == page.count("<figure>") == 1


def test_the_alignment_of_columns():
    assert "text-align: right; }" in render_page("A", [])
    assert "text-align: right; }" not in render_page("A", [], align="left")


def test_a_page_in_markdown():
    table = (["a", "b"], [["x|y", "1"]])
    sections = [Section(heading="B", tables=[table], paragraphs=["p"], items=["c"])]
    assert render_markdown("A", sections) == (
        "# A\n\n## B\n\n| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n\np\n\n- c\n"
    )
