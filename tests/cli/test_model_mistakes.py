"""Models and forms of asking that do not go together end in words, before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapted import ATTENTION, lora
from broca.model import LanguageModel
from broca.run.choice_bench import ChoiceBench
from broca.store import RunFolder
from cli.refusals import Broca, refused
from query_files import rows, write_rows
from tiny import tiny_module, tiny_tokenizer


def test_an_adapter_of_another_model(broca: Broca, place: Path, tmp_path: Path):
    lora(ATTENTION, hidden_size=64).save_pretrained(str(tmp_path / "adapter"))
    recipe, out = place / "recipe.toml", ("--out", tmp_path / "run")
    adapter = f"adapter={tmp_path / 'adapter'}"
    refused(broca("run", recipe, "--set", adapter, *out), "another model")
    written = recipe.read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(f'adapter = "{tmp_path / "adapter"}"\n{written}', encoding="utf-8")
    refused(broca("run", own, *out), "another model")
    config = tmp_path / "adapter" / "adapter_config.json"
    text = config.read_text(encoding="utf-8")
    named = text.replace(
        '"base_model_name_or_path": null', f'"base_model_name_or_path": "{place / "model"}"'
    )
    assert named != text
    config.write_text(named, encoding="utf-8")
    for command in (("inspect",), ("neuron", "hidden:0:1"), ("ask", "Hello")):
        refused(broca(*command, "--model", tmp_path / "adapter"), "another model")


@pytest.mark.parametrize("command", ["run", "find"])
def test_more_demonstrations_than_facts(broca: Broca, place: Path, tmp_path: Path, command: str):
    asked = ("--form", "few-shot", "--shots", 500)
    if command == "run":
        outcome = broca("run", place / "recipe.toml", *asked, "--out", tmp_path / "run")
    else:
        outcome = _find(broca, place, tmp_path, *asked)
    refused(outcome, "too few to show 500", "shots")


@pytest.mark.parametrize("command", ["run", "find"])
def test_a_chat_without_template(broca: Broca, place: Path, tmp_path: Path, command: str):
    if command == "run":
        outcome = broca("run", place / "recipe.toml", "--form", "chat", "--out", tmp_path / "run")
    else:
        outcome = _find(broca, place, tmp_path, "--form", "chat")
    refused(outcome, "chat template")


def _find(broca: Broca, place: Path, tmp_path: Path, *asked: object) -> tuple[int, str, str]:
    facts = ("--facts", place / "facts" / "facts.jsonl")
    find = ("find", "relations", "--model", place / "model", *facts, "--out", tmp_path / "sets")
    settings = ("--set", "n_evaluation=10", "--set", "min_detection=4")
    return broca(*find, *settings, *asked)


def rounding(down: torch.nn.Module) -> None:
    """Round what comes in as 8-bit layers do: by the largest value, whatever else is there."""

    def round_together(module: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        unit = args[0].abs().max().clamp_min(1e-9) / 127
        return ((args[0] / unit).round() * unit,)

    down.register_forward_pre_hook(round_together)


@pytest.fixture
def eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is loaded as one whose layers round activations together."""
    load = LanguageModel.from_pretrained

    def quantised(*arguments: object, **options: object) -> LanguageModel:
        model = load(*arguments, **options)  # type: ignore[arg-type]
        model.module.config.quantization_config = {"quant_method": "bitsandbytes"}
        for layer in model.module.model.layers:
            rounding(layer.mlp.down_proj)
        return model

    monkeypatch.setattr(LanguageModel, "from_pretrained", quantised)


@pytest.mark.usefixtures("eight_bits")
@pytest.mark.parametrize("answer", ["letters", "auto"])
def test_what_cannot_be_attributed_is_refused_before_anything_is_asked(
    broca: Broca, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
):
    def asked(*arguments: object, **options: object) -> None:
        pytest.fail("queries were asked before the refusal")

    for name in ("find_letters", "find_words", "try_forms"):
        monkeypatch.setattr(ChoiceBench, name, asked)
    questions = write_rows(tmp_path / "q.jsonl", rows())
    tiny_module("llama").save_pretrained(tmp_path / "llama")
    tiny_tokenizer().save_pretrained(tmp_path / "llama")
    find = ("find", "queries", "--model", tmp_path / "llama", "--questions", questions)
    out = tmp_path / "out"
    outcome = broca(*find, "--answer", answer, "--out", out)
    refused(outcome, "cannot be attributed", "Load it without quantisation")
    with RunFolder.open(out) as folder:
        assert not folder.rows.read().num_rows
