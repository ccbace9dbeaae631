"""What the tests of run folders write: settings and rows."""

from __future__ import annotations

from typing import Any

CONFIG = {"study": "effect", "model": "atlas", "k": 3000, "ladder": {"steps": [1, 2, 4]}}


def row(condition: str, prompt: int, **columns: Any) -> dict[str, Any]:
    return {
        "condition": condition, "prompt": f"p{prompt:03}", "study": "effect",
        "ids": [1, 2], "correct": prompt % 2 == 0, "log_p": -1.5 * prompt, **columns,
    }  # fmt: skip
