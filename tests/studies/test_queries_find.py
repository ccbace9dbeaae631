"""Finding alone: the neurons that the effect study finds, and nothing edited."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from broca.questions import write_questions
from broca.run import execute, read_job
from broca.scores import QuerySets
from planted import planted_world
from planted_run import APPLICATIONS
from query_files import planted_questions


def test_found_neurons_are_the_fields_and_no_row_is_edited(tmp_path: Path) -> None:
    world = planted_world()
    questions = write_questions(planted_questions(world, 3), tmp_path / "questions.jsonl")
    job = read_job(
        {**APPLICATIONS, "studies": ["queries.find"], "questions": str(questions), "n_prompts": 1}
    )
    run = execute(job, tmp_path / "run", model=world.language_model(), report=False)
    rows = run.rows.read(columns=["intervention", "query"])
    assert set(rows.column("intervention").to_pylist()) == {"none"}
    sets = QuerySets.load(run.path / "sets" / "queries.parquet")
    assert set(pc.unique(rows["query"]).to_pylist()) == set(sets.queries)
    fields = {q.id: q.field for q in planted_questions(world, 3)}
    for query in sets.queries:
        own = set(sets.neurons(query))
        for field, planted in world.fields.items():
            assert bool(own & set(planted)) == (field == fields[query]), (query, field)
    words = run.read_json("findings.json")["queries.find"]["words"]
    assert words[0].startswith("The untouched model prefers the right letter")
