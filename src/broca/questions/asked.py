"""Files of the query paper's released data: ready-made prompts, three per query.

    {"<id>": {"sentences": [text, ...], "obj_label": ["C", ...], "relation_name": "biology"}}

In its language files `relation_name` is the language and `relation` the relation. Options are
found in the text: the last line labelled A (or 1), then the lines with the next labels.

Source: the data of arXiv 2406.10868 (https://github.com/tigerchen52/qrneuron).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from broca.errors import QuestionsError
from broca.facts.reading import clean, line_of, normalise
from broca.facts.texts import one_text

from .question import AskedForm, Question, check_options

_OPTION = re.compile(r"^[ \t]*\(?([A-Z]|\d{1,2})[.):][ \t]*(.*)$")
FORM = 'Needed: "sentences" (prompts), "obj_label" (one letter per prompt), "relation_name" (field)'


def read_asked(document: Mapping[str, Any], text: str, where: str) -> list[Question]:
    """Questions of one such file.

    Raises:
        QuestionsError: An entry has another form, its options are not found in its text, or its
            letter is not among their labels.
    """
    questions = []
    for name, entry in document.items():
        line = line_of(text, f'"{name}"')
        questions.append(_question(name, entry, f"{where}, {line}" if line else where))
    return questions


def _question(name: str, entry: Any, where: str) -> Question:
    if not isinstance(entry, dict):
        raise QuestionsError(f"query {name} is no object", where, FORM)
    missing = [key for key in ("sentences", "obj_label", "relation_name") if not entry.get(key)]
    if missing:
        there = ", ".join(entry) or "none"
        raise QuestionsError(
            f"query {name} has no {', '.join(missing)}", where, f"{FORM}; there are: {there}"
        )
    sentences, letters = (_listed(entry, key, name, where) for key in ("sentences", "obj_label"))
    if len(sentences) != len(letters):
        raise QuestionsError(
            f"query {name} has {len(sentences)} prompts and {len(letters)} letters", where, FORM
        )
    heads, asked = zip(
        *(_form(t, letter, where) for t, letter in zip(sentences, letters, strict=True)),
        strict=True,
    )
    first = asked[0]
    relation = one_text(entry.get("relation"), "relation", where, QuestionsError)
    field = one_text(entry["relation_name"], "relation_name", where, QuestionsError)
    return Question(
        id=name,
        question=_shared_ending(heads),
        options=first.options,
        answer=first.answer,
        field=field,
        language=field if relation else "en",
        labels=first.labels,
        relation=relation,
        asked=asked,
    )


def _listed(entry: Mapping[str, Any], key: str, name: str, where: str) -> list[str]:
    """The texts of a list, as they are."""
    value = entry[key]
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise QuestionsError(f"{key} of query {name} is no list of texts", where, FORM)
    for text in value:
        one_text(text, key, where, QuestionsError, literal=True)
    return value


def _form(text: str, letter: str, where: str) -> tuple[str, AskedForm]:
    """The text before the options, and the prompt with its options."""
    head, options = find_options(text)
    labels = tuple(options)
    if clean(letter) not in labels:
        raise QuestionsError(
            f"the right answer {letter!r} is not among the options",
            where,
            f"Options found in the prompt: {', '.join(labels) or 'none'}",
        )
    answer = labels.index(clean(letter))
    check_options(tuple(options.values()), labels, answer, where)
    return head, AskedForm(normalise(text), tuple(options.values()), labels, answer)


def find_options(text: str) -> tuple[str, dict[str, str]]:
    """The text before the options, and label -> option; a longer option keeps all its lines."""
    lines = text.split("\n")
    matches = [_OPTION.match(line) for line in lines]
    starts = [i for i, m in enumerate(matches) if m and m[1] in ("A", "1")]
    if not starts:
        return text, {}
    options: dict[str, list[str]] = {}
    waiting: list[str] = []
    expected = matches[starts[-1]][1]  # pyright: ignore[reportOptionalSubscript]
    for line, match in zip(lines[starts[-1] :], matches[starts[-1] :], strict=True):
        if match and match[1] == expected:
            if options:  # lines between two labels belong to the first
                options[next(reversed(options))] += waiting
            waiting = []
            options[expected] = [match[2]]
            expected = str(int(expected) + 1) if expected.isdigit() else chr(ord(expected) + 1)
        else:
            waiting.append(line)
    head = "\n".join(lines[: starts[-1]])
    return head, {label: normalise("\n".join(found)) for label, found in options.items()}


def _shared_ending(heads: tuple[str, ...]) -> str:
    """The question: what the texts before the options have in common at their end."""
    backwards = [head.rstrip()[::-1] for head in heads]
    n_shared = sum(1 for _ in takewhile(lambda c: len(set(c)) == 1, zip(*backwards, strict=False)))
    ending = backwards[0][:n_shared][::-1]
    ending = ending if normalise(ending) else heads[0]
    # the instruction before the question ends in a colon, with or without a line break
    return normalise(re.split(r"^[^\n]{0,40}[:：]\s*(?=\S)", ending, maxsplit=1)[-1])
