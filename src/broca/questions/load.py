"""Questions from files or from the embedded facts: `load_questions`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from broca.errors import QuestionsError
from broca.facts import Relation, Relations, load_relations
from broca.facts.load import load_those_in
from broca.facts.reading import read_json, read_rows
from broca.facts.shipped import SHIPPED

from .asked import read_asked
from .build import Distractors, OpenQuestion, build_questions, close_questions
from .question import Question, check_distinct, choose_per_field
from .rows import Columns, RowFormat, questions_from_rows
from .which import AnswerKind
from .wordings import load_wordings

FORMATS = 'Give a .json file of ready-made prompts, a .jsonl, .csv or .tsv file, "lre" or "atlas"'


def load_questions(
    source: str | Path,
    *,
    languages: Iterable[str] | None = None,
    fields: Iterable[str] | None = None,
    per_field: int | None = None,
    columns: Columns | None = None,
    answer_kind: AnswerKind = "auto",
    n_options: int = 4,
    distractors: Distractors = "relation",
    redraw: bool = False,
    seed: int = 0,
) -> list[Question]:
    """Load questions; those without options get wrong answers of their field.

    Args:
        source: "atlas" (from the embedded facts, in wordings the embedded model was trained on);
            "lre" (from the facts of LRE, a field per relation); a `.json` file of ready-made
            prompts as the query paper released them; a JSONL, CSV or TSV file with the columns
            question, answer, field and optionally options, language, id, relation, labels,
            distractors.
        languages: Only these; for "atlas" and "lre" English unless given.
        fields: Only these.
        per_field: At most so many per field and language, drawn by seed.
        columns: Our column name -> the file's. `options` may name one column per option.
        answer_kind: How a file gives the answer: "text", "label", "index" (a position from 0),
            "index-from-1", or "auto": the one that fits the whole file.
        n_options: Options of questions that have none yet.
        distractors: For "atlas" and "lre": wrong options of the same relation or of the same
            "subject".
        redraw: Every prompt of a question without options draws its own wrong ones.
        seed: Draws options and questions.

    Raises:
        QuestionsError: The source cannot be read or used, or nothing is left of it.
        FactsError: The embedded facts lack a language.
    """
    if isinstance(languages, str):
        languages = [languages]
    if isinstance(fields, str):
        fields = [fields]
    if source in SHIPPED:
        make = _from_atlas if source == "atlas" else _from_lre
        questions = [
            question
            for language in languages or ("en",)
            for question in make(language, n_options, distractors, redraw, seed)
        ]
    else:
        form = RowFormat(columns or {}, answer_kind)
        questions = close_open(_read(Path(source), form), n_options, redraw, seed)
    questions = _only(questions, "field", fields)
    questions = _only(questions, "language", languages)
    return check_distinct(choose_per_field(questions, per_field, seed))


def close_open(
    questions: Iterable[Question | OpenQuestion], n_options: int, redraw: bool, seed: int
) -> list[Question]:
    """Options for the open ones among the questions; the order stays."""
    kept = list(questions)
    still_open = [q for q in kept if isinstance(q, OpenQuestion)]
    closed = iter(close_questions(still_open, n_options=n_options, redraw=redraw, seed=seed))
    return [next(closed) if isinstance(q, OpenQuestion) else q for q in kept]


def _from_atlas(
    language: str, n_options: int, distractors: Distractors, redraw: bool, seed: int
) -> list[Question]:
    trained = {
        name: tuple(wording for wording in wordings if wording.trained)
        for name, wordings in load_wordings("atlas").items()
    }
    return build_questions(
        load_relations("atlas", language=language),
        n_options=n_options,
        distractors=distractors,
        redraw=redraw,
        wordings=trained,
        seed=seed,
    )


def _from_lre(
    language: str, n_options: int, distractors: Distractors, redraw: bool, seed: int
) -> list[Question]:
    relations = load_those_in("lre", language)
    # a relation with fewer objects than options (men, women) makes no question
    wide = [r for r in relations.values() if _n_wrong(r) >= n_options - 1]
    questions = build_questions(
        Relations([_as_questions(relation) for relation in wide]),
        n_options=n_options,
        distractors=distractors,
        redraw=redraw,
        seed=seed,
    )
    return [replace(question, field=question.relation) for question in questions]


def _n_wrong(relation: Relation) -> int:
    """Wrong options that every fact of a relation has at least."""
    objects = {o for fact in relation.facts for o in fact.objects}
    return len(objects) - max(len(fact.objects) for fact in relation.facts)


def _as_questions(relation: Relation) -> Relation:
    """A relation with its wordings that are questions, where it has some."""
    asked = tuple(w for w in relation.wordings() if w.rstrip()[-1:] in "?？؟")
    return replace(relation, templates={"finding": asked or relation.wordings()})


def _read(path: Path, form: RowFormat) -> list[Question | OpenQuestion]:
    if path.is_dir() or not path.exists():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise QuestionsError(what, str(path), FORMATS)
    if path.suffix == ".json":
        document, text = read_json(path, QuestionsError)
        if not isinstance(document, dict):
            raise QuestionsError("not an object of queries", str(path), FORMATS)
        return [*read_asked(document, text, str(path))]
    if path.suffix not in (".jsonl", ".csv", ".tsv"):
        raise QuestionsError(f"files of kind {path.suffix!r} are not known", str(path), FORMATS)
    rows = enumerate(read_rows(path, QuestionsError), start=1)
    return questions_from_rows(
        ((where, f"{path.stem}-{number:04d}", row) for number, (where, row) in rows), form
    )


def _only(questions: list[Question], name: str, wanted: Iterable[str] | None) -> list[Question]:
    if wanted is None:
        return questions
    wanted = list(wanted)
    known = dict.fromkeys(getattr(question, name) for question in questions)
    unknown = [value for value in wanted if value not in known]
    if unknown:
        raise QuestionsError(
            f"no questions with {name} {', '.join(unknown)}", mend=f"There are: {', '.join(known)}"
        )
    return [question for question in questions if getattr(question, name) in wanted]
