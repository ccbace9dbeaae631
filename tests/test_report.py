"""The report: numbers as written, charts that can be drawn, a page that asks nothing of anyone."""

from __future__ import annotations

import csv
import io
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from broca.report import (
    Answer,
    Column,
    Figure,
    PageHeader,
    Section,
    Table,
    annotated_heatmap,
    as_csv,
    as_rich,
    bars_with_intervals,
    build_page,
    dot_intervals,
    histogram,
    ladder_lines,
    layer_index_map,
    neurons_per_layer_and_site,
    overlap_heatmap,
    save_figures,
    scatter_embedding,
    settings_table,
)
from broca.report.parts.outcomes import estimate as stored_estimate
from broca.report.parts.tables import cell

EVIL = '<script>alert("1")</script>'
NAMES = ["company_ceo", "person_plays_instrument", EVIL]
WORDS = {"title": "A title", "caption": "A caption"}


def estimate(value: float) -> SimpleNamespace:
    return SimpleNamespace(value=value, low=value - 0.1, high=value + 0.1, n=50)


def figures() -> dict[str, Figure]:
    """One figure of every kind, with a malicious name, a missing and an undefined value in each."""
    conditions = ("untouched", "own neurons off")
    points = [
        {"group": name, "condition": condition, "estimate": estimate(value)}
        for name in NAMES
        for condition, value in zip(conditions, (0.9, 0.2), strict=True)
    ]
    points.append({"group": EVIL, "condition": "new", "value": math.nan, "low": None, "high": None})
    ladder = [
        {"panel": name, "series": "own", "k": k, "value": 1 / k, "low": 0, "high": 1}
        for name in NAMES
        for k in (1, 10, 100)
    ]
    matrix = [[0.5, -0.25, math.nan], [0.0, 1.0, None], [-0.001, 0.1, 0.2]]
    layers = [
        {"panel": name, "layer": np.int64(layer), "site": "gate", "count": np.int64(layer)}
        for name in NAMES
        for layer in range(4)
    ]
    scatter = [
        {"x": i, "y": -i, "colour": name, "shape": name, "label": name}
        for i, name in enumerate(NAMES)
    ]
    return {
        "bars": bars_with_intervals(points, value_title="accuracy", **WORDS),
        "dots": dot_intervals([{**p, "panel": EVIL} for p in points], value_title="x", **WORDS),
        "dots in panels": dot_intervals(
            [{**p, "panel": p["group"]} for p in points], value_title="x", reference=None, **WORDS
        ),
        "ladder": ladder_lines(ladder, value_title="accuracy", **WORDS),
        "one ladder": ladder_lines(ladder[:3], value_title="accuracy", width=300, **WORDS),
        "layers": neurons_per_layer_and_site(layers, n_layers=4, **WORDS),
        "heat": annotated_heatmap(matrix, NAMES, NAMES, outline=[(0, 0)], **WORDS),
        "wide heat": annotated_heatmap(matrix[:1], [EVIL], NAMES, centre=None, **WORDS),
        "overlap": overlap_heatmap(
            [[3, 1], [1, 3]], NAMES[1:], sizes=[3, 3], expected=[[0.1, 0.1]] * 2, **WORDS
        ),
        "map": layer_index_map(
            {name: [[0, 1.0], [2.0, 0]] for name in NAMES}, n_neurons=8, **WORDS
        ),
        "scatter": scatter_embedding(scatter, **WORDS),
        "histogram": histogram(
            [0.1, 0.2, 0.9, math.nan], value_title="x", references={EVIL: 0.5}, **WORDS
        ),
        "empty histogram": histogram([], value_title="x", **WORDS),
        "own svg": Figure("t", "c", '<svg xmlns="http://www.w3.org/2000/svg" width="9"/>'),
    }


FIGURES = figures()


