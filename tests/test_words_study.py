"""Query studies in words on the planted model: what was planted is found and bites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broca.errors import FactsError, QuestionsError
from broca.model import LanguageModel
from broca.report.parts import figure
from broca.report.runs import write_report
from broca.run import execute, read_job
from broca.run.dry import dry_run
from broca.scores import QuerySets
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig
from broca.studies.queries.attributing import portions
from broca.studies.queries.facts import read_word_queries
from broca.studies.queries.screening import Screened, keep_known
from planted import planted_world
from planted_files import write_planted_facts

SVG = "http://www.w3.org/2000/svg"
SETTINGS: dict[str, Any] = {
    "studies": [
        "queries.effect",
        "queries.flips",
        "queries.prediction",
        "queries.localisation",
        "queries.overlap",
        "queries.embedding",
        "queries.common",
    ],
    "answer": "words",
    "form": "question",
    "per_field": 4,
    "n_asked": 8,
    "n_prompts": 1,
    "n_unrelated": 1,
    "n_same": 2,
    "n_matched": 2,
    "methods": ["na-ica", "na", "random"],
    "n_resamples": 200,
    "n_permutations": 200,
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted_facts(tmp_path_factory.mktemp("facts"))


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return planted_world().language_model()


@pytest.fixture(scope="module")
def run(facts: Path, model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    job = read_job({**SETTINGS, "facts": str(facts)})
    return execute(job, tmp_path_factory.mktemp("words") / "run", model=model, report=False)


def tables(run: RunFolder, study: str = "queries.effect") -> dict[str, list[dict[str, Any]]]:
    return run.read_json("findings.json")[study]["tables"]


def test_each_query_finds_the_neurons_of_its_relation_and_the_one_that_speaks_its_object(
    run: RunFolder,
) -> None:
    world = planted_world()
    sets = QuerySets.load(run.path / "sets" / "queries.parquet")
    spoken = of_relation = 0
    for record in tables(run)["queries"]:
        found = set(sets.neurons(record["query"]))
        planted = set(world.planted[record["field"]])
        # a fact that survives four of its relation's neurons off owes little to each
        of_relation += bool(found & planted)
        assert len(found - planted - set(world.readers.values())) <= 2
        spoken += world.readers[record["field"], record["answer"]] in found
    assert spoken >= 0.9 * len(sets.queries)
    assert of_relation >= 0.6 * len(sets.queries)


def test_own_neurons_hurt_the_answer_and_its_field_and_others_and_random_ones_do_not(
    run: RunFolder,
) -> None:
    figures = run.summary
    own = "queries.na-ica.suppress"
    assert figures["queries.in_words"] == 1
    assert figures[f"{own}.related.high"] < -0.8
    # relations' neurons serve the whole field, the neuron that speaks an object one answer alone
    assert figures[f"{own}.same"] < -0.3
    assert abs(figures[f"{own}.unrelated"]) < 0.15
    assert abs(figures[f"{own}.matched"]) < 0.05
    assert figures[f"{own}.p_matched"] < 0.01
    assert abs(figures["queries.random.suppress.related"]) < 0.1


def test_rows_are_those_of_whole_answers(run: RunFolder) -> None:
    table = run.rows.read().to_pylist()
    assert {row["n_answer_tokens"] for row in table} == {1, 2}
    assert all(row["correct_before"] for row in table)
    off = [r for r in table if r["method"] == "na-ica" and r["factor"] == 0 and not r["control"]]
    assert any(not row["correct"] for row in off)


def test_suppressed_answers_turn_wrong_and_random_ones_do_not(run: RunFolder) -> None:
    figures = run.summary
    assert figures["queries.flips.na-ica.suppress.rate"] > 0.8
    assert figures["queries.flips.na-ica.suppress.matched"] < 0.05
    assert figures["queries.flips.na-ica.boost.candidates"] == 0  # only right ones are kept


def test_prediction_offers_the_answers_of_the_field(run: RunFolder) -> None:
    world, found = planted_world(), tables(run, "queries.prediction")
    assert run.summary["queries.prediction.model"] == 1.0  # the model knows its facts
    for record in found["queries"]:
        relation = record["field"]
        assert record["answer"] in {o for f in world.facts_of(relation) for o in f.objects}


def test_denominators_tell_all_that_was_asked(run: RunFolder) -> None:
    whole, *fields = tables(run)["accuracy"]
    assert whole["n"] == sum(one["n"] for one in fields) == 8 * len(fields)
    assert whole["kept"] == sum(one["kept"] for one in fields)
    country = next(one for one in fields if one["field"] == "country")
    assert country["accuracy"] < 1  # a quarter of its facts is answered wrongly
    words = " ".join(run.read_json("findings.json")["queries.effect"]["words"])
    assert "Asked in words" in words
    assert "kept" in words


def test_answer_and_form_are_part_of_what_is_resumed(facts: Path, model: LanguageModel) -> None:
    def determinants(**changes: Any) -> Any:
        config = QueriesConfig(**{"facts": str(facts), "n_asked": 2, **changes})
        read = read_word_queries(config, "field", model, config.form or "question")
        from broca.choices import find_words

        asked: dict[str, list[Any]] = {}
        flat = [p for listed in read.prompts.values() for p in listed][:4]
        for one in find_words(model, flat):
            asked.setdefault(one.prompt.fact, []).append(one)
        return [part.determinants() for part in portions(asked, {}, config)]

    plain = determinants(form="question")
    assert plain == determinants(form="question")
    assert plain != determinants(form="cloze")
    assert determinants(form="few-shot", shots=2) != determinants(form="few-shot", shots=3)


def test_prompts_are_wordings_then_other_demonstrations(facts: Path, model: LanguageModel) -> None:
    config = QueriesConfig(
        facts=str(facts), fields=("father", "ceo"), n_prompts=5, n_asked=3, form="few-shot", shots=2
    )
    read = read_word_queries(config, "field", model, "few-shot")
    assert len(read.questions) == 6
    asked = {q.split("/")[1].split("@")[0] for q in read.questions}
    for query, prompts in read.prompts.items():
        assert len({p.id for p in prompts}) == len({p.text for p in prompts}) == 5
        assert {p.fact for p in prompts} == {query}
        assert len({p.template for p in prompts}) == 4  # there are no more wordings
        for prompt in prompts:
            shown = prompt.text[: prompt.asked_span[0]]
            assert not any(subject in shown for subject in asked)
    bare = read_word_queries(config, "field", model, "question")
    assert {len(prompts) for prompts in bare.prompts.values()} == {4}
    assert {q.field for q in read.questions.values()} == {"father", "ceo"}


def test_fields_may_be_domains(facts: Path, model: LanguageModel) -> None:
    config = QueriesConfig(facts=str(facts), n_asked=2, n_prompts=1, fields_are="domain")
    read = read_word_queries(config, "field", model, "question")
    assert {q.field for q in read.questions.values()} == set(planted_world().fields) or {
        q.field for q in read.questions.values()
    } >= {"father"}


def test_mistakes_are_told(facts: Path, model: LanguageModel, tmp_path: Path) -> None:
    config = QueriesConfig(facts=str(facts), fields=("nothing",))
    with pytest.raises(FactsError, match="no facts are left"):
        read_word_queries(config, "field", model, "question")
    with pytest.raises(QuestionsError, match="two languages"):
        read_word_queries(QueriesConfig(facts=str(facts)), "language", model, "question")
    job = read_job({**SETTINGS, "facts": str(facts), "min_right": 30})
    with pytest.raises(QuestionsError, match="rightly: no field"):
        execute(job, tmp_path / "run", model=model, report=False)


def test_a_page_leads_with_own_same_other_and_random(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # charts are made and checked; drawing them is the renderer's work
    monkeypatch.setattr(figure.vlc, "vegalite_to_svg", lambda chart: f"<svg xmlns='{SVG}'/>")
    monkeypatch.setattr(figure.Figure, "file", lambda self, kind: b"drawn")
    page = write_report([run], tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (
        "Do query neurons carry their answer in words",
        "others of the same field",
        "random neurons, own answer",
        "right answers",
        "Probability of the right answer",
    ):
        assert text in page, text
    assert "right letter" not in page


def test_a_dry_run_counts_what_words_need(facts: Path, model: LanguageModel) -> None:
    job = read_job({**SETTINGS, "studies": ["queries.effect"], "facts": str(facts)})
    found = dry_run(job, model)
    assert {"asking in words", "measuring answers in words", "attributing answers in words"} <= set(
        found.parts
    )
    assert found.attributed == 8 * 4  # four queries of eight relations, one prompt each


def test_fields_known_best_are_kept_and_others_told_why() -> None:
    rights = {"few": 4, "half": 5, "most": 9, "well": 8}  # of ten each, five kept at most
    screened = [
        Screened(f"{field}{i}", field, f"{field}{i}", float(i < right), 0.0)
        for field, right in rights.items()
        for i in range(10)
    ]
    questions: dict = {one.query: None for one in screened}
    config = QueriesConfig(answer="words", per_field=5, min_right=5, max_fields=2)
    kept, left_out = keep_known(config, "field", "words", questions, screened)
    assert kept == [f"{field}{i}" for field in ("most", "well") for i in range(5)]
    assert left_out == {
        "few": "4 of 10 queries are answered rightly, fewer than 5",
        "half": "50% of its queries are answered rightly: 2 others are known as well or better "
        "(max_fields)",
    }
