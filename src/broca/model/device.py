"""What a model computes on, as the maker calls it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch


def names_of(devices: Iterable[torch.device]) -> str:
    """Names of GPUs, or of the processor, each once; those that hold no values left out."""
    return ", ".join(sorted({_name(device) for device in devices if device.type != "meta"}))


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() if device.type == "cpu" else f"{device.type} of {_processor()}"


def _processor() -> str:
    with suppress(OSError):  # on Linux, where the other way starts a process and finds nothing
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
