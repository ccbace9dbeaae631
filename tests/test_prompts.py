"""Prompts: endings, wordings by seed, stable ids, where the subject stands, choice prompts."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from broca.errors import FactsError, PromptError
from broca.facts import Fact, Relation, Relations
from broca.prompts import add_ending, render_fact_prompts, render_question_prompts
from broca.questions import ChoiceWording, Question

WORDINGS = ("The CEO of {} is", "Who leads {}?", "{} is led by")


def make_relation(n: int = 40, name: str = "ceo", **changes: object) -> Relation:
    facts = tuple(Fact(f"Firm {i}", name, (f"Boss {i}",)) for i in range(n))
    sets = {"finding": WORDINGS, "robustness": ("{}'s head is",)}
    relation = Relation(name, facts, sets, field="companies")
    return replace(relation, **changes)  # pyright: ignore[reportArgumentType]


def make_questions(n: int = 30, **changes: object) -> list[Question]:
    options = ("red", "green", "blue", "grey")
    return [
        replace(Question(f"q{i}", f"Colour {i}?", options, i % 4, "colours"), **changes)  # pyright: ignore[reportArgumentType]
        for i in range(n)
    ]


@pytest.mark.parametrize(
    ("wording", "ended"),
    [
        ("{}'s CEO is", "{}'s CEO is? Answer:"),
        ("Who leads {}?", "Who leads {}? Answer:"),
        ("Who is the CEO of {}? Their name is", "Who is the CEO of {}? Answer:"),
        ("Qui dirige {} ?", "Qui dirige {} ? Answer:"),
        ("谁领导{}？", "谁领导{}？ Answer:"),
        ("Ready? The CEO of {} is", "Ready? The CEO of {} is? Answer:"),
    ],
)
def test_ending_never_asks_twice(wording: str, ended: str) -> None:
    assert add_ending(wording) == ended


def test_question_marks_of_a_subject_do_not_count() -> None:
    fact = Fact("Who? Weekly", "ceo", ("Ann",))
    relation = Relation("ceo", (fact,), {"finding": ("The CEO of {} is",)})
    (prompt,) = render_fact_prompts(relation)
    assert prompt.text == "The CEO of Who? Weekly is? Answer:"
    assert render_fact_prompts(relation, form="cloze")[0].text == "The CEO of Who? Weekly is"


def test_prompt_carries_its_fact() -> None:
    relation = make_relation(1)
    (prompt,) = render_fact_prompts(relation, template_set="robustness", role="detection")
    assert prompt.text == "Firm 0's head is? Answer:"
    assert prompt.answers == ("Boss 0",)
    assert (prompt.fact, prompt.subject, prompt.relation, prompt.field, prompt.template) == (
        "ceo:Firm 0", "Firm 0", "ceo", "companies", "robustness.0",
    )  # fmt: skip
    assert (prompt.id, prompt.role) == ("ceo:Firm 0/en/robustness.0", "detection")


def test_subject_span_is_the_slot_even_when_the_subject_occurs_before() -> None:
    relation = Relation("r", (Fact("is", "r", ("x",)),), {"finding": ("What is {} like",)})
    (prompt,) = render_fact_prompts(relation)
    assert prompt.subject_span == (8, 10)
    for prompt in render_fact_prompts(make_relation()):
        assert prompt.subject_span is not None
        assert prompt.text[slice(*prompt.subject_span)] == prompt.subject


def test_wording_depends_on_seed_and_fact_only() -> None:
    relation = make_relation()
    shuffled = list(relation.facts)
    random.Random(0).shuffle(shuffled)
    some = replace(relation, facts=tuple(shuffled[:25]))
    texts = {p.fact: p.text for p in render_fact_prompts(relation, seed=5)}
    assert {p.fact: p.text for p in render_fact_prompts(some, seed=5)}.items() <= texts.items()
    assert {p.fact: p.text for p in render_fact_prompts(relation, seed=6)} != texts
    used = Counter(p.template for p in render_fact_prompts(relation, seed=5))
    assert set(used) == {"finding.0", "finding.1", "finding.2"}


def test_ids_are_unique_over_sets_endings_and_wordings() -> None:
    relations = Relations([make_relation(), make_relation(name="head")])
    prompts = [
        prompt
        for template_set in ("finding", "robustness")
        for form in ("question", "cloze")
        for prompt in render_fact_prompts(
            relations, template_set=template_set, form=form, every_wording=True
        )
    ]
    assert len({p.id for p in prompts}) == len({(p.text, p.relation) for p in prompts})
    assert len(prompts) == 2 * 2 * 40 * (3 + 1)


def test_nothing_to_ask() -> None:
    with pytest.raises(PromptError, match="no facts"):
        render_fact_prompts(Relations([]))
    with pytest.raises(FactsError, match="no template set 'held_out'"):
        render_fact_prompts(make_relation(), template_set="held_out")
    with pytest.raises(PromptError, match="no questions"):
        render_question_prompts([])


def test_choice_prompts_shuffle_per_wording_and_know_the_right_label() -> None:
    prompts = render_question_prompts(make_questions())
    assert len({p.id for p in prompts}) == 90
    for prompt in prompts:
        question = make_questions()[int(prompt.fact[1:])]
        assert prompt.right == question.right
        assert prompt.answers == (prompt.labels[prompt.answer],)
        assert set(prompt.options) == set(question.options)
        for label, option in zip(prompt.labels, prompt.options, strict=True):
            assert any(f"{label}{mark} {option}\n" in prompt.text for mark in ".):")
        assert question.question in prompt.text
        assert prompt.text == prompt.text.rstrip()
    by_question = [{p.options for p in prompts if p.fact == f"q{i}"} for i in range(30)]
    assert sum(len(orders) > 1 for orders in by_question) > 25
    letters = Counter(p.answers[0] for p in prompts)
    assert min(letters[x] for x in "ABCD") > 10


def test_shuffles_depend_on_seed_and_question_only() -> None:
    questions = make_questions()
    first = {p.id: p.text for p in render_question_prompts(questions, seed=1)}
    again = {p.id: p.text for p in render_question_prompts(questions[::-1][:9], seed=1)}
    assert again.items() <= first.items()
    assert {p.id: p.text for p in render_question_prompts(questions, seed=2)} != first


def test_questions_with_a_pool_redraw_their_wrong_options() -> None:
    pool = tuple(f"colour {i}" for i in range(20))
    prompts = render_question_prompts(make_questions(10, pool=pool))
    wrong = [frozenset(p.options) - {p.right} for p in prompts]
    assert all(len(w) == 3 and w <= set(pool) for w in wrong)
    assert len(set(wrong)) > 25


def test_other_labels_numbers_of_options_and_languages() -> None:
    question = Question("q", "Welche?", ("eins", "zwei"), 1, "zahlen", "de", labels=("1", "2"))
    german, *_ = render_question_prompts([question])
    assert "Antwort:" in german.text
    assert german.answers[0] in ("1", "2")
    many = Question("m", "Which?", tuple("abcdef"), 5, "letters", language="sv")
    prompt = render_question_prompts([many], n_prompts=1)[0]
    assert prompt.labels == tuple("ABCDEF")
    assert prompt.text.endswith("Answer:")


def test_given_wordings_take_the_place_of_all_others() -> None:
    wording = ChoiceWording("Q {question} O {options} A", "<{label}|{option}>")
    question = Question("q", "Is {x} in \\frac{1}{2}?", ("{label}", "no"), 0, "f")
    (prompt,) = render_question_prompts([question], wordings={"en": [wording]}, n_prompts=1)
    assert prompt.text.startswith("Q Is {x} in \\frac{1}{2}? O <A|")
    assert "|{label}>" in prompt.text
    with pytest.raises(PromptError, match="3 prompts per question were asked for, there are 1"):
        render_question_prompts([question], wordings={"en": [wording]})
