"""Both papers' studies run to their page on a mixture of experts and on a hybrid, from a folder."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import transformers

from broca.model.families import build_tiny
from broca.run import execute
from engine_parts import small_job

ATLAS = str(resources.files("broca") / "atlas")
COVERAGE = {"olmoe": None, "nemotron_h": "2 of 4 layers. The other layers have no MLP."}


@pytest.fixture(scope="module", params=list(COVERAGE))
def saved(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A random model with atlas's tokenizer, as ``save_pretrained`` writes it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(ATLAS)
    folder = tmp_path_factory.mktemp("saved") / request.param
    build_tiny(
        request.param,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return request.param, folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["effect", "queries"])
def test_studies_run_to_their_page(saved: tuple[str, Path], kind: str, tmp_path: Path):
    family, folder = saved
    small = {"k": 40, "detection_filter": "none", "n_detection": 12, "n_evaluation": 6}
    more = small if kind == "effect" else {}
    run = execute(small_job(kind, model=str(folder), **more), tmp_path / "run")
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert run.finished
    assert run.environment["architecture"] == family
    told = COVERAGE[family]
    assert ("Coverage of" in page) == (told is not None)
    assert told is None or told in page
    for study in run.config["studies"]:
        assert study in run.read_json("findings.json")
    widths = run.environment["widths"]["hidden"]
    n_neurons = sum(widths) if isinstance(widths, list) else 4 * widths
    assert 0 < n_neurons < 4 * 192 + 1
