"""The engine on Ray: every item once, whoever dies; and what cannot be, told."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from broca.engines import EngineSettings, RayEngine
from broca.errors import EngineError
from broca.progress import Reached, watched
from engine_parts import Dying, Squaring, Thirsty

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
def test_a_ray_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch):
    import ray

    def timing_out(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", timing_out)
    with pytest.raises(EngineError, match=r"did not start.*timed out"):
        RayEngine(None)
