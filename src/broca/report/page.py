"""The page: one HTML file that opens offline and asks nothing of any server.

Style, script, pictures and downloads are inside it. Everything handed in is text and is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from jinja2 import Environment
from markupsafe import Markup

from broca.report.parts.figure import Figure, slug
from broca.report.parts.tables import Table, as_csv
from broca.report.parts.templates import page_templates

Tone = Literal["yes", "no", "mixed", "plain"]


@dataclass(frozen=True)
class Answer:
    """A question of the study and what this run answers, for the first screen.

    Attributes:
        question: The question in words.
        answer: The verdict, a word of the scale (`broca.report.parts.verdicts`).
        detail: The sentence it stands on: number, interval, control.
        tone: Its colour.
    """

    question: str
    answer: str
    detail: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class PageHeader:
    """The first screen.

    Attributes:
        title: The page's title.
        subtitle: One sentence on what was done to which model with which data.
        answers: Questions and their answers, at most six.
        further: Those there is no room for, folded.
        figures: The pictures of the first screen, one per paper.
        facts: Short pairs of a name and a value: model, facts, seconds.
        command: The command that repeats the run.
        notices: What a reader must know before believing anything below.
    """

    title: str
    subtitle: str = ""
    answers: Sequence[Answer] = ()
    further: Sequence[Answer] = ()
    figures: Sequence[Figure] = ()
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""
    notices: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page, one per study.

    Attributes:
        title: Its heading.
        claim: The claim it tests, one sentence.
        text: What came out, paragraphs of plain text.
        figures: Its pictures.
        tables: Its tables.
        notes: What limits it, where it differs from the paper.
        changes: What would change its verdict.
    """

    title: str
    claim: str = ""
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    changes: str = ""


def build_page(sections: Sequence[Section], header: PageHeader) -> str:
    """The page as HTML.

    Args:
        sections: Its parts, in order.
        header: Its first screen.
    """
    anchors = _unique([slug(section.title) for section in sections])
    template = _templates().get_template("page.html.j2")
    return template.render(header=header, sections=list(zip(anchors, sections, strict=True)))


def _unique(names: Sequence[str]) -> list[str]:
    return [
        f"{name}-{names[:i].count(name) + 1}" if name in names[:i] else name
        for i, name in enumerate(names)
    ]


@cache
def _templates() -> Environment:
    environment = page_templates("broca.report")
    environment.filters |= {"drawing": _drawing, "downloads": _downloads, "csv": _csv}
    return environment


def _drawing(figure: Figure, prefix: str) -> Markup:
    return Markup(figure.inline_svg(prefix))  # the renderer escapes what charts are given


def _downloads(figure: Figure) -> list[dict[str, Any]]:
    kinds = {"svg": "image/svg+xml", "png": "image/png", "pdf": "application/pdf"}
    return [
        {
            "kind": kind.upper(),
            "file": f"{figure.slug}.{kind}",
            "data": _data(mime, figure.file(kind)),
        }
        for kind, mime in kinds.items()
    ]


def _csv(table: Table) -> dict[str, Any]:
    file = f"{table.name or slug(table.caption)[:60] or 'table'}.csv"
    return {"file": file, "data": _data("text/csv;charset=utf-8", as_csv(table).encode())}


def _data(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
