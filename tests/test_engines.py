"""One run, however it is computed: here, on Ray, by several processes, after any kill."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from broca.engines import LocalEngine
from broca.errors import BrocaError
from broca.model import LanguageModel
from broca.run import execute, find_relations, read_job
from broca.store import RunFolder
from broca.store.joining import note_joined
from engine_parts import identical, small_job
from killing import Joining, Killing, wait_for_both

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")


KILLS = int(os.environ.get("BROCA_TEST_KILLS", "4"))
"""How many kills each test of them delivers."""


# ---- several processes


@pytest.fixture(scope="module", params=["effect", "queries"])
def reference(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, RunFolder]:
    """A run of this process alone."""
    path = tmp_path_factory.mktemp("reference") / request.param
    return request.param, execute(small_job(request.param), path, engine=LocalEngine())


def test_two_processes_that_join_write_the_same_files(reference, tmp_path: Path):
    kind, whole = reference
    wait_for_both(kind, tmp_path / "run")
    assert identical(whole.path, tmp_path / "run")
    note_joined(tmp_path / "run", {"device": "of one that came as the run was being finished"})
    assert execute(small_job(kind), tmp_path / "run", join=True).finished
    assert identical(whole.path, tmp_path / "run")


@pytest.mark.slow
def test_killed_processes_are_made_up_for(reference, tmp_path: Path):
    """Random kills of either of two processes; whoever is left goes on."""
    kind, whole = reference
    killing = Killing(kind, whole.path, tmp_path, KILLS, seed=0)
    killing.of_joined()
    print(killing)
    assert killing.killed.total() == KILLS


def test_two_drivers_on_one_folder_are_refused(tmp_path: Path):
    with Joining() as processes:
        first = processes.start("effect", tmp_path / "run")
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "config.toml").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        first.send_signal(signal.SIGSTOP)  # it cannot be through before it is looked at
        with pytest.raises(BrocaError, match="another process is writing"):
            execute(small_job("effect"), tmp_path / "run")


# ---- Ray


def _units(run: RunFolder) -> str:
    """What workers computed, by name, as their logs tell."""
    return "".join(path.read_text(encoding="utf-8") for path in run.logs_path.iterdir())


COMPUTED = {"effect": ("borders-", "scores-"), "queries": ("letters-",)}
"""What workers compute besides answers and attributions."""


@pytest.mark.ray
def test_two_ray_workers_write_the_same_files(
    reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And this process, which drives them, loads no weights."""
    kind, whole = reference

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the driver loads the model")

    monkeypatch.setattr(LanguageModel, "from_pretrained", refuse)
    run = execute(small_job(kind, engine={"kind": "ray", "workers": 2}), tmp_path / "run")
    assert identical(whole.path, run.path)
    assert all(name in _units(run) for name in COMPUTED[kind])


@pytest.mark.ray
def test_relations_are_found_by_ray_workers_as_here(tmp_path: Path):
    values = {"studies": ["relations.intra"], "model": "atlas", "n_detection": 24, "k": 100}
    found = {}
    for kind in ("local", "ray"):
        job = read_job({**values, "relations": ["company_ceo", "company_hq"], "engine": kind})
        written = find_relations(job, tmp_path / kind, method="mean-difference")
        found[kind] = {path.name: path.read_bytes() for path in written}
    assert found["local"] == found["ray"]
    assert len(found["ray"]) == 2


@pytest.mark.ray
def test_query_neurons_are_found_by_ray_workers_as_here(tmp_path: Path):
    values = {"studies": ["queries.find"], "model": "atlas", "per_field": 2}
    found = {}
    for engine in ("local", {"kind": "ray", "workers": 2}):
        name = engine if isinstance(engine, str) else engine["kind"]
        run = execute(read_job({**values, "engine": engine}), tmp_path / name, report=False)
        found[name] = (run.path / "sets" / "queries.parquet").read_bytes()
    assert found["local"] == found["ray"]


@pytest.mark.ray
@pytest.mark.slow
def test_killed_ray_workers_and_drivers_are_made_up_for(reference, tmp_path: Path):
    """Random kills of workers, and of the driver, which is begun again."""
    kind, whole = reference
    killing = Killing(kind, whole.path, tmp_path, KILLS, seed=1)
    killing.of_ray()
    print(killing, f"{killing.lost} losses of workers told", sep="; ")
    assert killing.killed.total() == KILLS


def _at_work(out: Path) -> bool:
    """Whether three workers have loaded the model."""
    return sum("ready" in path.read_text() for path in out.glob("logs/*")) >= 3


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_loses_a_node_finishes(reference, tmp_path: Path, monkeypatch):
    """Three nodes of one core; one goes when all workers have begun."""
    import ray
    from ray.cluster_utils import Cluster

    kind, whole = reference
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    out, gone = tmp_path / "run", threading.Event()
    try:
        lost, _ = (cluster.add_node(num_cpus=1) for _ in range(2))
        cluster.wait_for_nodes()

        def remove_when_under_way() -> None:
            deadline = time.monotonic() + 600
            while not _at_work(out) and time.monotonic() < deadline:
                time.sleep(0.05)
            cluster.remove_node(lost, allow_graceful=False)
            gone.set()

        thread = threading.Thread(target=remove_when_under_way)
        thread.start()
        settings = {"kind": "ray", "workers": 3, "address": cluster.address}
        execute(small_job(kind, engine=settings), out)
        thread.join()
        assert gone.is_set()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert identical(whole.path, out)
    assert _units(RunFolder.open(out)).count("lost: ") >= 1


def _figures(run: RunFolder) -> str:
    """Findings without what differs from run to run: seconds."""

    def without_seconds(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_seconds(v) for k, v in value.items() if "seconds" not in k}
        return [without_seconds(v) for v in value] if isinstance(value, list) else value

    findings = run.read_json("findings.json")
    for found in findings.values():
        found["words"] = []
    return json.dumps(without_seconds(findings), sort_keys=True)


@pytest.mark.ray
def test_locators_and_exact_effects_are_judged_by_workers(tmp_path: Path):
    """Figures of this process alone, of two that join, and of two Ray workers are the same."""
    alone = execute(small_job("locators"), tmp_path / "alone", engine=LocalEngine())
    wait_for_both("locators", tmp_path / "joined")
    settings = {"kind": "ray", "workers": 2}
    ray = execute(small_job("locators", engine=settings), tmp_path / "ray", report=False)
    units = _units(ray)
    assert units.count("located-") == 3
    assert all(name in units for name in ("known-", "planted-", "injected-", "relation-"))
    assert _figures(alone) == _figures(RunFolder.open(tmp_path / "joined")) == _figures(ray)
