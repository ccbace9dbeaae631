"""Runs that were damaged, edited or left: noticed, told, and computed again where needed."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import broca
from broca.cli import run_cli
from broca.errors import RunError
from broca.processes import this_process
from broca.prompts import Prompt
from broca.responses import record_responses
from broca.store import RunFolder, find_damage, list_runs
from broca.store.blocks import claim_block, damaged_blocks
from broca.store.damage import KEPT
from tiny import TEXTS, tiny_model

CONFIG = {"studies": ["relations.intra"], "k": 3}
VERSIONS = {"broca": "1", "torch": "2", "transformers": "5", "numpy": "2"}


def rows(key: str) -> list[dict[str, Any]]:
    return [{"condition": key, "prompt": f"p{i}", "log_p": -1.0} for i in range(300)]


def finish(path: Path, killed: Sequence[str] = ()) -> Path:
    """A small finished run, in which recordings into some folders were killed."""
    with RunFolder.begin(path, CONFIG) as run:
        run.write_environment({"model": "m", "fingerprint": "f", "versions": VERSIONS})
        for key in ("a", "b"):
            if key not in run.rows.finished():
                run.rows.append(rows(key))
        run.write_json("findings.json", {"words": []})
        run.write_json("attributions/x.json", [1])
        run.write_text("report.html", "<p>")
        for name in killed:
            (path / "responses" / name).mkdir(parents=True)
            (path / "responses" / name / "up.0.npy").write_bytes(b"half")
        run.finish()
    return path


def names(path: Path) -> set[str]:
    return {damage.name for damage in find_damage(path)}


def flip(file: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


def test_every_damaged_file_is_noticed_and_the_run_mended(tmp_path: Path) -> None:
    whole = finish(tmp_path / "whole")
    assert names(whole) == set()
    table = RunFolder.open(whole).rows.read()
    files = [f.relative_to(whole) for f in whole.rglob("*") if f.is_file()]
    assert len(files) == 7
    for number, name in enumerate(files):
        for how in ("removed", "emptied", "changed"):
            path = shutil.copytree(whole, tmp_path / f"{number}-{how}")
            file = path / name
            if how == "removed":
                if name.name == "manifest.json":
                    continue  # then the run is unfinished, and goes on
                file.unlink()
            elif how == "emptied":
                file.write_bytes(b"")
            else:
                flip(file)
            if name.name == "report.html" and how != "removed":
                continue  # may be drawn anew
            assert names(path) == {name.as_posix()}, (name, how)
            with pytest.raises(RunError, match="damaged"):
                RunFolder.open(path).require_whole() if name.name != "config.toml" else _check(path)
            finish(path)
            assert names(path) == set()
            assert RunFolder.open(path).rows.read().equals(table)


def _check(path: Path) -> None:
    assert run_cli(["check", str(path)]) == 1
    raise RunError("damaged")


def test_edited_settings_are_noticed(tmp_path: Path) -> None:
    path = finish(tmp_path / "run")
    config = path / "config.toml"
    config.write_text(config.read_text().replace("k = 3", "k = 4"))
    assert names(path) == {"config.toml"}
    with pytest.raises(RunError, match=r"k was 3, now 4"):
        RunFolder.begin(path, {**CONFIG, "k": 4})
    finish(path)
    assert "k = 3" in config.read_text()


def test_check_says_what_and_ls_lists_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = finish(tmp_path / "one"), finish(tmp_path / "other")
    assert run_cli(["check", str(one), str(other)]) == 0
    (one / "manifest.json").write_text("")
    for file in (other / "rows").iterdir():
        file.unlink()
    capsys.readouterr()
    assert run_cli(["check", str(one), str(other)]) == 1
    told = capsys.readouterr().out
    assert "manifest.json cannot be read" in told
    assert "is missing; computed again: the rows it held" in told
    assert {entry.path.name: entry.state for entry in list_runs(tmp_path)} == {
        "one": "damaged",
        "other": "damaged",
    }
    assert run_cli(["ls", str(tmp_path)]) == 0
    assert run_cli(["report", str(other)]) == 2
    assert "broca check" in capsys.readouterr().err
    assert run_cli(["check", str(tmp_path)]) == 2


def test_an_unfinished_run_drops_what_cannot_be_read(tmp_path: Path) -> None:
    with RunFolder.begin(tmp_path / "run", CONFIG) as run:
        part = run.rows.append(rows("a"))
        run.rows.append(rows("b"))
        run.write_json("attributions/x.json", [1])
    flip(part)
    (run.path / "attributions" / "x.json").write_text("[1")
    (run.path / "prompts.json").write_text("{")
    (run.path / "responses" / "killed").mkdir(parents=True)
    (run.path / "responses" / "killed" / "up.0.npy").write_bytes(b"x")
    with RunFolder.begin(tmp_path / "run", CONFIG) as again:
        assert {damage.name.partition("/")[0] for damage in again.mended} == {
            "rows", "attributions", "prompts.json"
        }  # fmt: skip
        assert again.rows.finished() == {"b"}
        again.add_prompts([{"id": "p"}])
        assert not (again.path / "responses" / "killed").exists()


def test_a_folder_in_which_nothing_was_computed_belongs_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with RunFolder.begin(path, CONFIG) as run:
        run.write_environment({"fingerprint": "f", "versions": VERSIONS})
        run.write_json("elapsed.json", {"seconds": 1})
    with RunFolder.begin(path, {**CONFIG, "k": 5}) as run:
        run.write_environment({"fingerprint": "other"})
        assert RunFolder.open(path).config["k"] == 5
        run.rows.append(rows("a"))
    with pytest.raises(RunError, match="other settings: k was 5, now 3"):
        RunFolder.begin(path, CONFIG)


def test_rows_of_other_versions_are_not_mixed_in_silently(tmp_path: Path) -> None:
    path = tmp_path / "run"
    about = {"fingerprint": "f", "versions": VERSIONS}
    newer = {**about, "versions": {**VERSIONS, "torch": "3", "numpy": "3"}}
    with RunFolder.begin(path, CONFIG) as run:
        run.write_environment(about)
        run.write_environment(newer)  # nothing was computed
        run.write_environment(about)
        run.rows.append(rows("a"))
    with RunFolder.begin(path, CONFIG) as run:
        with pytest.raises(RunError, match=r"torch 2, now 3.*--accept"):
            run.write_environment(newer)
        run.write_environment({**about, "versions": {**VERSIONS, "numpy": "3"}})
        run.write_environment(newer, accept_versions=True)
        assert run.environment["versions"]["torch"] == "3"
        assert run.environment["earlier"]


def test_another_device_is_named_and_not_refused(tmp_path: Path) -> None:
    path, about = tmp_path / "run", {"fingerprint": "f", "device": "cuda:0", "versions": VERSIONS}
    one, other = ({**about, "device_name": name} for name in ("H100", "H200"))
    with RunFolder.begin(path, CONFIG) as run:
        run.write_environment(one)
        run.rows.append(rows("a"))
    with RunFolder.begin(path, CONFIG) as run:
        run.write_environment(other)
        assert run.environment == {**other, "earlier": [one]}


# --- what killed processes leave ----------------------------------------------------------------

PARTS = (
    ".parts/KEY/shards/SHARD/finished.json",
    ".parts/KEY/whole/up.0.npy",
    ".parts/scores-KEY-0.npz",
    "editable/KEY.json",
)


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_results_count_as_computed(tmp_path: Path, name: str) -> None:
    path, about = tmp_path / "run", {"fingerprint": "f", "versions": VERSIONS}
    with RunFolder.begin(path, CONFIG) as run:
        run.write_environment(about)
        (path / name).parent.mkdir(parents=True)
        (path / name).write_text("{}")
    with RunFolder.begin(path, CONFIG) as run:
        with pytest.raises(RunError, match=r"torch 2, now 3.*--accept"):
            run.write_environment({**about, "versions": {**VERSIONS, "torch": "3"}})
        assert (path / name).exists()
    with pytest.raises(RunError, match="other settings: k was 3, now 5"):
        RunFolder.begin(path, {**CONFIG, "k": 5})


def test_parts_that_were_never_whole_are_deleted_when_others_begin(tmp_path: Path) -> None:
    path = tmp_path / "run"
    RunFolder.begin(path, CONFIG).close()
    half = path / ".parts" / "KEY" / "shards" / ".SHARD.writing-1" / "up.0.npy"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    with RunFolder.begin(path, {**CONFIG, "k": 5}):
        assert not (path / ".parts").exists()


def test_every_kind_of_value_is_known_to_be_computed() -> None:
    source = Path(broca.__file__).parent
    files = [file for name in ("run", "studies") for file in (source / name).rglob("*.py")]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    kinds = set(re.findall(r'\bkeep\(\s*"(\w+)"', code)) | {"letters", "words"}
    assert len(kinds) > 8
    assert kinds == set(KEPT)


def claim(path: Path, pid: int) -> Path:
    """What a process that computes a unit of a run leaves when it is killed."""
    file = path / ".claims" / "unit"
    file.parent.mkdir()
    file.write_text(json.dumps({**this_process(), "pid": pid}))
    return file


@pytest.mark.parametrize("living", [True, False])
def test_only_living_claims_stop_the_sweeping(tmp_path: Path, living: bool) -> None:
    """What is damaged is computed again in both cases."""
    path = tmp_path / "run"
    with RunFolder.begin(path, CONFIG) as run:
        part = run.rows.append(rows("a"))
        run.rows.append(rows("b"))
    flip(part)
    (path / "prompts.json").write_text("{")
    half = [path / "rows" / ".x.parquet.writing-1", path / "responses" / ".KEY.writing-1" / "up.0"]
    for file in half:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held = claim(path, os.getpid() if living else gone.pid)
    (path / ".claims" / f".clock-here-{gone.pid}").touch()
    with RunFolder.begin(path, CONFIG) as again:
        assert {one.name.partition("/")[0] for one in again.mended} == {"rows", "prompts.json"}
        assert again.rows.finished() == {"b"}
        assert [held.exists(), *(file.exists() for file in half)] == [living] * 3
        again.rows.append(rows("a"))
        held.unlink(missing_ok=True)
        again.finish()
    assert not list(path.rglob("*writing-*"))
    assert not (path / ".claims").exists()


def test_a_folder_in_which_a_living_process_computes_belongs_to_it(tmp_path: Path) -> None:
    path = tmp_path / "run"
    RunFolder.begin(path, CONFIG).close()
    held = claim(path, os.getpid())
    with pytest.raises(RunError, match="other settings"):
        RunFolder.begin(path, {**CONFIG, "k": 5})
    held.unlink()
    RunFolder.begin(path, {**CONFIG, "k": 5}).close()


def test_a_killed_recording_leaves_nothing_in_a_finished_run(tmp_path: Path) -> None:
    """Neither one of an earlier sitting nor one of a process that joined."""
    whole = RunFolder.open(finish(tmp_path / "whole"))
    broken = RunFolder.open(finish(tmp_path / "broken", killed=(".KEY.writing-1", "OLD")))

    def files(run: RunFolder) -> set[str]:
        found = (file for file in run.path.rglob("*") if file.is_file())
        return {file.relative_to(run.path).as_posix() for file in found}

    def listed(run: RunFolder) -> dict[str, Any]:
        return run.read_json("manifest.json")["files"]

    assert files(broken) == files(whole)
    assert listed(broken) == listed(whole)


# --- space on the disk -------------------------------------------------------------------------


@contextmanager
def small_disk(n_bytes: int) -> Iterator[None]:
    """No file may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_a_sentence_and_the_recording_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts = (
        tiny_model("llama"),
        [Prompt(str(n), text, ("x",)) for n, text in enumerate(TEXTS)],
    )
    expected = record_responses(model, prompts, ("up",))
    with small_disk(256), pytest.raises(RunError, match=r"no space for .* MiB.*--out"):
        record_responses(model, prompts, ("up",), folder=tmp_path)
    assert not list(tmp_path.rglob("*.npy"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(RunError, match="No space left"):
            record_responses(model, prompts, ("up",), folder=tmp_path)
    found = record_responses(model, prompts, ("up",), folder=tmp_path)
    np.testing.assert_array_equal(found.block("up", 0), expected.block("up", 0))


@pytest.mark.parametrize("claims", [True, False])
def test_space_is_really_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claims: bool
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    if not claims:
        monkeypatch.setattr(os, "posix_fallocate", unknown)
    path = tmp_path / "block.npy"
    block = claim_block(path, (300, 1000))
    assert block.shape == (300, 1000)
    assert os.stat(path).st_blocks * 512 >= 4 * block.size


def test_damaged_responses_are_recorded_again(tmp_path: Path) -> None:
    model, prompts = (
        tiny_model("llama"),
        [Prompt(str(n), text, ("x",)) for n, text in enumerate(TEXTS)],
    )
    first = record_responses(model, prompts, ("up",), folder=tmp_path)
    expected = np.array(first.block("up", 1))
    assert first.folder is not None
    assert damaged_blocks(first.folder) == []
    file = first.folder / "up.1.npy"
    flip(file)
    assert damaged_blocks(first.folder) == ["up.1.npy"]
    for damage in (lambda: file.write_bytes(b"\x93NUMPY"), file.unlink):
        damage()
        again = record_responses(model, prompts, ("up",), folder=tmp_path)
        np.testing.assert_array_equal(again.block("up", 1), expected)
    for text in ("", "{}", "[]", json.dumps({"blocks": 3})):
        (first.folder / "finished.json").write_text(text)
        again = record_responses(model, prompts, ("up",), folder=tmp_path)
        np.testing.assert_array_equal(again.block("up", 1), expected)
