"""Runs that were damaged, edited or left: noticed, told, and computed again where needed."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broca.cli import run_cli
from broca.errors import RunError
from broca.prompts import Prompt
from broca.responses import record_responses
from broca.store import RunFolder, find_damage, list_runs
from broca.store.blocks import claim_block, damaged_blocks
from tiny import TEXTS, tiny_model

CONFIG = {"studies": ["relations.intra"], "k": 3}
VERSIONS = {"broca": "1", "torch": "2", "transformers": "5", "numpy": "2"}


def rows(key: str) -> list[dict[str, Any]]:
    return [{"condition": key, "prompt": f"p{i}", "log_p": -1.0} for i in range(300)]


def finish(path: Path) -> Path:
    """A small finished run."""
    with RunFolder.begin(path, CONFIG) as run:
        run.write_environment({"model": "m", "fingerprint": "f", "versions": VERSIONS})
        for key in ("a", "b"):
            if key not in run.rows.finished():
                run.rows.append(rows(key))
        run.write_json("findings.json", {"words": []})
        run.write_json("attributions/x.json", [1])
        run.write_text("report.html", "<p>")
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
