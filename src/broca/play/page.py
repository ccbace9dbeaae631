"""The page: one HTML file with style and script inside it, drawn with the report's."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from broca.play.facts import groups
from broca.play.finding import methods
from broca.play.guard import TOKEN_HEADER
from broca.play.material import Material
from broca.play.state import LEAST_DRAWS, MOST_DRAWS, MOST_TOKENS, State
from broca.prompts import FORMS
from broca.report.parts.templates import page_templates

SCRIPTS = (
    "wire",
    "tell",
    "state",
    "open",
    "draw",
    "ask",
    "choose",
    "edit",
    "beside",
    "find",
    "neuron",
    "keep",
    "start",
)


def page_html(material: Material, *, nonce: str, token: str = "") -> str:
    """The page.

    Args:
        material: What it may use.
        nonce: What its script is known by.
        token: What it sends with every request.
    """
    template = _templates().get_template("play.html.j2")
    return template.render(
        nonce=nonce,
        model=_about(material),
        notices=material.notices,
        forms=[form for form in FORMS if form != "few-shot-other"],
        scripts=SCRIPTS,
        limits={"draws": (LEAST_DRAWS, MOST_DRAWS), "tokens": MOST_TOKENS},
        boot=_boot(material, token),
        can_keep=material.out is not None,
    )


def _about(material: Material) -> list[tuple[str, str]]:
    model = material.model
    facts = [
        ("model", model.name),
        ("layers", f"{model.n_layers}"),
        ("sites", ", ".join(model.sites)),
        ("weights", model.identity.fingerprint),
    ]
    if material.run is not None:
        facts.append(("run", str(material.run)))
    return facts


def _boot(material: Material, token: str) -> Markup:
    """What the script starts with, as JSON that no text can leave."""
    sets = [{"name": name, "size": size, "method": how} for name, size, how in material.names()]
    content: dict[str, Any] = {
        "sets": sets,
        "groups": [{"name": name, "size": size} for name, size in groups(material)],
        "methods": methods(material),
        "state": State().model_dump(),
        "token": token,
        "token_header": TOKEN_HEADER,
        "model": material.model.identity.to_dict(),
    }
    text = json.dumps(content, ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@cache
def _templates() -> Environment:
    return page_templates("broca.play", "broca.report")
