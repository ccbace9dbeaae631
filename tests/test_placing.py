"""Where a model is put when nobody says: alone, beside others of its job, in a worker."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from broca.model import LanguageModel
from broca.model.loading import usual_place
from broca.run import placing
from broca.run.job import ModelSettings
from broca.run.placing import LoadingThere

NAMES = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE")


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with four GPUs, and a process that was started by hand."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("started", "place"),
    [
        ({}, "auto"),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, "auto"),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}, "cuda:0"),
        ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, "cuda:3"),
        ({"LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "8"}, "cuda:1"),
        ({"SLURM_LOCALID": "0"}, "auto"),  # a batch script without srun
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, "cuda:0"),
        ({"SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, "cuda:2"),
        ({"SLURM_LOCALID": "?"}, "auto"),
    ],
)
def test_processes_of_a_job_take_a_gpu_each(
    four_gpus: pytest.MonkeyPatch, started: dict[str, str], place: str
):
    for name, value in started.items():
        four_gpus.setenv(name, value)
    assert usual_place("llama") == place
    assert usual_place("atlas") is None


def test_the_only_gpu_is_everybodys(four_gpus: pytest.MonkeyPatch):
    four_gpus.setattr(torch.cuda, "device_count", lambda: 1)
    four_gpus.setenv("LOCAL_RANK", "1")
    assert usual_place("llama") == "auto"


def test_a_named_place_is_taken_and_a_worker_without_gpus_takes_none(
    four_gpus: pytest.MonkeyPatch,
):
    taken: list[Any] = []
    four_gpus.setattr(
        LanguageModel,
        "from_pretrained",
        lambda name, **options: taken.append(options["device_map"]),
    )
    four_gpus.setenv("LOCAL_RANK", "1")
    for settings in (ModelSettings("llama"), ModelSettings("llama", device_map="cuda:3")):
        settings.load()
        for has_gpus in (True, False):
            four_gpus.setattr(placing, "has_gpus", lambda found=has_gpus: found)
            loading = LoadingThere(settings)
            loading()
            assert loading.on_gpus == (taken[-1] is not None)
    assert taken == ["cuda:1", "auto", None, "cuda:3", "cuda:3", "cuda:3"]
