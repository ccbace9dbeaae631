"""What the relation studies need, checked before the model is loaded: facts, wordings, files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from broca.errors import FactsError
from broca.facts import load_relations
from broca.facts.shipped import facts_for
from broca.prompts.forms import check_shots
from broca.store import summary_key
from broca.studies.relations.config import RelationsConfig
from broca.studies.relations.texts import load_carriers, load_frequencies, load_prose

FILES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "relations.general": ("carriers", load_carriers),
    "relations.concept": ("prose", load_prose),
    "relations.resilience": ("frequencies", load_frequencies),
}
"""Study -> the setting that names its file, and what reads it."""


def check_needs(config: RelationsConfig, studies: Sequence[Any], *, embedded: bool) -> None:
    """Refuse what could not be studied, as far as it shows without the model.

    Args:
        config: The settings.
        studies: The studies to be made.
        embedded: Whether the model is the embedded one.

    Raises:
        FactsError: The facts cannot be used or are too few, or a study's file cannot be read.
        PromptError: A number of demonstrations is given for a form without any.
    """
    check_shots([config.form or ("question" if embedded else "auto")], config.shots)
    relations = load_relations(
        facts_for(config.facts, embedded=embedded),
        templates=config.templates,
        language=config.language,
        relations=config.relations,
    ).require_several()
    check_names(relations)
    detection, _ = relations.split(config.n_evaluation, config.seed)
    enough = [name for name, part in detection.items() if len(part) >= config.min_detection]
    if len(enough) < 2:
        sizes = ", ".join(f"{name} {len(part)}" for name, part in detection.items())
        raise FactsError(
            f"detection facts are too few: at least {config.min_detection} each are needed for "
            "two relations",
            sizes,
            "Give more facts, or lower n_evaluation (facts kept for evaluation) or min_detection",
        )
    for relation in relations.values():
        relation.wordings(config.template_set)
    for study in studies:
        setting, read = FILES.get(study.name, ("", None))
        source = getattr(config, setting, "auto")
        if read is not None and source not in ("auto", "atlas"):
            read(source)


def check_names(names: Iterable[str]) -> None:
    """Refuse relations whose figures would have the same names.

    Raises:
        FactsError: Two relations differ in signs only.
    """
    known: dict[str, str] = {}
    for name in names:
        key = summary_key(name)
        if known.setdefault(key, name) != name:
            raise FactsError(
                f"the relations {known[key]!r} and {name!r} have the same name in figures",
                key,
                "Signs other than letters, digits, _ and - become _: rename one",
            )
