"""Run folders: round trips, refusals, what is listed and checked."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broca.errors import RunError
from broca.store import (
    ROW_SCHEMA,
    RunFolder,
    canonical_json,
    condition_key,
    flat_summary,
    is_run,
    list_runs,
    summary_key,
    write_toml,
)
from store_rows import CONFIG, row


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", CONFIG)


# -- keys ---------------------------------------------------------------------------------------


def test_condition_key_is_stable() -> None:
    # Written out: a change of this value makes every stored run useless for resuming.
    assert condition_key({"b": [1, 2.0], "a": None}) == "ee743f2fa2570a1b5e3270cc405d0456"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(), plain, max_size=4), st.randoms())
def test_condition_key_ignores_the_order_of_keys(value: dict[str, Any], rng: random.Random) -> None:
    items = list(value.items())
    rng.shuffle(items)
    assert condition_key(dict(items)) == condition_key(value)


def test_equal_numbers_and_sequences_have_equal_keys() -> None:
    assert condition_key({"factor": 2.0, "k": (1, 2)}) == condition_key({"factor": 2, "k": [1, 2]})
    assert condition_key({"factor": 2.5}) != condition_key({"factor": 2})
    assert condition_key({"flag": True}) != condition_key({"flag": 1})


@pytest.mark.parametrize(("value", "error"), [(math.nan, ValueError), (object(), TypeError)])
def test_values_without_a_canonical_form_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        canonical_json({"value": value})


# -- TOML ---------------------------------------------------------------------------------------

toml_leaf = (
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)  # fmt: skip
toml_value = st.recursive(
    toml_leaf | st.lists(toml_leaf, max_size=3),
    lambda inner: st.dictionaries(st.text("ab.ä \"'\n", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("ab.ä \"'\n", max_size=4), toml_value, max_size=4))
def test_toml_reads_back_equal(values: dict[str, Any]) -> None:
    assert tomllib.loads(write_toml(values)) == values


def test_toml_leaves_out_nothing_and_refuses_the_unplain() -> None:
    assert tomllib.loads(write_toml({"a": None, "b": (1, {"c": Path("x")})})) == {
        "b": [1, {"c": "x"}]
    }
    with pytest.raises(TypeError):
        write_toml({"a": [None]})


# -- beginning ----------------------------------------------------------------------------------


def test_a_new_run_can_be_opened_and_resumed(tmp_path: Path) -> None:
    with RunFolder.begin(tmp_path / "deep" / "run", {**CONFIG, "nothing": None}) as run:
        assert run.config == CONFIG
    assert RunFolder.open(run.path).config == CONFIG
    assert RunFolder.begin(run.path, CONFIG).config == CONFIG
    assert not RunFolder.open(run.path).finished


def test_an_unfinished_run_is_not_created_over(run: RunFolder) -> None:
    run.rows.append([row("a", 1)])
    with pytest.raises(RunError, match="unfinished run"):
        RunFolder.create(run.path, CONFIG)


@pytest.mark.parametrize("begin", [RunFolder.create, RunFolder.resume, RunFolder.begin])
def test_a_finished_run_is_refused(run: RunFolder, begin: Any) -> None:
    run.finish()
    with pytest.raises(RunError, match=r"finished.*another folder"):
        begin(run.path, CONFIG)


def test_other_settings_are_refused_by_name(run: RunFolder) -> None:
    changed = {**CONFIG, "ladder": {"steps": [1, 2, 8]}, "seed": 1}
    with pytest.raises(RunError, match=r"ladder\.steps was \[1, 2, 4\], now \[1, 2, 8\].*seed"):
        RunFolder.resume(run.path, changed)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for begin in (RunFolder.create, RunFolder.begin):
        with pytest.raises(RunError, match=r"something else \(thesis.txt"):
            begin(tmp_path, CONFIG)
    (tmp_path / "config.toml").write_text("k = 1")  # a config, but not of a run
    with pytest.raises(RunError, match="something else"):
        RunFolder.begin(tmp_path, CONFIG)
    for read in (RunFolder.open, lambda path: RunFolder.resume(path, CONFIG)):
        with pytest.raises(RunError, match="no run folder"):
            read(tmp_path)


def test_an_unwritable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--out"):
        RunFolder.create(tmp_path / "file", CONFIG)
    with pytest.raises(RunError, match=r"cannot write to this folder.*--out"):
        RunFolder.create(tmp_path / "file" / "run", CONFIG)

    def refuse(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match="Permission denied"):
        RunFolder.create(tmp_path / "run", CONFIG)


def test_a_second_process_may_not_write_the_same_run(run: RunFolder) -> None:
    code = "import sys; from broca.store import RunFolder; RunFolder.resume(sys.argv[1], {config})"
    command = [sys.executable, "-c", code.replace("{config}", repr(CONFIG)), str(run.path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another process is writing this run" in refused.stderr
    run.close()
    subprocess.run(command, check=True)


# -- the small files ----------------------------------------------------------------------------


def test_environment_keeps_earlier_ones_and_refuses_other_weights(run: RunFolder) -> None:
    first = {"fingerprint": "abc", "versions": {"torch": "1"}}
    run.write_environment(first)
    run.write_environment(first)
    assert run.environment == first
    second = {"fingerprint": "abc", "versions": {"torch": "2"}}
    run.write_environment(second)
    assert run.environment == {**second, "earlier": [first]}
    run.write_environment(second)
    assert run.environment == {**second, "earlier": [first]}
    with pytest.raises(RunError, match="other weights"):
        run.write_environment({"fingerprint": "xyz"})


@dataclass(frozen=True)
class Note:
    id: str
    text: str
    answers: tuple[str, ...] = ()


def test_prompts_gather(run: RunFolder) -> None:
    run.add_prompts([Note("a", "Who?", ("X", "Y"))])
    run.add_prompts([{"id": "b", "text": "日本?"}, Note("a", "Who?", ("X", "Y"))])
    assert run.prompts() == {
        "a": {"text": "Who?", "answers": ["X", "Y"]},
        "b": {"text": "日本?"},
    }


class PlainSet:
    name = "company_ceo"

    def save(self, path: Path) -> None:
        path.write_text('{"neurons": 3}')


def test_sets_are_stored_by_name(run: RunFolder) -> None:
    assert run.save_set(PlainSet()) == run.set_path("company_ceo")
    run.save_set(PlainSet(), name="matched 1 of company_ceo")
    assert run.set_names() == ["company_ceo", "matched 1 of company_ceo"]
    hard = ["../x", ".hidden", "Company_ceo", "a/b", "a\\b", "CON", "x" * 300]
    for name in hard:
        run.save_set(PlainSet(), name=name)
    assert set(run.set_names()) == {"company_ceo", "matched 1 of company_ceo", *hard}
    assert all(run.set_path(name).is_file() for name in hard)
    with pytest.raises(RunError, match="empty"):
        run.save_set(PlainSet(), name="")


def test_summary_is_flat_and_finite(run: RunFolder) -> None:
    figures = {
        "effect": {"own": np.float64(0.5), "n": np.int64(3), "drop": math.nan},
        "pcr": math.inf,
        "seconds": None,
    }
    run.write_summary(figures)
    assert run.summary == {
        "effect.own": 0.5, "effect.n": 3, "effect.drop": None, "pcr": None, "seconds": None
    }  # fmt: skip
    assert summary_key("queries", "NA-ICA", "high school.biology") == (
        "queries.NA-ICA.high_school_biology"
    )


@pytest.mark.parametrize(
    ("figures", "error"),
    [
        ({"a": "text"}, TypeError),
        ({"a": True}, TypeError),
        ({"a b": 1}, ValueError),
        ({"a..b": 1}, ValueError),
        ({"a": {"b": 1}, "a.b": 2}, ValueError),
    ],
)
def test_malformed_figures_are_refused(figures: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        flat_summary(figures)


# -- finishing ----------------------------------------------------------------------------------


def test_the_manifest_lists_and_checks_what_is_there(run: RunFolder) -> None:
    run.rows.append([row("a", 1)])
    run.rows.append([row("b", 1)])
    run.write_summary({"seconds": 2})
    run.write_text("report.html", "<p>")
    (run.path / "responses").mkdir()
    (run.path / "responses" / "hidden-00.npy").write_bytes(b"123")
    run.finish()
    manifest = run.read_json("manifest.json")
    assert manifest["rows"] == 2
    assert manifest["files"]["responses/hidden-00.npy"] == {"bytes": 3}
    assert {"config.toml", "summary.json", "report.html"} < manifest["files"].keys()
    assert sum("rows" in entry for entry in manifest["files"].values()) == 1
    assert not list(run.path.rglob(".*"))
    assert run.check() == []
    (run.path / "report.html").write_text("<b>drawn anew")
    assert run.check() == []
    (run.path / "summary.json").write_text("{}")
    (run.path / "report.html").unlink()
    assert run.check() == ["report.html", "summary.json"]


def test_runs_are_listed(tmp_path: Path) -> None:
    one = RunFolder.create(tmp_path / "a" / "one", CONFIG)
    one.rows.append([row("a", 1)])
    one.write_summary({"seconds": 1.5})
    one.finish()
    two = RunFolder.create(tmp_path / "two", {"studies": ["x", "y"]})
    two.write_environment({"model": "tiny"})
    (tmp_path / "other").mkdir()
    entries = {entry.path.name: entry for entry in list_runs(tmp_path)}
    assert entries.keys() == {"one", "two"}
    assert (entries["one"].state, entries["one"].rows, entries["one"].seconds) == (
        "finished",
        1,
        1.5,
    )
    assert (entries["two"].state, entries["two"].rows) == ("unfinished", None)
    assert (entries["two"].study, entries["two"].model) == ("x, y", "tiny")
    assert list_runs(one.path)[0].path == one.path
    assert list_runs(tmp_path / "nowhere") == []
    assert is_run(one.path)
    assert not is_run(tmp_path)


def test_runs_are_listed_while_files_come_and_go(run: RunFolder) -> None:
    """A link to nothing stands for a file that has gone between the look and the question."""
    (run.path / ".progress.json.writing-1").symlink_to(run.path / "gone")
    (run.path.parent / "gone").symlink_to(run.path.parent / "nowhere")
    (entry,) = list_runs(run.path.parent)
    assert entry.changed > 0


def test_the_store_loads_no_torch() -> None:
    code = "import sys, broca.store, broca.recipes; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_on_files_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    assert [name for name in ROW_SCHEMA.names if f"`{name}`" not in text] == []
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert names["table"].num_rows == 1
