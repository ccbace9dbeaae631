"""Replaced facts, judged: do they take, do they carry over, and does everything else stay?

Claim: new value vectors for a fact's neurons replace the fact, in other wordings and languages
too, and leave other facts and the language as they are; for random neurons of the same layers
they do not, or break more.

1. A case is a known fact and a new object: that of another subject of the same relation.
2. The case is edited with its own neurons, and with as many random ones of the same layers.
3. Success: the fact's own paraphrases give the new object (two greedy tokens).
   Generalisation: wordings not edited on, never-trained wordings, other languages.
   Locality: answers that stay as they were, for other subjects of the same relation, for the same
   subject in other relations, for other relations.
   Fluency: perplexity of prose after / before.
4. Means over cases with bootstrap intervals; own minus random paired over cases.

Source: the criteria of editing benchmarks (Meng et al. 2022, ROME, section 3; Wang et al. 2024,
EasyEdit). Other languages and random neurons are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from broca.edits import FactEditConfig, edited, replace_fact, select_fact_neurons
from broca.edits.replacement import paraphrases
from broca.errors import StudyError
from broca.estimates import Estimate, bootstrap_mean, bootstrap_paired
from broca.facts import Fact, Relations
from broca.facts.seeding import stable_random
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronSet
from broca.progress import track
from broca.prompts import Prompt, render_fact_prompts

OWN, RANDOM = "own neurons", "random neurons"
TAKES = ("success", "generalisation.templates", "generalisation.unseen", "generalisation.languages")
STAYS = ("locality.relation", "locality.subject", "locality.others")
FIGURES = (*TAKES, *STAYS, "log_p", "fluency", "changed")


@dataclass(frozen=True)
class EditCase:
    """A fact to replace.

    Attributes:
        fact: The fact, in the language it is edited in.
        donor: A fact of the same relation whose object it shall get.
    """

    fact: Fact
    donor: Fact

    @property
    def new_object(self) -> str:
        """What the model shall say."""
        return self.donor.objects[0]


@dataclass(frozen=True)
class JudgeConfig:
    """What is asked of an edited model.

    Attributes:
        template_set: Wordings the edit is made on.
        other_sets: Template sets not edited on, by the figure they count for.
        n_others: Prompts of the same relation, and of other relations.
        n_subject: Prompts about the same subject in other relations, at most.
        seed: Draws them.
    """

    template_set: str = "finding"
    other_sets: tuple[tuple[str, str], ...] = (
        ("generalisation.templates", "robustness"),
        ("generalisation.unseen", "held_out"),
    )
    n_others: int = 12
    n_subject: int = 6
    seed: int = 0


@dataclass(frozen=True)
class EditOutcome:
    """One case under one choice of neurons.

    Attributes:
        case: The case.
        neurons: ``OWN`` or ``RANDOM``.
        figures: The figures of :data:`FIGURES` that this case has.
    """

    case: EditCase
    neurons: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class World:
    """What edits are judged on.

    Attributes:
        relations: The facts in the language they are edited in.
        languages: The same facts in other languages.
        prose: Texts for the perplexity.
    """

    relations: Relations
    languages: Mapping[str, Relations]
    prose: Sequence[str] = ()


def draw_cases(
    model: LanguageModel,
    relations: Relations,
    n_cases: int,
    *,
    seed: int = 0,
    skip: int = 0,
    template_set: str = "finding",
) -> list[EditCase]:
    """Facts that the model knows, spread evenly over the relations, each with a new object.

    Args:
        model: The model under study: facts it answers wrongly are left out.
        relations: Where they come from.
        n_cases: How many.
        seed: Draws facts and new objects.
        skip: Leave out the first so many cases of this seed: settings were chosen on them.
        template_set: Wordings by which knowing is told.

    Raises:
        StudyError: If the model knows too few facts.
    """
    prompts = render_fact_prompts(relations, template_set=template_set, seed=seed)
    rng = stable_random(seed, "edit-cases")
    rng.shuffle(prompts)
    wanted, found = n_cases + skip, {}
    facts = {fact.id: fact for fact in relations.facts}
    per_relation = -(-wanted // len(relations)) * 3
    asked = [
        prompt
        for name in relations
        for prompt in [p for p in prompts if p.relation == name][:per_relation]
    ]
    known = {row.prompt for row in answer_prompts(model, asked, {"": None}) if row.correct}
    for name, relation in relations.items():
        cases = []
        for prompt in asked:
            if prompt.relation == name and prompt.id in known:
                fact = facts[prompt.fact]
                donors = [f for f in relation.facts if f.objects[0] not in fact.objects]
                if donors:
                    cases.append(EditCase(fact, rng.choice(donors)))
        found[name] = cases
    # Round by round over the relations, so that any first n are spread evenly.
    rounds = [
        c[i] for i in range(max(map(len, found.values()))) for c in found.values() if i < len(c)
    ]
    if len(rounds) < wanted:
        raise StudyError(
            f"the model knows {len(rounds)} of the {wanted} facts needed", mend="Ask for fewer"
        )
    return rounds[skip:wanted]


def judge_edits(
    model: LanguageModel,
    cases: Sequence[EditCase],
    world: World,
    config: FactEditConfig,
    judge: JudgeConfig | None = None,
    *,
    kinds: Sequence[str] = (OWN, RANDOM),
) -> Iterator[EditOutcome]:
    """Edit case after case, each alone, and measure the edited model.

    Args:
        model: The model under study.
        cases: What to edit.
        world: What it is judged on.
        config: How facts are replaced.
        judge: What is asked.
        kinds: Whose value vectors change.

    Yields:
        One outcome per case and kind, in this order.
    """
    judge = judge or JudgeConfig()
    before = perplexity(model, world.prose) if world.prose else None
    for case in track(cases, "Editing facts"):
        questions = _Questions(model, case, world, judge, before)
        ended = paraphrases(world.relations[case.fact.relation], case.fact, config.template_set)
        own = select_fact_neurons(model, ended[: len(ended) // 2], config.n_neurons, config.n_nodes)
        for kind in kinds:
            neurons = own if kind == OWN else own.matched_random(judge.seed)
            yield _outcome(model, case, world, config, questions, kind, neurons)


def _outcome(
    model: LanguageModel,
    case: EditCase,
    world: World,
    config: FactEditConfig,
    questions: _Questions,
    kind: str,
    neurons: NeuronSet,
) -> EditOutcome:
    done = replace_fact(model, world.relations, case.fact, case.new_object, config, neurons=neurons)
    with edited(model, done.vectors):
        figures = questions.figures(model)
    figures["log_p"] = float(done.log_p_after.mean() - done.log_p_before.mean())
    figures["changed"] = done.total_change
    return EditOutcome(case, kind, figures)


class _Questions:
    """Everything that is asked about one case, and what the untouched model said."""

    def __init__(
        self,
        model: LanguageModel,
        case: EditCase,
        world: World,
        judge: JudgeConfig,
        before: float | None,
    ) -> None:
        self.takes = {name: prompts for name, prompts in _takes(case, world, judge) if prompts}
        self.stays = {name: prompts for name, prompts in _stays(case, world, judge) if prompts}
        self.prose = world.prose
        self.said = self._answers(model, self.stays)
        self.perplexity = before

    @staticmethod
    def _answers(model: LanguageModel, groups: Mapping[str, list[Prompt]]) -> dict[str, tuple]:
        """Two greedy tokens by prompt."""
        prompts = [prompt for group in groups.values() for prompt in group]
        if not prompts:
            return {}
        rows = answer_prompts(
            model, prompts, {"": None}, border=" ", match="prefix", with_log_p=False
        )
        return {row.prompt: row.ids for row in rows}

    def figures(self, model: LanguageModel) -> dict[str, float]:
        """The figures of the model as it is now."""
        prompts = [prompt for group in self.takes.values() for prompt in group]
        rows = answer_prompts(model, prompts, {"": None}, border=" ", with_log_p=False)
        correct = {row.prompt: row.correct for row in rows}
        now = self._answers(model, self.stays)
        found = {n: float(np.mean([correct[p.id] for p in g])) for n, g in self.takes.items()}
        for name, group in self.stays.items():
            found[name] = float(np.mean([now[p.id] == self.said[p.id] for p in group]))
        if self.perplexity is not None:
            found["fluency"] = perplexity(model, self.prose) / self.perplexity
        return found


def _takes(case: EditCase, world: World, judge: JudgeConfig) -> Iterator[tuple[str, list[Prompt]]]:
    """The fact asked in many ways, with the new object as the answer."""
    relation = world.relations[case.fact.relation]
    sets = [("success", judge.template_set), *judge.other_sets]
    for name, template_set in sets:
        if relation.templates.get(template_set):
            asked = paraphrases(relation, case.fact, template_set)
            yield name, [replace(prompt, answers=(case.new_object,)) for prompt in asked]
    abroad: list[Prompt] = []
    for relations in world.languages.values():
        if case.fact.relation not in relations:
            continue
        there = relations[case.fact.relation]
        facts = {fact.id: fact for fact in there.facts}
        fact, donor = facts.get(case.fact.id), facts.get(case.donor.id)
        if fact and donor and there.templates.get("finding"):
            asked = render_fact_prompts(replace(there, facts=(fact,)), every_wording=True)
            abroad += [replace(prompt, answers=(donor.objects[0],)) for prompt in asked]
    yield "generalisation.languages", abroad


def _stays(case: EditCase, world: World, judge: JudgeConfig) -> Iterator[tuple[str, list[Prompt]]]:
    """What should be answered as before."""
    rng = stable_random(judge.seed, "judge", case.fact.id)
    subject, same, others = [], [], []
    for name, relation in world.relations.items():
        mine = name == case.fact.relation
        for prompt in render_fact_prompts(relation, seed=judge.seed + 1):
            if prompt.subject == case.fact.subject:
                subject += [] if mine else [prompt]
            else:
                (same if mine else others).append(prompt)
    yield "locality.relation", rng.sample(same, min(judge.n_others, len(same)))
    yield "locality.others", rng.sample(others, min(judge.n_others, len(others)))
    yield "locality.subject", subject[: judge.n_subject]


@torch.no_grad()
def perplexity(model: LanguageModel, texts: Sequence[str], batch_size: int = 32) -> float:
    """exp of the mean negative log probability of all tokens after each text's first."""
    tokens = sorted((ids for ids in model.encode(texts) if len(ids) > 1), key=len)
    total, count = 0.0, 0
    for rows in model.batches([len(ids) for ids in tokens], batch_size):
        batch = model.pad([tokens[row] for row in rows])
        width = batch.ids.shape[1]
        log_p = model.logits(batch, logits_to_keep=width)[:, :-1].log_softmax(-1)
        chosen = log_p.gather(-1, batch.ids[:, 1:, None])[..., 0]
        real = batch.attention_mask[:, :-1].bool()  # a token counts that follows a real one
        total -= float(chosen[real].double().sum())
        count += int(real.sum())
    return float(np.exp(total / count))


def summarise_edits(
    outcomes: Sequence[EditOutcome], seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Means over cases by kind of neurons, and own minus random over the same cases.

    Returns:
        ``OWN``, ``RANDOM`` and ``"difference"`` -> figure -> estimate; a figure that no case has
        is missing.
    """
    by_kind: dict[str, dict[str, dict[str, float]]] = {}
    for outcome in outcomes:
        by_kind.setdefault(outcome.neurons, {})[outcome.case.fact.id] = dict(outcome.figures)
    found: dict[str, dict[str, Estimate]] = {}
    for kind, cases in by_kind.items():
        found[kind] = {}
        for figure in FIGURES:
            values = [figures[figure] for figures in cases.values() if figure in figures]
            if values:
                found[kind][figure] = bootstrap_mean(values, seed=seed)
    if OWN in by_kind and RANDOM in by_kind:
        own, other = by_kind[OWN], by_kind[RANDOM]
        found["difference"] = {}
        for figure in FIGURES:
            pairs = [
                (own[case][figure], other[case][figure])
                for case in own
                if case in other and figure in own[case] and figure in other[case]
            ]
            if pairs:
                a, b = zip(*pairs, strict=True)
                found["difference"][figure] = bootstrap_paired(a, b, seed=seed)
    return found
