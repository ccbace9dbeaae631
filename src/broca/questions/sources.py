"""Questions made from public data sets: what `broca build questions RECIPE.toml` does.

1. A recipe names a mapping (committed beside this file: `mmlu`, `mlama`; or a TOML file) and a
   source: "hub" (the Hugging Face hub, extra `datasets`) or local Parquet, JSON, JSONL or CSV.
2. The mapping says which columns hold what, which rows to keep, and how many.
3. Rows of kind "choice" have options; rows of kind "cloze" are sentences with a gap, whose
   options are objects of the same field.
4. The questions are written as JSONL for `load_questions`.

    mapping = "mmlu"
    source = "hub"             # or a file or folder, relative to the recipe
    per_field = 100            # optional: overrides anything at the top of the mapping
    seed = 0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from broca.errors import QuestionsError
from broca.facts.reading import Source, normalise, read_toml
from broca.facts.seeding import stable_number
from broca.facts.texts import one_text

from .build import OpenQuestion, close_questions
from .load import close_open
from .question import Question, check_distinct, choose_per_field
from .records import read_hub, read_local
from .rows import RowFormat, questions_from_rows
from .write import write_questions

MAPPINGS = ("mmlu", "mlama")
SETTINGS = {
    "kind": str,
    "split": str,
    "per_field": int,
    "per_relation": int,
    "n_options": int,
    "redraw": bool,
    "answer_kind": str,
    "subject_slot": str,
    "hub": dict,
    "columns": dict,
    "fields": dict,
    "keep": dict,
    "gap": dict,
}
RECIPE = {"mapping": str, "source": str, "seed": int, "revision": str}
Row = Mapping[str, Any]


def build_question_file(recipe: str | Path, out: str | Path) -> Path:
    """Build the questions of a recipe and write them to a JSONL file.

    Args:
        recipe: TOML file (see above).
        out: The file to write.

    Returns:
        The file written.

    Raises:
        QuestionsError: The recipe, its mapping or its source cannot be used.
    """
    return write_questions(questions_of_recipe(Path(recipe)), out)


def questions_of_recipe(recipe: Path) -> list[Question]:
    """The questions a recipe describes; see `build_question_file`."""
    settings, _ = read_toml(recipe, QuestionsError)
    _check(settings, {**RECIPE, **SETTINGS}, str(recipe))
    if "mapping" not in settings:
        mend = f'Write mapping = "{MAPPINGS[0]}", or the path of a mapping of your own'
        raise QuestionsError("the recipe names no mapping", str(recipe), mend)
    mapping = _read_mapping(settings["mapping"], recipe.parent)
    mapping = {**mapping, **{k: v for k, v in settings.items() if k not in RECIPE}}
    seed = settings.get("seed", 0)
    source = settings.get("source", "hub")
    if source == "hub":
        rows = read_hub(mapping.get("hub", {}), mapping.get("split"), settings.get("revision"))
    else:
        rows = read_local(recipe.parent / source, mapping.get("split"))
    kind = mapping.get("kind", "choice")
    if kind not in ("choice", "cloze"):
        raise QuestionsError("unknown kind of mapping", str(kind), 'Use "choice" or "cloze"')
    make = choice_questions if kind == "choice" else cloze_questions
    return make(rows, mapping, seed)


def _read_mapping(name: str, folder: Path) -> dict[str, Any]:
    path: Source = folder / name
    if name in MAPPINGS:
        path = files("broca") / "questions" / "mappings" / f"{name}.toml"
    elif not (folder / name).is_file():
        mend = f"Known: {', '.join(MAPPINGS)}; or give the path of a TOML file"
        raise QuestionsError(f"unknown mapping {name!r}", str(path), mend)
    mapping, _ = read_toml(path, QuestionsError)
    _check(mapping, SETTINGS, str(path))
    return mapping


def _check(settings: Mapping[str, Any], known: Mapping[str, type], where: str) -> None:
    for name, value in settings.items():
        if name not in known:
            raise QuestionsError(f"unknown setting {name!r}", where, f"Known: {', '.join(known)}")
        if type(value) is not known[name]:
            raise QuestionsError(f"{name} must be of kind {known[name].__name__}", where)


def choice_questions(
    rows: Iterable[tuple[str, Row]], mapping: Mapping[str, Any], seed: int
) -> list[Question]:
    """Questions from rows that have options (or answers only); repeated questions once.

    Raises:
        QuestionsError: A column is missing, an answer is not among its options, or no row fits.
    """
    form = RowFormat(mapping.get("columns", {}), mapping.get("answer_kind", "auto"))
    names: Mapping[str, str] = mapping.get("fields", {})
    kept: list[tuple[str, str, Row]] = []
    values: list[str] = []
    for where, row in rows:
        value = one_text(form.value(row, "field", where), "field", where, QuestionsError)
        if not names or value in names:
            kept.append((where, _row_id(value, row, form, where), row))
            values.append(value)
    found: list[Question | OpenQuestion] = []
    texts: set[tuple[object, ...]] = set()
    for value, question in zip(values, questions_from_rows(kept, form), strict=True):
        if names:
            question = _with_field(question, names[value])
        content = (question.language, question.field, question.question)
        if content not in texts:  # public data sets repeat some questions
            texts.add(content)
            found.append(question)
    _require_rows(found, f"fields {', '.join(names)}" if names else "anything")
    questions = close_open(found, mapping.get("n_options", 4), mapping.get("redraw", False), seed)
    return check_distinct(choose_per_field(questions, mapping.get("per_field"), seed))


def _row_id(field: str, row: Row, form: RowFormat, where: str) -> str:
    """An id that depends on the content, so that files in another order give the same one."""
    value = form.value(row, "question", where)
    text = one_text(value, "question", where, QuestionsError, normalise)
    return f"{field}-{stable_number(0, text):016x}"


def _with_field(question: Question | OpenQuestion, field: str) -> Question | OpenQuestion:
    return replace(question, field=field)


def cloze_questions(
    rows: Iterable[tuple[str, Row]], mapping: Mapping[str, Any], seed: int
) -> list[Question]:
    """Questions from sentences with a gap; the field is the language.

    Of every relation, `per_relation` subjects are drawn by seed, first those that all languages
    have, so that languages ask for the same facts where the data allow it.

    Raises:
        QuestionsError: A column is missing, or no row fits.
    """
    facts = _cloze_facts(rows, mapping)
    _require_rows(facts, f"{mapping.get('keep', {})}")
    languages_of: dict[tuple[str, str], set[str]] = {}
    for language, relation, line in facts:
        languages_of.setdefault((relation, line), set()).add(language)
    groups: dict[tuple[str, str], list[str]] = {}
    for language, relation, line in facts:
        groups.setdefault((language, relation), []).append(line)
    chosen: set[tuple[str, str, str]] = set()
    for (language, relation), lines in groups.items():
        lines.sort(
            key=lambda line, relation=relation: (
                -len(languages_of[relation, line]),
                stable_number(seed, relation, line),
            )
        )
        chosen.update((language, relation, line) for line in lines[: mapping.get("per_relation")])
    # every right answer of a language is a wrong one for the others, also of facts not chosen
    closed = close_questions(
        [question for key, question in facts.items() if key in chosen],
        others=facts.values(),
        n_options=mapping.get("n_options", 4),
        redraw=mapping.get("redraw", False),
        seed=seed,
    )
    return check_distinct(closed)


def _cloze_facts(
    rows: Iterable[tuple[str, Row]], mapping: Mapping[str, Any]
) -> dict[tuple[str, str, str], OpenQuestion]:
    """(language, relation, line) -> open question; several objects of one subject are joined."""
    columns = mapping.get("columns", {})
    keep, gap = mapping.get("keep", {}), mapping.get("gap", {})
    slot = mapping.get("subject_slot", "[X]")
    lines: dict[tuple[str, str, str], tuple[str, str, str]] = {}
    facts: dict[tuple[str, str, str], OpenQuestion] = {}
    for where, row in rows:
        value = _cloze_values(row, columns, where)
        if any(value[name] not in allowed for name, allowed in keep.items()):
            continue
        if slot not in value["template"]:
            raise QuestionsError(
                f"a sentence without {slot}", where, "Set subject_slot in the mapping"
            )
        language, relation = value["language"], value["relation"]
        sentence = value["template"].replace(slot, value["subject"])
        key = lines.setdefault((language, relation, sentence), (language, relation, value["id"]))
        answers = facts[key].answers if key in facts else ()
        facts[key] = OpenQuestion(
            id=f"{relation}-{key[2]}@{language}",
            question="\n".join(filter(None, (sentence, gap.get(language)))),
            answers=tuple(dict.fromkeys((*answers, value["object"]))),
            field=language,
            language=language,
            relation=relation,
        )
    return facts


def _cloze_values(row: Row, columns: Mapping[str, str], where: str) -> dict[str, str]:
    names = ("id", "subject", "object", "template", "relation", "language")
    missing = [columns.get(name, name) for name in names if columns.get(name, name) not in row]
    if missing:
        raise QuestionsError(
            f"no column {', '.join(missing)}", where, f"Columns there: {', '.join(row) or 'none'}"
        )
    return {
        name: one_text(row[columns.get(name, name)], name, where, QuestionsError) for name in names
    }


def _require_rows(found: object, what: str) -> None:
    if not found:
        raise QuestionsError("no row of the source fits the mapping", what, "Check the source")
