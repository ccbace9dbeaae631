"""A figure: a chart with its title and caption, drawn as SVG, PNG or PDF without a browser."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert as vlc

from broca.report.parts.theme import vega_config
from broca.store import replacing

TIP = "⁣"
"""First (invisible) sign of a mark's description: it marks those that become tooltips."""

_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Figure:
    """One picture.

    Attributes:
        title: What it shows, in a few words.
        caption: How to read it, with its n; a paragraph of plain text.
        chart: An Altair chart, or the text of an SVG.
        name: File name without ending; made from the title when empty.
        heat: Whether colours carry its numbers: in dark mode they are turned round, lightness for
            darkness, hues kept.
    """

    title: str
    caption: str
    chart: alt.TopLevelMixin | str
    name: str = ""
    heat: bool = False

    @property
    def slug(self) -> str:
        """`name`, or the title as a file name."""
        return self.name or slug(self.title)

    @cached_property
    def svg(self) -> str:
        """The drawing as a stand-alone SVG on white."""
        if isinstance(self.chart, str):
            return self.chart
        chart: Any = self.chart
        return vlc.vegalite_to_svg(chart.to_dict() | {"config": vega_config()})

    @cached_property
    def values(self) -> list[str]:
        """What its marks say, a line each, in the order drawn: the chart in numbers."""
        chart: Any = self.chart
        spec = {} if isinstance(chart, str) else chart.to_dict()
        return list(dict.fromkeys(tip.removeprefix(TIP) for tip in _tips(spec)))

    @cached_property
    def png(self) -> bytes:
        """The drawing as PNG, two pixels per unit."""
        return _packed(vlc.svg_to_png(self.svg, scale=2))

    @cached_property
    def pdf(self) -> bytes:
        """The drawing as PDF, text kept as text."""
        return vlc.svg_to_pdf(self.svg)

    def file(self, format: str) -> bytes:
        """The content of a file in a format: "svg", "png" or "pdf"."""
        content = {
            "svg": lambda: self.svg.encode(),
            "png": lambda: self.png,
            "pdf": lambda: self.pdf,
        }
        return content[format]()

    def inline_svg(self, prefix: str) -> str:
        """The drawing for a page: no background, unique ids, tooltips as titles."""
        root = ET.fromstring(self.svg)
        for child in list(root):
            if child.tag == f"{{{_SVG}}}rect" and child.get("fill") == "white":
                root.remove(child)
        for element in root.iter():
            _tidy(element, prefix)
        root.set("role", "img")
        root.set("aria-label", self.title)
        root.set("style", f"width:{root.get('width', '800')}px")
        for size in ("width", "height"):
            root.attrib.pop(size, None)
        ET.register_namespace("", _SVG)
        ET.register_namespace("xlink", _LINK)
        return ET.tostring(root, encoding="unicode")


def _tips(spec: Any) -> Iterator[str]:
    """The descriptions of marks in a chart's data, wherever it stands."""
    if isinstance(spec, Mapping):
        if isinstance(spec.get("tip"), str):
            yield spec["tip"]
        for value in spec.values():
            yield from _tips(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _tips(value)


def _packed(png: bytes) -> bytes:
    """The same picture in about a third of the bytes: the renderer compresses for speed."""
    head, body, tail = png[:8], b"", b""
    at = 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        if kind == b"IDAT":
            body += content
        elif kind == b"IEND":
            tail = png[at:]
        else:
            head += png[at : at + 12 + size]
        at += 12 + size
    packed = b"IDAT" + zlib.compress(zlib.decompress(body), 6)
    size = (len(packed) - 4).to_bytes(4)
    return head + size + packed + zlib.crc32(packed).to_bytes(4) + tail


def _tidy(element: ET.Element, prefix: str) -> None:
    label = element.get("aria-label", "")
    for name in [name for name in element.attrib if name.startswith("aria-") or name == "role"]:
        del element.attrib[name]
    if label.startswith(TIP):
        title = ET.SubElement(element, f"{{{_SVG}}}title")
        title.text = label.removeprefix(TIP)
    for name, value in element.attrib.items():
        if name == "id":
            element.set(name, f"{prefix}-{value}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}-"))
        elif name in ("href", f"{{{_LINK}}}href") and value.startswith("#"):
            element.set(name, f"#{prefix}-{value[1:]}")


def save_figures(
    figures: Iterable[Figure], folder: str | Path, formats: Sequence[str] = ("svg", "png", "pdf")
) -> list[Path]:
    """Write every figure in every format; the files written.

    Raises:
        RunError: The folder cannot be written.
    """
    written = []
    for figure in figures:
        for format in formats:
            path = Path(folder) / f"{figure.slug}.{format}"
            with replacing(path) as beside:
                beside.write_bytes(figure.file(format))
            written.append(path)
    return written


def slug(text: str) -> str:
    """A text as part of a file name or address: letters, digits and hyphens."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-") or "untitled"


def clean(text: Any) -> str:
    """A text without the control signs that XML forbids."""
    return _CONTROL.sub("�", str(text))
