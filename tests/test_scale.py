"""docs/scale.md is arithmetic that can be read off the code, and a dry run with workers divides."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from broca.recipes import load_recipe
from broca.run import read_job
from broca.run.dry import DryRun, dry_run
from broca.run.scale import PAPERS, Gpu, Size, Work, as_markdown, need
from broca.run.timing import Rate

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
RECIPES = Path(__file__).parent.parent / "recipes"


def test_the_page_holds_the_table():
    for paper in PAPERS:
        assert as_markdown(paper) in PAGE.read_text(encoding="utf-8")


def test_answers_are_two_operations_per_weight_and_token():
    size, gpu = Size("m", 4e9, 1e9, 10), Gpu(memory=16e9, peak=1e12, answering=0.5)
    found = need(size, 3, Work(evaluations=90, recorded=10, n_tokens=20), gpu)
    assert (found.gpus_per_worker, found.n_workers) == (1, 3)
    assert found.answers == pytest.approx(100 * 20 * 2e9 / 0.5e12 / 3)


def test_attributions_count_every_layer_above():
    """By a loop over layers and the layers above each, forward and backward."""
    size, gpu = Size("m", 1e9, 1e9, 7), Gpu(memory=16e9, peak=1e12, attributing=0.25)
    work = Work(attributed=5, n_nodes=9)
    passes = sum(1 for layer in range(7) for _ in range(layer + 1, 7))
    operations = 5 * 9 * passes * (2 + 4) * size.active / 7
    assert need(size, 1, work, gpu).attributions == pytest.approx(operations / 0.25e12)


def test_what_does_not_fit_takes_for_ever():
    found = need(Size("m", 100e9, 100e9, 10), 1, Work(evaluations=1), Gpu(memory=80e9))
    assert (found.n_workers, found.gpus_per_worker) == (0, 3)
    assert math.isinf(found.seconds)
    assert all("nan" not in as_markdown(paper) for paper in PAPERS)


def test_attributing_takes_the_memory_of_widened_weights():
    """In bfloat16 they are stored, in float32 attributed, `broca.attributions.precision`."""
    size, gpu = Size("m", 50e9, 50e9, 10), Gpu(memory=141e9)
    answering = need(size, 8, Work(evaluations=1), gpu)
    attributing = need(size, 8, Work(evaluations=1, attributed=1), gpu)
    assert (answering.gpus_per_worker, attributing.gpus_per_worker) == (1, 2)
    assert attributing.total_bytes == attributing.n_workers * 50e9 * torch.float32.itemsize
    assert attributing.exact == pytest.approx(
        attributing.attributions * gpu.attributing / gpu.exact
    )


@pytest.mark.slow
@pytest.mark.parametrize(("paper", "family"), [("relation", "relations"), ("query", "queries")])
def test_the_table_counts_what_dry_runs_count(paper: str, family: str, monkeypatch):
    """Of both papers on atlas; how long anything takes is left out."""
    monkeypatch.setattr("broca.run.dry.rate_of", lambda *_, **__: Rate(0.0))
    counted = dry_run(read_job(load_recipe(RECIPES / family / "paper.toml")))
    work = PAPERS[f"{paper} paper"]
    assert counted.recorded == work.recorded
    assert counted.attributed == work.attributed
    assert counted.evaluations == work.evaluations


def test_a_dry_run_divides_what_workers_share():
    found = DryRun(workers=4)
    found.spend("answering", 100, Rate(2.0, 0.1))
    found.spend("scoring", 10, Rate(1.0, 0.1))
    assert found.seconds == pytest.approx(210 / 4)
    assert found.off == pytest.approx(0.1)
