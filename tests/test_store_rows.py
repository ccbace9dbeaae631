"""Rows of a run: round trips, refusals, and what a kill can do to them."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broca.errors import RunError
from broca.store import (
    ROW_SCHEMA,
    RowFolder,
    RunFolder,
    rows_table,
)
from store_rows import CONFIG, row


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", CONFIG)


def test_rows_read_back_equal(run: RunFolder) -> None:
    rows = [row("b", 2), row("a", 1, log_p=None, ids=None, text="日本\n", seed=3, factor=0.1)]
    part = run.rows.append(rows)
    read = run.rows.read()
    assert read.schema.equals(ROW_SCHEMA)
    assert read.equals(rows_table([rows[1], rows[0]]))
    assert run.rows.finished() == {"a", "b"}
    assert pq.read_table(part).num_rows == 2  # any Parquet reader will do


def test_empty_conditions_can_be_finished(run: RunFolder) -> None:
    run.rows.append([], finished=["a", "b"])
    assert RowFolder(run.rows.path).finished() == {"a", "b"}
    assert run.rows.read().num_rows == 0


@settings(max_examples=25, deadline=None)
@given(
    cut=st.lists(st.integers(0, 6), max_size=4),
    order=st.permutations(range(6)),
    again=st.sets(st.integers(0, 5)),
)
def test_reading_does_not_depend_on_the_order_of_computation(
    tmp_path_factory: pytest.TempPathFactory, cut: list[int], order: list[int], again: set[int]
) -> None:
    rows = {f"c{key}": [row(f"c{key}", prompt) for prompt in range(3)] for key in range(6)}
    straight = RowFolder(tmp_path_factory.mktemp("straight"))
    straight.append([each for key in rows for each in rows[key]])

    mixed = RowFolder(tmp_path_factory.mktemp("mixed"))
    borders = [0, *sorted(cut), 6]
    for start, end in pairwise(borders):
        mixed.append([each for key in order[start:end] for each in reversed(rows[f"c{key}"])])
    mixed.append([each for key in again for each in rows[f"c{key}"]])

    reread = RowFolder(mixed.path)
    assert reread.read().equals(straight.read())
    assert reread.finished() == straight.finished()
    assert reread.count() == 18
    reread.compact()
    assert len(list(mixed.path.glob("*.parquet"))) == 1
    assert RowFolder(mixed.path).read().equals(straight.read())
    assert reread.count() == 18


def test_rows_can_be_chosen(run: RunFolder) -> None:
    run.rows.append([row("a", 1), row("b", 1, study="other"), row("c", 1)])
    assert run.rows.read(conditions=["a", "b"])["condition"].to_pylist() == ["a", "b"]
    assert run.rows.read(study="other")["condition"].to_pylist() == ["b"]
    assert run.rows.read(columns=["log_p"]).column_names == ["log_p"]


@pytest.mark.parametrize(
    "rows",
    [
        [row("a", 1), row("a", 1)],
        [row("b", 1)],
        [row("a", 1, unknown=1)],
        [{"condition": "a"}],
    ],
)
def test_malformed_rows_are_refused(run: RunFolder, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError):
        run.rows.append(rows, finished=["a"])
    assert not run.rows.finished()


def test_a_broken_part_is_named(run: RunFolder) -> None:
    part = run.rows.append([row("a", 1)])
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(RunError, match="Delete it and resume"):
        RowFolder(run.rows.path).finished()


def test_leftovers_of_a_killed_write_are_ignored_and_swept(run: RunFolder) -> None:
    part = run.rows.append([row("a", 1)])
    leftover = part.with_name(f".{part.name}.writing-123")
    leftover.write_bytes(b"half")
    assert RowFolder(run.rows.path).finished() == {"a"}
    resumed = RunFolder.resume(run.path, CONFIG)
    assert not leftover.exists()
    assert resumed.rows.finished() == {"a"}


WRITER = """
import sys
from broca.store import RunFolder
run = RunFolder.begin(sys.argv[1], {"k": 1})
done = run.rows.finished()
for c in range(40):
    if f"c{c}" not in done:
        run.rows.append([{"condition": f"c{c}", "prompt": f"p{i}", "log_p": -float(i)}
                         for i in range(200)])
        print(c, flush=True)
run.finish()
"""


def test_a_run_killed_at_any_moment_resumes_to_the_same_rows(tmp_path: Path) -> None:
    rng = random.Random(0)
    kills = 0
    for _ in range(60):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "run")], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(rng.randrange(12, 20)):
            writer.stdout.readline()
        if kills < 3:
            time.sleep(rng.random() * 0.01)
            writer.send_signal(signal.SIGKILL)
            kills += 1
        writer.stdout.read()
        writer.stdout.close()
        if writer.wait() == 0:
            break
    run = RunFolder.open(tmp_path / "run")
    assert run.finished
    assert run.check() == []
    expected = [
        {"condition": f"c{c}", "prompt": f"p{i}", "log_p": -float(i)}
        for c in range(40)
        for i in range(200)
    ]
    straight = RowFolder(tmp_path / "straight")
    straight.append(expected)
    assert run.rows.read().equals(straight.read())
