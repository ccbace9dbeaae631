"""Which form of asking a model knows its facts in: every form tried on a sample of its own.

1. Some detection facts of every relation are kept apart, for this alone.
2. They are asked in every form of `FORMS` that this model and these facts allow, with
   demonstrations from the other detection facts.
3. The form with the most right answers is taken; of equal ones the first in the order of `FORMS`.

Beside each accuracy stands how many of the right answers stood among the demonstrations, and how
many in the subject asked about (Crux in Gacrux): these may be copied.

Source: ours; METHODS §9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from broca.errors import PromptError, StudyError
from broca.facts import Relation, Relations
from broca.facts.seeding import stable_number
from broca.model import LanguageModel
from broca.prompts import FORMS, Prompt
from broca.prompts.forms import check_form, name_of
from broca.store import summary_key
from broca.studies.relations.asking import Asking
from broca.studies.relations.config import RelationsConfig
from broca.studies.relations.said import AnswerKinds
from broca.studies.study import Bench, Findings, Outcomes, Plan

STUDY = "relations.forms"


@dataclass(frozen=True)
class Tried:
    """One form as it was tried.

    Attributes:
        form: Its name.
        prompts: What was asked, () where the form could not be.
        outcomes: What came of it; None where the form could not be asked.
        reason: Why it could not.
    """

    form: str
    prompts: tuple[Prompt, ...] = ()
    outcomes: Outcomes | None = None
    reason: str = ""

    @property
    def n_right(self) -> int:
        """Right answers."""
        return 0 if self.outcomes is None else int(self.outcomes.correct.sum())

    @property
    def accuracy(self) -> float:
        """Share of right answers, NaN where none was asked."""
        return float("nan") if self.outcomes is None else self.outcomes.accuracy

    def records(self) -> list[dict[str, Any]]:
        """The form as a whole (relation ""), and relation by relation."""
        if self.outcomes is None:
            return [{"form": self.form, "relation": "", "n": 0, "reason": self.reason}]
        asked = {prompt.id: prompt for prompt in self.prompts}
        prompts = [asked[name] for name in self.outcomes.prompt]
        right = self.outcomes.correct
        relations = ["", *dict.fromkeys(prompt.relation for prompt in prompts)]
        found = []
        for relation in relations:
            rows = [i for i, p in enumerate(prompts) if relation in ("", p.relation)]
            shown = [i for i in rows if prompts[i].is_shown]
            named = [i for i in rows if prompts[i].is_named]
            first = prompts[rows[0]]
            found.append(
                {
                    "form": self.form,
                    "relation": relation,
                    "n": len(rows),
                    "right": int(right[rows].sum()),
                    "accuracy": float(right[rows].mean()),
                    "shown": len(shown),
                    "right_shown": int(right[shown].sum()),
                    "named": len(named),
                    "right_named": int(right[named].sum()),
                    "example": first.text,
                    "answer": first.answers[0],
                    "said": str(self.outcomes.text[rows[0]]),
                }
            )
        return found

    def examples(self, n: int = 3) -> list[str]:
        """What was written instead of the right answer, in a few cases of different relations."""
        return [] if self.outcomes is None else examples(self.prompts, self.outcomes, n)


def examples(prompts: Sequence[Prompt], outcomes: Outcomes, n: int = 3) -> list[str]:
    """Wrong answers in words, of different relations as far as possible."""
    asked = {prompt.id: prompt for prompt in prompts}
    wrong: dict[str, list[str]] = {}
    for name, text, right in zip(outcomes.prompt, outcomes.text, outcomes.correct, strict=True):
        if not right:
            prompt = asked[name]
            wrong.setdefault(prompt.relation, []).append(
                f"{prompt.last_line!r} was followed by {str(text)!r} (right: {prompt.answers[0]})"
            )
    listed = [texts[depth] for depth in range(n) for texts in wrong.values() if depth < len(texts)]
    return listed[:n]


def keep_apart(
    detection: Relations, config: RelationsConfig
) -> tuple[Relations, Relations, list[str]]:
    """Facts to choose the form on, the facts left for everything else, and notes.

    A relation gives `n_form` facts, and at most a third of those it does not need itself. Where no
    relation has any to spare, the facts are used for both, and a note says so.
    """
    sample, left = [], []
    for relation in detection.values():
        spare = max(0, len(relation) - config.min_detection) // 3
        order = sorted(
            relation.facts, key=lambda fact: (stable_number(config.seed, "form", fact.id), fact.id)
        )
        taken = {fact.id for fact in order[: min(config.n_form, spare)]}
        sample.append(replace(relation, facts=tuple(f for f in relation.facts if f.id in taken)))
        left.append(replace(relation, facts=tuple(f for f in relation.facts if f.id not in taken)))
    if any(len(relation) for relation in sample):
        return Relations([r for r in sample if len(r)]), Relations(left), []
    # those with too few facts to be studied have no say
    enough = [r for r in detection.values() if len(r) >= config.min_detection]
    few = [replace(r, facts=r.facts[: config.n_form]) for r in enough or detection.values()]
    note = (
        "No relation has facts to spare: the form of asking was chosen on detection facts that "
        "are used again."
    )
    return Relations(few), detection, [note]


def try_forms(
    sample: Relations,
    pool: Mapping[str, Relation],
    config: RelationsConfig,
    bench: Bench,
    kinds: AnswerKinds,
) -> list[Tried]:
    """Ask a sample in every form."""
    rendered: dict[str, list[Prompt] | str] = {}
    chat = chat_of(bench.model)
    for form in FORMS:
        asking = Asking(form, config.shots, config.template_set, config.seed, pool, chat)
        try:
            rendered[form] = asking.render(sample, role="form")
        except PromptError as error:
            rendered[form] = error.what
    groups = {
        f"form/{form}": prompts for form, prompts in rendered.items() if isinstance(prompts, list)
    }
    plan = Plan(groups, describe=kinds.kind)
    asked = {condition.prompts: condition for condition in plan.ask(groups)}
    results = bench.measure(STUDY, plan)
    tried = []
    for form, prompts in rendered.items():
        if isinstance(prompts, str):
            tried.append(Tried(form, reason=prompts))
        else:
            tried.append(Tried(form, tuple(prompts), results[asked[f"form/{form}"]]))
    return tried


def choose_asking(
    config: RelationsConfig, bench: Bench, detection: Relations, kinds: AnswerKinds
) -> tuple[Asking, list[Tried], list[str]]:
    """How facts are put in a run: the form named or measured, and the pool of demonstrations.

    Args:
        config: The settings.
        bench: Where forms are measured.
        detection: All detection facts. Those on which a form is chosen are in no pool.
        kinds: Says what was answered in a word.

    Returns:
        The asking, the forms tried, and notes.
    """
    pool, tried, notes = detection, [], []
    form = config.form or ("question" if bench.model.is_embedded else "auto")
    if form == "auto":
        sample, pool, notes = keep_apart(detection, config)
        tried = try_forms(sample, pool, config, bench, kinds)
        form = best_form(tried)
    chat = chat_of(bench.model)
    asking = Asking(form, config.shots, config.template_set, config.seed, pool, chat)
    return asking, tried, notes


def best_form(tried: Sequence[Tried]) -> str:
    """The form with the most right answers, of equal ones the first."""
    return max(tried, key=lambda one: one.n_right).form


def introduce(asking: Asking, tried: Sequence[Tried], example: Prompt) -> Findings:
    """How the facts of a run were asked, with one prompt as the model read it."""
    shots = f" ({asking.shots} demonstrations)" if "few-shot" in asking.form else ""
    words = [
        f"Facts are asked in the form {name_of(asking.form)}{shots}, for example: {example.text!r}."
    ]
    figures: dict[str, float | int | None] = {}
    asked = [(one, one.outcomes) for one in tried if one.outcomes is not None]
    for one, _ in asked:
        figures[summary_key("form", one.form, "accuracy")] = one.accuracy
    if asked:
        listed = ", ".join(f"{one.form} {one.accuracy:.0%}" for one, _ in asked)
        most, n = len(asked[0][0].prompts), min(len(outcomes) for _, outcomes in asked)
        facts = f"{most}" if n == most else f"{n} or more of {most}"
        words.append(
            f"It has the most right answers on {facts} detection facts kept for the choice of a "
            f"form alone: {listed}."
        )
    return Findings(
        figures=figures,
        tables={
            "forms": [record for one in tried for record in one.records()],
            "asked": [{"form": asking.form, "example": example.text}],
        },
        words=words,
    )


def chat_of(model: LanguageModel):
    """The model's chat template as a function, None where it has none."""
    return model.chat if getattr(model.tokenizer, "chat_template", None) else None


