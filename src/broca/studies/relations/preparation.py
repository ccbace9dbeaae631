"""From facts to relation neurons, once for all relation studies of a run (METHODS §2).

1. Facts are split by subject, globally, into detection and evaluation.
2. The form of asking is the one given or, measured on detection facts kept for it alone, the one
   in which the model answers most of them rightly (`forms.py`).
3. Every fact becomes a prompt. The untouched model answers the detection prompts; those it answers
   wrongly are dropped (`detection_filter = "correct"`); a relation of which too few remain is
   skipped, with the reason, and so are those beyond the `max_relations` known best.
4. Responses of all neurons of the chosen sites to the detection prompts are recorded.
5. Every neuron is scored for every relation: average precision of its responses against the
   relation's prompts and four times as many of other relations.
6. One k for all relations, given or chosen on detection prompts; sets are the top k.

Source: arXiv 2502.17355, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from broca.answers import Alike, find_alike
from broca.errors import FactsError, StudyError
from broca.facts import Relation, Relations, load_relations
from broca.facts.seeding import stable_number
from broca.facts.shipped import facts_for
from broca.neurons import NeuronIndex, NeuronSet, ordered_sites
from broca.prompts import Prompt
from broca.scores import Labelling, draw_negatives
from broca.scores.chance import chance_in_set
from broca.studies.relations.asking import Asking
from broca.studies.relations.config import RelationsConfig, number_of_neurons
from broca.studies.relations.forms import (
    Tried,
    check_asking,
    choose_asking,
    unknown_relations,
)
from broca.studies.relations.material import HALVES, Material
from broca.studies.relations.said import AnswerKinds
from broca.studies.relations.selection import choose_k
from broca.studies.study import Bench, Plan, Results

PREPARATION = "relations.preparation"


def prepare(config: RelationsConfig, bench: Bench, relations: Relations | None = None) -> Material:
    """Find the neurons of every relation that the model knows.

    Args:
        config: The settings.
        bench: Where to measure.
        relations: Facts in place of those the settings name.

    Raises:
        FactsError: The facts cannot be used, or there is one relation only.
        RecipeError: k is larger than the number of neurons.
        StudyError: Fewer than two relations remain that the model knows.
    """
    asked = ask_facts(config, bench, relations)
    config = asked.config
    sites, notes = _sites(config, bench)
    prompts = [prompt for name in asked.names for prompt in asked.detection[name]]
    labels = [prompt.relation for prompt in prompts]
    responses = bench.record(prompts, sites, config.pooling)
    if config.k != "auto":
        number_of_neurons(config.k, len(responses.index))
    labellings = {
        name: draw_negatives(labels, name, ratio=config.negatives, seed=config.seed)
        for name in asked.names
    }
    half = halves(prompts, config.seed)
    if config.k == "auto":
        k, table = choose_k(config, bench, asked.detection, responses, half)
    else:
        k, table = number_of_neurons(config.k, len(responses.index)), ()
    scores = bench.score(responses, labellings)
    sets: dict[str, NeuronSet] = {}
    for name, values in scores.items():
        sets[name] = _described(values.top(k, name=name), config)
        bench.keep_set(sets[name], name)
    # a bench that only counts draws its scores: what chance explains of them says nothing
    doubts = _doubts(sets, labellings, responses.index, config) if bench.measures else []
    return Material(
        config=config,
        names=asked.names,
        skipped=asked.skipped,
        notes=(*asked.notes, *notes, *doubts),
        facts=asked.facts,
        detection=asked.detection,
        evaluation=asked.evaluation,
        half=half,
        responses=responses,
        labels=labels,
        labellings=labellings,
        scores=scores,
        k=k,
        k_table=table,
        sets=sets,
        kinds=asked.kinds,
        alike=asked.alike,
        asking=asked.asking,
        tried=asked.tried,
    )


@dataclass(frozen=True)
class Asked:
    """Facts as prompts, what the untouched model knows of them, and what was left out.

    Attributes:
        names: Relations that remain.
        facts: Relation -> its detection facts and wordings.
        detection: Relation -> detection prompts that remain.
        evaluation: Relation -> evaluation prompts.
        skipped: Relation -> why it does not remain.
        notes: Sentences about the split, and about objects that cannot be told apart.
        alike: Relations with such objects.
        kinds: Tells kinds of answers apart.
        config: The settings, with what "auto" came to in them.
        asking: How facts are put.
        tried: The forms tried, () where the form was given.
    """

    config: RelationsConfig
    asking: Asking
    tried: Sequence[Tried]
    names: tuple[str, ...]
    facts: Mapping[str, Relation]
    detection: Mapping[str, Sequence[Prompt]]
    evaluation: Mapping[str, Sequence[Prompt]]
    skipped: Mapping[str, str]
    notes: tuple[str, ...]
    alike: tuple[Alike, ...]
    kinds: AnswerKinds


def ask_facts(config: RelationsConfig, bench: Bench, relations: Relations | None = None) -> Asked:
    """Render the facts, ask the untouched model, keep what it knows (steps 1 to 3)."""
    check_asking(config, bench.model)
    config = replace(config, facts=facts_for(config.facts, embedded=bench.model.is_embedded))
    kinds = None if relations is None else AnswerKinds.of(relations)
    if relations is None:
        relations = load_relations(
            config.facts,
            templates=config.templates,
            language=config.language,
            relations=config.relations,
        )
    relations.require_several()
    detection, evaluation = relations.split(config.n_evaluation, config.seed)
    kinds = kinds or _all_kinds(config, relations)
    asking, tried, notes = choose_asking(config, bench, detection, kinds)
    pooling = "mean" if asking.form == "question" else "asked"
    config = replace(
        config,
        form=asking.form,
        pooling=pooling if config.pooling == "auto" else config.pooling,
    )
    detection = {name: _drawn(r, config.n_detection) for name, r in asking.pool.items()}
    few = _too_few(detection, config, asking)
    prompts = {
        name: tuple(asking.render(r, role="detection"))
        for name, r in detection.items()
        if name not in few
    }
    if len(prompts) < 2:
        raise StudyError(
            "fewer than two relations have enough detection facts",
            "; ".join(f"{name}: {why}" for name, why in list(few.items())[:3]),
            "Give more facts, raise n_detection, or lower min_detection or shots",
        )
    groups = {f"asked/detection/{name}": listed for name, listed in prompts.items()}
    plan = Plan(groups, describe=kinds.kind)
    plan.ask(groups)
    results = bench.measure(PREPARATION, plan)
    kept, skipped = _filter(config, prompts, plan, results)
    skipped = {**few, **skipped}
    if len(kept) < 2:
        outcomes = results[list(plan.conditions)]
        every = tuple(prompt for listed in prompts.values() for prompt in listed)
        tried = tried or [Tried(asking.form, every, outcomes)]
        raise unknown_relations(bench.model.name, len(kept), skipped, tried)
    names = tuple(kept)
    alike = find_alike(bench.model, [prompts[0] for prompts in kept.values()], config.match)
    return Asked(
        config=config,
        names=names,
        facts={name: detection[name] for name in names},
        detection=kept,
        evaluation={
            name: tuple(asking.render(evaluation[name], role="evaluation")) for name in names
        },
        skipped=skipped,
        notes=(*notes, *evaluation.subset(names).notes, *map(str, alike)),
        alike=alike,
        kinds=kinds,
        asking=asking,
        tried=tried,
    )


def _all_kinds(config: RelationsConfig, relations: Relations) -> AnswerKinds:
    """Kinds of answers by all relations of the facts, studied or not, in all languages asked."""
    known = {config.language: relations}
    for language in (config.language, *config.languages):
        with suppress(FactsError):  # a relation nobody asked for may be unusable, or a language
            known[language] = load_relations(
                config.facts,
                templates=config.templates,
                language=language,
                include_companions=True,
            )
    return AnswerKinds.of(*known.values())


def _drawn(relation: Relation, n: int | None) -> Relation:
    """At most n facts: the first ones, since a split already puts them in a drawn order."""
    return relation if n is None else replace(relation, facts=relation.facts[:n])


def _too_few(
    detection: Mapping[str, Relation], config: RelationsConfig, asking: Asking
) -> dict[str, str]:
    """Relation -> why it is not even asked: no answer could keep it, or it cannot be asked."""
    why = {}
    for name, relation in detection.items():
        if len(relation) < config.min_detection:
            why[name] = (
                f"{len(relation)} detection facts, at least {config.min_detection} are needed"
            )
        elif asking.lacks_shots(name):
            why[name] = (
                f"{len(asking.pool[name])} detection facts are too few to show {asking.shots} of "
                "other subjects before each"
            )
    return why


def _filter(
    config: RelationsConfig,
    detection: Mapping[str, Sequence[Prompt]],
    plan: Plan,
    results: Results,
) -> tuple[dict[str, Sequence[Prompt]], dict[str, str]]:
    kept: dict[str, Sequence[Prompt]] = {}
    skipped: dict[str, str] = {}
    accuracy: dict[str, float] = {}
    conditions = {condition.prompts: condition for condition in plan.conditions}
    for name, prompts in detection.items():
        right = results[conditions[f"asked/detection/{name}"]].correct
        accuracy[name] = float(right.mean())
        wanted = right if config.detection_filter == "correct" else right | True
        left = tuple(p for p, ok in zip(prompts, wanted, strict=True) if ok)
        if len(left) >= config.min_detection:
            kept[name] = left
        elif config.detection_filter == "correct":
            skipped[name] = (
                f"{int(right.sum())} of {len(prompts)} detection prompts answered rightly, "
                f"at least {config.min_detection} are needed"
            )
        else:
            skipped[name] = (
                f"{len(prompts)} detection prompts, at least {config.min_detection} are needed"
            )
    for name in sorted(kept, key=lambda name: -accuracy[name])[config.max_relations or len(kept) :]:
        del kept[name]
        skipped[name] = (
            f"{accuracy[name]:.0%} of its detection prompts answered rightly: "
            f"{config.max_relations} others are known better (max_relations)"
        )
    return kept, skipped


def halves(prompts: Sequence[Prompt], seed: int) -> dict[str, str]:
    """Id of each prompt -> "a" or "b": halves by subject, the same for all relations."""
    return {p.id: HALVES[stable_number(seed, "half", p.subject) % 2] for p in prompts}


def _sites(config: RelationsConfig, bench: Bench) -> tuple[tuple[str, ...], list[str]]:
    """The sites asked for; a plain MLP has no gate, so that one is left out there."""
    sites = ordered_sites(config.sites)
    has_gate = "gate" in bench.model.sites
    if "gate" not in sites or has_gate or len(sites) == 1:
        return sites, []
    rest = tuple(site for site in sites if site != "gate")
    return rest, [f"{bench.model.name} has no gates: neurons are those of {', '.join(rest)}."]


def _doubts(
    sets: Mapping[str, NeuronSet],
    labellings: Mapping[str, Labelling],
    index: NeuronIndex,
    config: RelationsConfig,
) -> list[str]:
    """Ties at the border of sets, and sets that chance could have found."""
    tied, chance = [], []
    for name, neurons in sets.items():
        n_tied, n_in = neurons.settings["tied"], neurons.settings["tied_in"]
        if n_tied > n_in:
            tied.append(f"{name} ({n_in} of {n_tied})")
        positive, included = labellings[name]
        n_positive = int(positive.sum())
        found = chance_in_set(
            float(neurons.scores[-1]),
            len(neurons),
            len(index),
            n_positive,
            int(included.sum()) - n_positive,
            config.seed,
        )
        if found.needed is not None:
            chance.append(
                f"{name} ({n_positive} prompts; {found.expected:,.0f} of its {len(neurons):,} "
                f"neurons by chance, {found.needed:,} prompts needed)"
            )
    words = []
    if tied:
        words.append(
            "Neurons of equal score stand at the border of sets, and a hash of their place, which "
            "favours no site or layer, chose among them: " + ", ".join(tied) + "."
        )
    if chance:
        words.append(
            "There are too few facts to rank so many neurons, since shuffled labels would reach "
            "the same average precision: " + ", ".join(chance) + "."
        )
    return words


def _described(neurons: NeuronSet, config: RelationsConfig) -> NeuronSet:
    settings = {
        **neurons.settings,
        "pooling": config.pooling,
        "language": config.language,
        "template_set": config.template_set,
        "form": config.form,
        **({"shots": config.shots} if "few-shot" in str(config.form) else {}),
        "detection_filter": config.detection_filter,
        "match": config.match,
        "negatives": config.negatives,
        "seed": config.seed,
    }
    return replace(neurons, settings=settings)
