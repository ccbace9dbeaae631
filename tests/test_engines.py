"""One run, however it is computed: here, on Ray, by several processes, after any kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from broca.engines import EngineSettings, LocalEngine, RayEngine, SharedEngine
from broca.engines.claims import Claims
from broca.engines.memory import BatchLimit
from broca.errors import BrocaError, EngineError
from broca.model import LanguageModel
from broca.progress import Reached, watched
from broca.run import execute, find_relations, read_job
from broca.store import RunFolder
from engine_parts import Dying, Squaring, Thirsty, identical, small_job
from killing import Killing, joining

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")


KILLS = int(os.environ.get("BROCA_TEST_KILLS", "4"))
"""How many kills each test of them delivers."""

# ---- claims


def test_of_two_processes_one_holds_a_claim(tmp_path: Path):
    one, other = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    with one.hold("unit") as held:
        assert held
        assert other.living() == 1
        with other.hold("unit") as again:
            assert not again
    with other.hold("unit") as held:
        assert held
    assert not list((tmp_path / "claims").iterdir())


def test_claims_of_the_dead_are_taken_over(tmp_path: Path):
    claims = Claims(tmp_path, expiry=30)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name, who in {
        "dead here": {**claims._who, "pid": gone.pid},
        "silent elsewhere": {"host": "another", "pid": 1},
        "living elsewhere": {"host": "another", "pid": 1},
    }.items():
        (tmp_path / name).write_text(str(who).replace("'", '"'), encoding="utf-8")
    then = time.time() - 40
    os.utime(tmp_path / "silent elsewhere", (then, then))
    taken = {}
    for name in ("dead here", "silent elsewhere", "living elsewhere"):
        with claims.hold(name) as taken[name]:
            pass
    assert taken == {"dead here": True, "silent elsewhere": True, "living elsewhere": False}


def test_a_held_claim_is_touched(tmp_path: Path):
    claims = Claims(tmp_path, expiry=0.4)
    with claims.hold("unit"):
        time.sleep(1)
        assert claims.living() == 1


def test_what_others_have_stored_is_left_out(tmp_path: Path):
    stored = {"b"}
    engine = SharedEngine(tmp_path / "claims")
    found = []
    for item, result in engine.map(
        lambda x: x * x, [1, 2, 3], names=["a", "b", "c"], stored=stored.__contains__
    ):
        found.append((item, result))
    assert found == [(1, 1), (3, 9)]


# ---- memory


def test_a_shortage_of_memory_halves_the_batch_and_is_remembered(capsys):
    limit = BatchLimit()
    assert limit.compute(Thirsty(64, most=20), 1) == 16
    assert limit.compute(Thirsty(64, most=20), 1) == 16
    assert limit.compute(Thirsty(8, most=20), 1) == 8
    assert capsys.readouterr().err.count("Memory ran out") == 1


def test_a_single_row_too_much_is_told():
    with pytest.raises(EngineError, match="single prompt"):
        BatchLimit().compute(Thirsty(4, most=0), 1)
    with pytest.raises(RuntimeError, match="another"):
        BatchLimit().compute(_raise, RuntimeError("another"))


def _raise(error: Exception):
    raise error


def test_rows_after_a_shortage_equal_those_without(tmp_path: Path, monkeypatch):
    """Every unit fails once at the full batch; log P stays within 1e-5."""
    from broca.run import bench

    plain = execute(small_job("effect"), tmp_path / "plain", report=False)
    compute = bench.Asking.__call__

    def failing(self: bench.Asking, unit: bench.Unit) -> list[Any]:
        if self.batch_size > 16:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return compute(self, unit)

    monkeypatch.setattr(bench.Asking, "__call__", failing)
    short = execute(small_job("effect"), tmp_path / "short", report=False)
    one, other = (run.rows.read().to_pydict() for run in (plain, short))
    assert one["prompt"] == other["prompt"]
    assert one["correct"] == other["correct"]
    assert one["log_p"] == pytest.approx(other["log_p"], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "ray", "workers": 0}, "at least 1"),
        ({"workers": 2}, "--engine ray"),
        ({"max_memory": "much"}, "no amount"),
        ({"max_memory": "12"}, "no amount"),
        ({"kind": "ray", "gpus_per_worker": float("nan")}, "below 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, words: str):
    with pytest.raises(EngineError, match=words):
        EngineSettings(**settings)


def test_amounts_of_memory():
    for text, n in {"8G": 8 << 30, "1.5 GiB": 3 << 29, "800m": 800 << 20}.items():
        assert EngineSettings(max_memory=text).memory_bytes == n


# ---- several processes


@pytest.fixture(scope="module", params=["effect", "queries"])
def reference(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, RunFolder]:
    """A run of this process alone."""
    path = tmp_path_factory.mktemp("reference") / request.param
    return request.param, execute(small_job(request.param), path, engine=LocalEngine())


def test_two_processes_that_join_write_the_same_files(reference, tmp_path: Path):
    kind, whole = reference
    both = [joining(kind, tmp_path / "run") for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
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
    process = joining("effect", tmp_path / "run")
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "config.toml").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        with pytest.raises(BrocaError, match="another process is writing"):
            execute(small_job("effect"), tmp_path / "run")
    finally:
        process.kill()
        process.wait()


# ---- Ray


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


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_loses_a_node_finishes(reference, tmp_path: Path, monkeypatch):
    """Three nodes of one core; one goes when the first rows are stored."""
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
            while not list(out.glob("rows/*")) and time.monotonic() < deadline:
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
    both = [joining("locators", tmp_path / "joined") for _ in range(2)]
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    settings = {"kind": "ray", "workers": 2}
    ray = execute(small_job("locators", engine=settings), tmp_path / "ray", report=False)
    units = _units(ray)
    assert units.count("located-") == 3
    assert all(name in units for name in ("known-", "planted-", "injected-", "relation-"))
    assert _figures(alone) == _figures(RunFolder.open(tmp_path / "joined")) == _figures(ray)


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


def test_recipes_name_the_engine():
    values = {"studies": ["relations.intra"], "model": "atlas"}
    assert read_job(values).engine == EngineSettings()
    job = read_job({**values, "engine": {"kind": "ray", "workers": 2}})
    assert job.engine.workers == 2
    assert read_job({**values, "engine": "ray"}).engine.kind == "ray"
    assert "engine" not in job.as_config()
    with pytest.raises(BrocaError, match="no setting"):
        read_job({**values, "engine": {"wokers": 2}})


@pytest.mark.ray
def test_a_ray_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch):
    import ray

    def timing_out(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", timing_out)
    with pytest.raises(EngineError, match=r"did not start.*timed out"):
        RayEngine(None)


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
