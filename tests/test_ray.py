"""The engine on Ray: every item once, whoever dies; and what cannot be, told."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from broca.engines import EngineSettings, RayEngine, versions_of
from broca.engines.cluster import count_places
from broca.errors import EngineError
from broca.progress import Reached, watched
from broca.run.workers import note_workers, with_workers
from broca.store import RunFolder
from broca.store.environment import DETERMINING
from engine_parts import Awaiting, Dying, DyingLater, Elsewhere, Squaring, Thirsty

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")


@pytest.fixture
def ray_engine(tmp_path: Path):
    settings = EngineSettings(kind="ray", workers=2)
    with RayEngine(lambda: Squaring(), settings, tmp_path / "logs") as engine:
        yield engine


@pytest.mark.ray
def test_ray_computes_every_item_once_longest_first(ray_engine: RayEngine, tmp_path: Path):
    found = dict(ray_engine.map(Squaring(), [3, 1, 2], "Squaring", [1, 1, 5]))
    assert found == {1: 1, 2: 4, 3: 9}
    assert list(ray_engine.map(Squaring(), [])) == []
    logs = {path.name for path in (tmp_path / "logs").iterdir()}
    assert logs
    assert logs <= {"worker-0.log", "worker-1.log"}


@pytest.mark.ray
def test_ray_replaces_the_dead_and_names_what_kills(ray_engine: RayEngine, tmp_path: Path):
    once = Dying(str(tmp_path / "died"), deaths=2)
    found = dict(ray_engine.map(once, list(range(6)), names=[f"unit {i}" for i in range(6)]))
    assert found == {i: i for i in range(6)}
    assert ray_engine.deaths == 2
    always = Dying(str(tmp_path / "dies"), deaths=99)
    names = [f"unit {i}" for i in range(6)]
    with pytest.raises(EngineError, match=r"3 workers died.*unit 0"):
        list(ray_engine.map(always, list(range(6)), names=names))


@pytest.mark.ray
def test_what_ray_knows_of_a_lost_worker_is_in_its_log(ray_engine: RayEngine, tmp_path: Path):
    told: list[Reached] = []
    with watched(told.append):
        once = Dying(str(tmp_path / "died"), deaths=1)
        assert dict(ray_engine.map(once, [0, 1, 2, 3])) == {i: i for i in range(4)}
    logs = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "logs").iterdir())
    assert logs.count("lost: ") == 1
    assert "worker process has died" in logs
    assert told[0].note == ""
    assert told[-1].note.endswith("of 2 workers, 1 lost")


@pytest.mark.ray
def test_mistakes_on_ray_are_told_as_here(ray_engine: RayEngine):
    with pytest.raises(EngineError, match="single prompt"):
        list(ray_engine.map(Thirsty(4, most=0), list(range(8))))
    assert dict(ray_engine.map(Squaring(), [3, 2])) == {3: 9, 2: 4}


@pytest.mark.ray
def test_what_else_goes_wrong_on_ray_is_told_and_logged(ray_engine: RayEngine, tmp_path: Path):
    with pytest.raises(EngineError, match=r"A worker failed: .*KeyError.*worker's log"):
        list(ray_engine.map(_missing, [1]))
    logs = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "logs").iterdir())
    assert "item 0 failed: Traceback" in logs
    assert dict(ray_engine.map(Squaring(), [3])) == {3: 9}


@pytest.mark.ray
def test_a_worker_that_halves_its_batch_is_told_of_once(
    ray_engine: RayEngine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    for _ in range(2):
        found = dict(ray_engine.map(Thirsty(64, most=20), list(range(6))))
        assert found == dict.fromkeys(range(6), 16)
    said = capfd.readouterr().err
    assert said.count("Memory ran out at 64 rows a pass") == 1
    assert "Worker " in said
    logs = [path.read_text(encoding="utf-8") for path in (tmp_path / "logs").iterdir()]
    assert all(log.count("Memory ran out at 64 rows") == ("item" in log) for log in logs)


@pytest.mark.ray
def test_workers_with_other_versions_are_refused_or_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("broca.engines.ray.Worker", Elsewhere)
    here = versions_of(DETERMINING)
    settings = EngineSettings(kind="ray", workers=1)
    words = rf"other versions: torch 0.4.1, here {re.escape(here['torch'])}.*--accept"
    with (
        RayEngine(lambda: Squaring(), settings, versions=here) as engine,
        pytest.raises(EngineError, match=words),
    ):
        list(engine.map(Squaring(), [3]))
    options = {"versions": here, "accept_versions": True}
    with (
        RunFolder.create(tmp_path / "run", {}) as folder,
        RayEngine(lambda: Squaring(), settings, **options) as engine,
    ):
        folder.write_environment(with_workers({"threads": 8}, folder, engine))
        assert dict(engine.map(Squaring(), [3])) == {3: 9}
        note_workers(folder, engine)
        found = folder.environment
    versions = {**here, "torch": "0.4.1"}
    about = {"device": "another", "device_name": "cpu", "threads": 1, "versions": versions}
    assert found == {"threads": 1, "workers": [about]}


@pytest.mark.ray
def test_workers_that_never_start_are_done_without(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    marks = str(tmp_path / "marks")
    settings = EngineSettings(kind="ray", workers=2)
    with RayEngine(DyingLater(marks), settings, tmp_path / "logs") as engine:
        found = dict(engine.map(Awaiting(marks, 4), [0]))
        # the last death is heard of when the next piece is waited for
        while engine.n_workers > 1:
            found |= dict(engine.map(Awaiting(marks, 4), [1]))
        assert dict(engine.map(Squaring(), list(range(4)))) == {n: n * n for n in range(4)}
        assert engine.deaths == 3
    assert len(list((tmp_path / "marks").iterdir())) == 4
    assert "3 workers died while they loaded the model; going on with the 1" in (
        capfd.readouterr().err
    )


def test_workers_have_room_node_by_node():
    nodes = [{"CPU": 8.0, "GPU": 3.0}, {"CPU": 1.0, "GPU": 2.0}, {"CPU": 4.0}]
    for cores, gpus, n in ((1, 1, 4), (1, 2, 2), (1, 4, 0), (1, 0.1, 9), (2, 0, 6), (16, 0, 0)):
        found = count_places(nodes, cores, gpus)
        assert found.workers == n, (cores, gpus)
        assert (found.gpus, found.node_gpus, found.node_cores) == (5, 3, 8)
    assert count_places([], 1, 0).workers == 0


@pytest.mark.ray
def test_more_gpus_than_a_node_has_are_refused(ray_engine: RayEngine, monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}] * 2
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    for settings, words in (
        (EngineSettings("ray", gpus_per_worker=4), "none has more than 2"),
        (EngineSettings("ray", gpus_per_worker=5), "the cluster has 4"),
        (EngineSettings("ray", gpus_per_worker=0, threads=9), "9 cores each"),
    ):
        with pytest.raises(EngineError, match=words):
            RayEngine(None, settings)


def _missing(item: int) -> int:
    return {}[item]


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_is_joined_by_the_port_for_clients(tmp_path: Path, monkeypatch):
    """`ray://`: the driver is in no node of the cluster."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    node = {"num_cpus": 2, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        settings = EngineSettings("ray", workers=2, address=f"ray://127.0.0.1:{port}")
        with RayEngine(lambda: Squaring(), settings, tmp_path / "logs") as engine:
            once = Dying(str(tmp_path / "died"), deaths=1)
            assert dict(engine.map(once, list(range(5)))) == {i: i for i in range(5)}
            assert engine.deaths == 1
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_client_without_its_package_is_told(monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray")

    def missing(**_: Any) -> None:
        raise ImportError("No module named 'grpc'")

    monkeypatch.setattr(ray, "init", missing)
    with socket.create_server(("127.0.0.1", 0)) as there:
        settings = EngineSettings("ray", address=f"ray://127.0.0.1:{there.getsockname()[1]}")
        with pytest.raises(EngineError, match=r"need the package grpcio.*broca\[ray\]"):
            RayEngine(None, settings)


@pytest.mark.ray
def test_more_than_there_is_is_refused(ray_engine: RayEngine):
    for settings, words in (
        (EngineSettings("ray", workers=3, gpus_per_worker=1), "cluster has 0"),
        (EngineSettings("ray", workers=999), "cores"),
    ):
        with pytest.raises(EngineError, match=words):
            RayEngine(None, settings)


def test_without_ray_the_cure_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match="pip install"):
        RayEngine(None)


@pytest.mark.ray
def test_an_unreachable_cluster_is_told():
    with pytest.raises(EngineError, match="cannot be reached"):
        RayEngine(None, EngineSettings("ray", address="127.0.0.1:1"))


@pytest.mark.ray
def test_another_cluster_than_the_one_joined_is_refused(ray_engine: RayEngine):
    import ray

    there = ray.get_runtime_context().gcs_address
    with pytest.raises(EngineError, match=r"in the Ray cluster at .* already.*shutdown"):
        RayEngine(None, EngineSettings("ray", address="127.0.0.1:1"))
    for address in ("auto", there):
        assert RayEngine(Squaring, EngineSettings("ray", address=address)).n_workers >= 1


@pytest.mark.ray
def test_a_ray_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch):
    import ray

    def timing_out(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", timing_out)
    with pytest.raises(EngineError, match=r"did not start.*timed out"):
        RayEngine(None)
