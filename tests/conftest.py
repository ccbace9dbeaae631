"""One thread per process: results do not depend on the machine, and busy machines stay quick.

Generated examples are the same every time, so that a run tells of what was changed;
`make test-slow` draws others (`--hypothesis-profile default`).

Tests of real models carry `@pytest.mark.real`, or `@pytest.mark.real("gemma3")` for another than
the first, and take the model as a fixture of that name; where its file is missing they are skipped.
"""

import importlib.util
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

MODELS = Path(__file__).parent.parent / "models"
REAL = {
    "smollm2": MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf",
    "gemma3": MODELS / "gemma-3-270m-q4_k_m.gguf",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of what is not there, models or Ray, and say how to get it."""
    has_ray = importlib.util.find_spec("ray") is not None
    for item in items:
        if item.get_closest_marker("ray") and not has_ray:
            item.add_marker(pytest.mark.skip(reason="ray is not installed: make test-ray"))
        mark = item.get_closest_marker("real")
        for name in (mark.args or ("smollm2",)) if mark else ():
            if not REAL[name].exists():
                reason = f"{REAL[name].name} is not in models/: make real-models"
                item.add_marker(pytest.mark.skip(reason=reason))


def load(name: str):
    from broca.model import LanguageModel

    return LanguageModel.from_pretrained(str(REAL[name]))


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct, loaded once."""
    return load("smollm2")


@pytest.fixture(scope="session")
def gemma3():
    """Gemma 3 270M, loaded once."""
    return load("gemma3")
