"""Forms of asking: what stands in the text, what is shown before it, what is asked of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broca.errors import PromptError
from broca.facts import Fact, Relation, Relations
from broca.prompts import (
    FORMS,
    Form,
    draw_demonstrations,
    render_fact_prompts,
    render_question_prompts,
    render_word_prompts,
)
from broca.questions import Question

SETS = {
    "finding": ("The capital of {} is", "What is the capital of {}?", "{} is governed from"),
    "robustness": ("Which city rules {}? It is the city of",),
}


def capitals(n: int = 12, name: str = "capital", **changes) -> Relation:
    facts = tuple(Fact(f"Land {i}", name, (f"City {i % 5}",)) for i in range(n))
    return replace(Relation(name, facts, SETS, field=f"field {name}"), **changes)


def chat(message: str) -> str:
    return f"<user>{message}</user>\n<model>\n"


def render(form: str, relations=None, **options):
    return render_fact_prompts(relations or capitals(), form=form, chat=chat, **options)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("question", "Which city rules Land 3? Answer:"),
        ("cloze", "Which city rules Land 3? It is the city of"),
        ("chat", "<user>Which city rules Land 3?</user>\n<model>\n"),
        ("Q: {wording}\nA:", "Q: Which city rules Land 3?\nA:"),
        ("<user>{wording}</user>\n<model>\n", "<user>Which city rules Land 3?</user>\n<model>\n"),
        ("Q: {wording} A: ", "Q: Which city rules Land 3? A:"),
        ("So: {wording}", "So: Which city rules Land 3? It is the city of"),
    ],
)
def test_a_wording_in_every_form(form: str, text: str) -> None:
    prompt = render(form, template_set="robustness")[3]
    assert prompt.text == text
    assert prompt.form == form
    assert prompt.asked_span is not None
    asked = prompt.text[slice(*prompt.asked_span)]
    assert asked.startswith("Which city rules Land 3?")
    assert not {"Answer", "<"} & set(asked.replace("<", " < ").split())
    assert prompt.subject_span is not None
    assert prompt.text[slice(*prompt.subject_span)] == "Land 3"


def test_completions_are_drawn_where_the_answer_follows_and_questions_where_they_are_put() -> None:
    many = capitals(60)
    completed = {p.template for p in render("cloze", many)}
    assert completed == {"finding.0", "finding.2"} == {p.template for p in render("few-shot", many)}
    assert {p.template for p in render("chat", many)} == {"finding.1"}
    assert {p.template for p in render("Q: {wording} A:", many)} == {"finding.1"}
    assert {p.template for p in render("question", many)} == {f"finding.{i}" for i in range(3)}
    only = replace(many, templates={"finding": ("The capital of {} is",)})
    assert render("chat", only)[0].text == "<user>The capital of Land 0 is</user>\n<model>\n"
    assert len(render("cloze", capitals(1), every_wording=True)) == 3


def test_demonstrations_come_one_a_line_in_the_asked_wording() -> None:
    for prompt in render("few-shot", shots=3, seed=2):
        *lines, last = prompt.text.split("\n")
        wording = SETS["finding"][int(prompt.template.split(".")[1])]
        assert last == wording.replace("{}", prompt.subject)
        assert prompt.text[slice(*prompt.asked_span)] == last  # pyright: ignore
        assert len(lines) == 3 == len(prompt.shown)
        before, after = wording.split("{}")
        for line, answer in zip(lines, prompt.shown, strict=True):
            subject = line[len(before) :].split(after)[0]
            assert line == f"{before}{subject}{after} {answer}"
            assert answer == f"City {int(subject.split()[1]) % 5}"
            assert subject != prompt.subject


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=1, max_size=20
    ),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_demonstrations_are_of_other_subjects(
    pairs: list[tuple[str, str]], shots: int, seed: int
) -> None:
    facts = [Fact(s, "r", (o,), id=f"r:{i}") for i, (s, o) in enumerate(pairs)]
    asked = Fact("A", "r", ("x",))
    others = [fact for fact in facts if fact.subject != "a"]
    if len(others) < shots:
        with pytest.raises(PromptError, match=f"{shots} demonstrations"):
            draw_demonstrations(facts, asked, shots, seed)
        return
    drawn = draw_demonstrations(facts, asked, shots, seed)
    assert len({fact.id for fact in drawn}) == shots
    assert all(fact.subject.casefold() != "a" for fact in drawn)
    assert drawn == draw_demonstrations(facts, asked, shots, seed)


def test_what_is_right_does_not_decide_what_is_shown() -> None:
    """Neither by its presence nor by its absence."""
    facts = capitals(40).facts
    asked = facts[0]
    for other in ("City 1", "Elsewhere"):
        changed = replace(asked, objects=(other,))
        assert draw_demonstrations(facts, asked, 4, 3) == draw_demonstrations(facts, changed, 4, 3)
    with_own = [
        one.objects[0] in [f.objects[0] for f in draw_demonstrations(facts, one, 4, 0)]
        for one in facts
    ]
    assert 0.35 < sum(with_own) / len(with_own) < 0.85  # 1 - (4/5)^4 = 59 % by chance


def test_demonstrations_of_other_relations() -> None:
    relations = Relations([capitals(name=name) for name in "abcdef"])
    for prompt in render("few-shot-other", relations, shots=4):
        assert len(prompt.text.split("\n")) == 5
    two = Relations([capitals(name=name) for name in "ab"])
    assert len(render("few-shot-other", two, shots=4)) == 24
    with pytest.raises(PromptError, match="4 demonstrations are more"):
        render("few-shot-other", capitals())
    for prompt in render("few-shot-other", two):
        assert len(set(prompt.text.split("\n"))) == 5


def test_demonstrations_come_from_the_facts_given_for_them() -> None:
    pool = replace(capitals(), facts=tuple(Fact(f"P{i}", "capital", (f"C{i}",)) for i in range(6)))
    for prompt in render("few-shot", demonstrations=pool):
        assert all(line.split("{}")[0] and " C" in line for line in prompt.text.split("\n")[:-1])
        assert set(prompt.shown) <= {f"C{i}" for i in range(6)}
    with pytest.raises(PromptError, match="7 demonstrations are more than there are facts"):
        render("few-shot", demonstrations=pool, shots=7)


def test_no_space_before_an_answer_in_a_script_without_spaces() -> None:
    facts = tuple(Fact(f"{c}国", "capital", (f"{c}京",), "zh") for c in "甲乙丙")
    relation = Relation("capital", facts, {"finding": ("{}的首都是",)}, language="zh")
    prompt = render("few-shot", relation, shots=1)[0]
    assert prompt.text in ("乙国的首都是乙京\n甲国的首都是", "丙国的首都是丙京\n甲国的首都是")


def test_ids_tell_form_shots_and_seed() -> None:
    ids = {
        prompt.id
        for form, shots, seed in [
            *((form, 4, 0) for form in (*FORMS, "A {wording}", "B {wording}")),
            ("few-shot", 2, 0),
            ("few-shot", 4, 1),
        ]
        for prompt in render(
            form,
            Relations([capitals(name="a"), capitals(name="b")]),
            shots=shots,
            seed=seed,
            every_wording=True,
        )
    }
    assert len(ids) == 9 * 2 * 12 * 3
    assert render("question")[0].id.startswith("capital:Land 0/en/finding.")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("fewshot", "Did you mean 'few-shot'"),
        ("fancy", "'fancy' is no form of asking"),
        ("Question: Answer:", "has no {wording}"),
        ("{wording} or {wording}", "more than once"),
        ("auto", "chosen by measuring"),
        (r"Q: {wording}\nA:", "a backslash and an n"),
    ],
)
def test_what_is_no_form(form: str, said: str) -> None:
    with pytest.raises(PromptError) as caught:
        render(form)
    assert said in str(caught.value)


def test_a_chat_needs_a_template_and_shots_a_number() -> None:
    with pytest.raises(PromptError, match="chat template"):
        Form("chat")
    with pytest.raises(PromptError, match="at least 1"):
        Form("few-shot", 0)


def test_a_template_that_changes_the_message_asks_all_of_it() -> None:
    (prompt,) = render_fact_prompts(capitals(1), form="chat", chat=str.upper)
    assert prompt.asked_span is None
    assert prompt.subject_span is None


def questions() -> list[Question]:
    options = ("red", "green", "blue", "grey")
    return [Question(f"q{i}", f"Colour {i}?", options, i % 4, f"field {i % 3}") for i in range(24)]


def test_choice_questions_in_every_form() -> None:
    plain = {p.id: p for p in render_question_prompts(questions())}
    for form in FORMS[1:]:
        for prompt in render_question_prompts(questions(), form=form, shots=2, chat=chat):
            same = plain["/".join(prompt.id.split("/")[:2])]
            assert prompt.answers == same.answers
            assert prompt.text[slice(*prompt.asked_span)] == same.text  # pyright: ignore
            if "few-shot" in form:
                rest = prompt.text
                for answer in prompt.shown:
                    (other,) = (
                        p for p in plain.values() if rest.startswith(f"{p.text} {answer}\n\n")
                    )
                    rest = rest.removeprefix(f"{other.text} {answer}\n\n")
                    assert other.answers == (answer,)
                    assert (other.field == prompt.field) == (form == "few-shot")
                    assert other.fact != prompt.fact
                assert rest == same.text
    with pytest.raises(PromptError, match="9 demonstrations are more than there are other"):
        render_question_prompts(questions(), form="few-shot", shots=9)


def test_questions_without_options() -> None:
    for form, text in {
        "question": "Colour 5? Answer:",
        "cloze": "Colour 5?",
        "chat": "<user>Colour 5?</user>\n<model>\n",
        "Q: {wording} A:": "Q: Colour 5? A:",
    }.items():
        prompt = render_word_prompts(questions(), form=form, chat=chat)[5]
        assert prompt.text == text
        assert prompt.answers == ("green",)
    prompt = render_word_prompts(questions(), form="few-shot", shots=3)[5]
    assert prompt.text.endswith("\nColour 5?")
    assert len(prompt.text.split("\n")) == 4
    assert len(prompt.shown) == 3
