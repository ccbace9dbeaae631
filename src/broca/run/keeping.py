"""Plain values that are found with the model once, kept in the run's folder, and found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from broca.engines import Engine
from broca.model import LanguageModel
from broca.store import RunFolder, condition_key

Judging = Callable[[LanguageModel, Any], dict[str, Any]]
Item = tuple[Mapping[str, Any], Any]

SAYS = {
    "borders": "Measuring borders",
    "editable": "Looking at the weights",
    "known": "Looking for known facts",
    "letters": "Finding letters",
    "values": "Reading neurons",
    "words": "Asking in words",
}
"""What the progress bar says of a kind; of any other, that it is judged."""


@dataclass(frozen=True)
class Keeping:
    """Computes the values of an item that are kept, by its name.

    Attributes:
        model: The model under study.
        function: Computes the values.
        batch_size: Its prompts per pass, None where it has no such field.
    """

    model: LanguageModel
    function: Judging
    batch_size: int | None = None

    def __call__(self, item: tuple[str, Any]) -> dict[str, Any]:
        function: Any = self.function
        if self.batch_size is not None:
            function = replace(function, batch_size=self.batch_size)
        return function(self.model, item[1])


def keep(
    folder: RunFolder,
    engine: Engine,
    model: LanguageModel,
    kind: str,
    function: Judging,
    items: Sequence[Item],
) -> list[dict[str, Any]]:
    """Plain values of each item in `<kind>/<key>.json`; what is there already is read.

    Args:
        folder: Of the run.
        engine: Where items are computed.
        model: The model under study.
        kind: What they are, the folder's name.
        function: Computes the values of one item, with the model; a dataclass with a field
            `batch_size`, if it reads several prompts in a pass.
        items: All that determines an item's values beside the model, as plain values; and what
            the function is given.

    Raises:
        BrocaError: What the function raises.
    """
    settings = {"model": model.identity.fingerprint, "dtype": str(model.dtype)}
    keys = [condition_key({**determinants, **settings}) for determinants, _ in items]
    files = {f"{kind}-{key}": f"{kind}/{key}.json" for key in keys}
    given = {f"{kind}-{key}": item for key, (_, item) in zip(keys, items, strict=True)}

    def stored(name: str) -> bool:
        return (folder.path / files[name]).exists()

    left = {name: item for name, item in given.items() if not stored(name)}
    for (name, _), values in engine.map(
        Keeping(model, function, getattr(function, "batch_size", None)),
        list(left.items()),
        SAYS.get(kind, f"Judging: {kind}"),
        names=list(left),
        stored=stored,
    ):
        if not folder.finished:  # by another process, which has them
            folder.write_json(files[name], values)
    return [folder.read_json(f"{kind}/{key}.json") for key in keys]