def check_asking(config: RelationsConfig, model: LanguageModel) -> None:
    """Refuse a form that this model cannot be asked in, before anything is computed.

    Raises:
        PromptError: Unknown form, or a chat without template.
    """
    if config.form is None or config.form == "auto":
        return
    check_form(config.form)
    if config.form == "chat":
        model.chat("x")


def unknown_relations(
    model: str, n_kept: int, skipped: Mapping[str, str], tried: Sequence[Tried]
) -> StudyError:
    """The error of a model that knows too few relations: forms tried, and what it wrote."""
    listed = ", ".join(
        f"{one.form} {one.accuracy:.0%}"
        if one.outcomes is not None
        else f"{one.form} (not asked: {one.reason})"
        for one in tried
    )
    best = max(tried, key=lambda one: one.n_right, default=None)
    wrote = "; ".join(best.examples()) if best is not None else ""
    few = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
    few += f"; and {len(skipped) - 3} relations more" if len(skipped) > 3 else ""
    forms = "the form" if len(tried) == 1 else "the forms"
    return StudyError(
        f"{model} knows too few relations of these facts, {n_kept} of at least 2",
        f"asked in {forms} {listed}; {wrote}; {few}",
        'Use facts it knows, more of them, another form, or detection_filter = "none"',
    )