class Addresses(HTMLParser):
    """Everything in a page that a browser could fetch, and the tags it has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            fetches = name.removeprefix("xlink:") in ("src", "href", "srcset", "action", "data")
            if fetches and value:
                self.found.append(value)


def page_of(**header: Any) -> str:
    table = Table(("name", "value"), [(EVIL, 1.5), ("b", None)], f"Table {EVIL}", folded=True)
    section = Section(
        f"Part {EVIL}",
        EVIL,
        [EVIL],
        list(FIGURES.values()),
        [table, settings_table({}, "s")],
        [EVIL],
    )
    answer = Answer(EVIL, EVIL, EVIL, "yes")
    header = {"answers": [answer], "facts": [(EVIL, EVIL)], "notices": [EVIL], **header}
    return build_page(
        [section, section],
        PageHeader(f"Title {EVIL}", EVIL, figures=[FIGURES["heat"]], command=EVIL, **header),
    )


@pytest.fixture(scope="module")
def page() -> str:
    return page_of()


# -- figures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_is_drawn(kind: str) -> None:
    root = ET.fromstring(FIGURES[kind].inline_svg("p"))
    assert root.tag.endswith("svg")
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "NaN" not in FIGURES[kind].svg
    assert "undefined" not in FIGURES[kind].svg


def test_marks_tell_their_numbers() -> None:
    titles = re.findall(r"<title>(.*?)</title>", FIGURES["bars"].inline_svg("p"))
    assert "company_ceo · own neurons off: 20.0 % [10.0 %, 30.0 %], n = 50" in titles
    titles = re.findall(r"<title>(.*?)</title>", FIGURES["overlap"].inline_svg("p"))
    assert any("1 of 3 shared, by chance 3%" in title for title in titles)


def test_numbers_stand_in_the_cells() -> None:
    texts = re.findall(r">([^<>]+)</text>", FIGURES["heat"].svg)
    assert {"0.50", "−0.25", "1.00", "0.00", "–"} <= set(texts)
    assert texts.count("–") == 2
    assert "-0.00" not in texts
    assert "−0.00" not in texts


def test_panels_hold_only_their_own_rows() -> None:
    # One band, one line and three dots per panel, whatever the other panels hold.
    titles = re.findall(r"<title>(.*?)</title>", FIGURES["ladder"].inline_svg("p"))
    assert len(titles) == 9


def test_ids_of_two_drawings_differ() -> None:
    svg = FIGURES["map"].svg.replace("<svg ", '<svg id="clip0" clip-path="url(#clip0)" ', 1)
    figure = Figure("t", "c", svg)
    assert 'id="a-clip0"' in figure.inline_svg("a")
    assert "url(#a-clip0)" in figure.inline_svg("a")
    assert "clip0" not in figure.inline_svg("b").replace("b-clip0", "")


def test_figures_are_saved_in_every_format(tmp_path: Path) -> None:
    chosen = [Figure("Bars, mostly", "c", FIGURES["bars"].chart), FIGURES["own svg"]]
    written = save_figures(chosen, tmp_path / "figures")
    assert [path.name for path in written] == [
        "bars-mostly.svg", "bars-mostly.png", "bars-mostly.pdf", "t.svg", "t.png", "t.pdf"
    ]  # fmt: skip
    assert written[1].read_bytes().startswith(b"\x89PNG")
    assert written[2].read_bytes().startswith(b"%PDF")


def test_packed_pictures_stay_whole() -> None:
    # The renderer itself reads what was packed: a broken checksum would leave the picture out.
    import vl_convert as vlc

    from broca.report.page import _data

    png = FIGURES["bars"].png
    width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    shown = vlc.svg_to_png(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<image width="{width}" height="{height}" href="{_data("image/png", png)}"/></svg>'
    )
    assert len(shown) > len(png) / 2


# -- tables -------------------------------------------------------------------------------------

TABLE = Table(
    (Column("relation"), Column("drop", "percent"), Column("p", "p"), "n", "known", "note"),
    [
        ("father", estimate(-0.25), 0.0004, 1234, True, None),
        ("mother", None, 0.04, 5.5, False, "[red]x"),
    ],
    "Drops",
)


def test_cells_are_written_with_care() -> None:
    first, second = ([f"{each.text} {each.interval}".strip() for each in r] for r in TABLE.cells())
    assert first == ["father", "−25.0 % [−35.0, −15.0]", "< 0.001", "1,234", "✓", "–"]
    assert second == ["mother", "–", "0.040", "5.5", "✗", "[red]x"]
    assert TABLE.numeric() == [False, True, True, True, False, False]


def test_three_of_three_have_no_interval() -> None:
    record = {"share": 1.0, "share_low": None, "share_high": None, "n": 3}
    shown = cell(stored_estimate(record, "share"), "percent")
    assert (shown.text, shown.interval) == ("100.0 %", "")


def test_cells_sort_by_what_they_mean() -> None:
    cells = [row[1].sort for row in TABLE.cells()]
    assert cells == ["-0.25", ""]


def test_csv_keeps_all_digits() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(TABLE))))
    assert float(rows[0]["drop (low)"]) == -0.35
    assert rows[0]["p"] == "0.0004"
    assert rows[1]["drop"] == ""


def test_the_terminal_shows_the_same_table() -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(as_rich(TABLE))
    text = console.export_text()
    assert "−25.0 % [−35.0, −15.0]" in text
    assert "[red]x" in text


def test_settings_are_listed_by_dotted_name() -> None:
    table = settings_table({"a": {"b": [1, 2]}, "c": None}, "Settings")
    assert list(table.rows) == [("a.b", "1, 2"), ("c", "–")]


# -- the page -----------------------------------------------------------------------------------


def test_nothing_on_the_page_is_fetched(page: str) -> None:
    parser = Addresses()
    parser.feed(page)
    outside = [each for each in parser.found if not each.startswith(("data:", "#"))]
    assert outside == []
    assert len(parser.found) > 3 * len(FIGURES)
    css = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "@import" not in css
    assert "url(" not in css
    assert not {"link", "iframe", "object", "embed", "img", "base"} & set(parser.tags)
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", re.sub(r"base64,[^\"]+", "", page)))
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_what_is_handed_in_is_escaped(page: str) -> None:
    parser = Addresses()
    parser.feed(page)
    assert parser.tags.count("script") == 1
    assert "alert(&#34;1&#34;)" in page
    assert 'alert("1")</script>' not in page


def test_the_page_has_all_its_parts(page: str) -> None:
    assert page.count("<svg") == 2 * len(FIGURES) + 1
    assert page.count("<figure>") == 2 * len(FIGURES) + 1
    assert 'id="part-script-alert-1-script"' in page
    assert 'id="part-script-alert-1-script-2"' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_page_can_be_small() -> None:
    html = build_page([], PageHeader("Nothing yet"))
    assert "Nothing yet" in html
    assert "<svg" not in html


def test_the_report_loads_no_torch() -> None:
    code = "import sys, broca.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_many_relations_left_out_do_not_fill_the_first_screen():
    from broca.report.relations import NAMED, _left_out

    few = [{"relation": f"r{n}", "reason": "3 of 9 answered rightly"} for n in range(NAMED)]
    assert "r0 (3 of 9 answered rightly); r1" in _left_out(few, short=False)
    better = [{"relation": "s", "reason": "9%: 12 others are known better (max_relations)"}] * 2
    said = _left_out([*few, *better], short=True)
    assert said.startswith(f"{NAMED + 2} relations were left out: {NAMED} are known too little")
    assert "2 are known less well than those studied" in said
    assert "r0" not in said
