"""Templates of pages that open offline: whatever is handed in is text and is escaped."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def page_templates(*packages: str) -> Environment:
    """Templates of some packages, the first that has one gives it.

    A template puts style and script inside the page by ``source(name)``.

    Args:
        packages: Packages with a folder `templates`.
    """
    loader = ChoiceLoader([PackageLoader(package) for package in packages])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["source"] = lambda name: Markup(
        loader.get_source(environment, name)[0]
    )  # style and script, our own files
    return environment
