"""The same facts in another language: prompts, what is known of them, neurons found there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from broca.errors import FactsError, PromptError
from broca.facts import Relation, load_relations
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.scores import draw_negatives
from broca.studies.relations.material import Material, evaluation_group
from broca.studies.study import Bench

ASKED = "relations.languages.asked"


@dataclass
class Tongue:
    """One language: its prompts, its sets, what was left out.

    Attributes:
        name: Code of the language.
        evaluation: Relation -> evaluation prompts.
        detection: Relation -> detection prompts, those kept in the end.
        sets: Relation -> neurons found in this language.
        skipped: Relation (or "all") -> why.
    """

    name: str
    evaluation: dict[str, Sequence[Prompt]] = field(default_factory=dict)
    detection: dict[str, Sequence[Prompt]] = field(default_factory=dict)
    sets: dict[str, NeuronSet] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def group(self, relation: str, base: str) -> str:
        """Name of the group of a relation's evaluation prompts in this language."""
        own = evaluation_group(relation)
        return own if self.name == base else f"evaluation-{self.name}/{relation}"


def render_tongue(material: Material, language: str) -> Tongue:
    """Detection and evaluation prompts of the same facts in another language."""
    tongue = Tongue(language)
    loaded = _load(material, language, tongue.skipped)
    shown = {name: {f.id for f in material.asking.pool[name].facts} for name in loaded}
    pool = {
        name: replace(relation, facts=tuple(f for f in relation.facts if f.id in shown[name]))
        for name, relation in loaded.items()
    }
    for name, relation in loaded.items():
        facts = {fact.id: fact for fact in relation.facts}
        for part, into in (
            (material.detection[name], tongue.detection),
            (material.evaluation[name], tongue.evaluation),
        ):
            known = tuple(facts[p.fact] for p in part if p.fact in facts)
            if known:
                with suppress(PromptError):  # too few facts in this language to show some
                    into[name] = material.asking.render(
                        replace(relation, facts=known), pool=pool, role="language"
                    )
        if name not in tongue.evaluation or name not in tongue.detection:
            tongue.skipped[name] = "the facts studied are not there in this language"
            tongue.evaluation.pop(name, None)
            tongue.detection.pop(name, None)
    return tongue


def _load(material: Material, language: str, skipped: dict[str, str]) -> dict[str, Relation]:
    config = material.config

    def load(names: Iterable[str]) -> dict[str, Relation]:
        return dict(
            load_relations(
                config.facts, templates=config.templates, language=language, relations=list(names)
            )
        )

    try:
        return load(material.names)
    except FactsError:
        pass  # some relation is missing: find out which, each with its reason
    loaded: dict[str, Relation] = {}
    for name in material.names:
        try:
            loaded |= load([name])
        except FactsError as error:
            skipped[name] = error.what
    return loaded


def find_sets(material: Material, bench: Bench, tongues: Sequence[Tongue]) -> None:
    """Drop what the model does not know, and find the neurons of the rest."""
    config = material.config
    groups = {
        f"detection-{tongue.name}/{name}": prompts
        for tongue in tongues
        for name, prompts in tongue.detection.items()
    }
    plan = material.plan(groups)
    asked = {condition.prompts: condition for condition in plan.ask(groups)}
    results = bench.measure(ASKED, plan)
    for tongue in tongues:
        for name, prompts in list(tongue.detection.items()):
            right = results[asked[f"detection-{tongue.name}/{name}"]].correct
            if config.detection_filter == "none":
                right = right | True
            kept = [p for p, ok in zip(prompts, right, strict=True) if ok]
            tongue.detection[name] = kept
            if len(kept) < config.min_detection:
                del tongue.detection[name]
                tongue.skipped[name] = (
                    f"{len(kept)} of {len(prompts)} detection prompts answered rightly, at least "
                    f"{config.min_detection} are needed to find neurons"
                )
        if len(tongue.detection) >= 2:
            tongue.sets = _sets(material, bench, tongue)


def _sets(material: Material, bench: Bench, tongue: Tongue) -> dict[str, NeuronSet]:
    config = material.config
    prompts = [prompt for listed in tongue.detection.values() for prompt in listed]
    labels = [prompt.relation for prompt in prompts]
    responses = bench.record(prompts, material.index.sites, config.pooling)
    scores = bench.score(
        responses,
        {
            name: draw_negatives(labels, name, ratio=config.negatives, seed=config.seed)
            for name in tongue.detection
        },
    )
    return {n: s.top(material.k, name=f"{n}.{tongue.name}") for n, s in scores.items()}
