"""The file of effects: safetensors, with what is no number in its metadata (docs/files.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from broca.effects.effect import Effect, Effects
from broca.errors import EffectError
from broca.neurons import ModelIdentity
from broca.store.files import replacing

FORMAT, VERSION = "broca.effects", 1
_WORDS = ("prompt_id", "target", "before", "objective", "replacement", "form")


def write_effects(effects: Effects, path: Path) -> Path:
    """Write beside the target first, then rename.

    Raises:
        RunError: If the file cannot be written.
    """
    tensors: dict[str, np.ndarray] = {}
    for number, item in enumerate(effects):
        tensors[f"{number}.values"] = np.ascontiguousarray(item.values)
        tensors[f"{number}.activations"] = np.ascontiguousarray(item.activations)
        if item.sampled is not None:
            tensors[f"{number}.sampled"] = np.ascontiguousarray(item.sampled)
    identity = effects.identity
    about = {
        "model": identity.to_dict(),
        "prompts": [{name: getattr(item, name) for name in _WORDS} for item in effects],
    }
    metadata = {"format": FORMAT, "version": str(VERSION), "about": json.dumps(about)}
    with replacing(path) as beside:
        save_file(tensors, beside, metadata)
    return path


def read_effects(path: Path) -> Effects:
    """Read a file of effects.

    Raises:
        EffectError: If it is missing, malformed, or of a newer format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise EffectError("This is not a file of effects", str(path))
            if metadata.get("version") != str(VERSION):
                raise EffectError(
                    f"The effects have format version {metadata.get('version')}",
                    str(path),
                    f"This broca reads version {VERSION}.",
                )
            about = json.loads(metadata["about"])
            names = set(file.keys())
            items = []
            for number, words in enumerate(about["prompts"]):
                sampled = f"{number}.sampled"
                items.append(
                    Effect(
                        **{**words, "target": tuple(words["target"])},
                        values=file.get_tensor(f"{number}.values"),
                        activations=file.get_tensor(f"{number}.activations"),
                        sampled=file.get_tensor(sampled) if sampled in names else None,
                    )
                )
            return Effects(tuple(items), ModelIdentity.from_dict(about["model"]))
    except OSError as error:
        raise EffectError("Cannot read effects", str(path), "Does the file exist?") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise EffectError(f"The effects are malformed: {error}", str(path)) from error
