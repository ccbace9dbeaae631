"""A reader of GGUF files that skips over vocabularies and unpacks weights in large pieces.

transformers walks through the settings of a file for the configuration, the tokenizer and the
weights, and makes every token of the vocabulary an array of its own only to count them: of Gemma
3's 262,144 tokens that is most of the time of loading. Here the file is read once for all three,
and a long array is passed over: texts are counted, one text of as many dashes standing for them,
numbers are left out. The tokenizer reads its vocabulary in another way, which this does not touch.
The table of tensor names, the same for all modules of a model and made anew for each of them, is
made once. Weights are unpacked as the package gguf does it, but from ordinary arrays in place of
memory maps and in pieces of many rows in place of sixteen, which cost more to cut than to unpack.
All of it is let go when the block ends.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

LONG = 4096  # items beyond which an array is a vocabulary and no setting
STRING, ARRAY = 8, 9  # kinds of values in the format
PIECE = 1 << 13  # bytes of a row that others are joined to
ROTARY_FACTORS = "rope_freqs.weight"


@dataclass
class Seen:
    """What the reader met.

    Attributes:
        settings: Key -> value, single values only.
        kinds: How each tensor is stored.
        n_values: Numbers in all tensors together.
        rotary_factors: What rotary frequencies are divided by, [frequency], if the file says.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    n_values: int = 0
    rotary_factors: torch.Tensor | None = None


@contextmanager
def skimmed() -> Iterator[Seen]:
    """Let transformers read with :class:`Skimming` until the block ends; what was met."""
    import gguf

    seen = Seen()
    own, names, unpack = gguf.GGUFReader, gguf.get_tensor_name_map, gguf.dequantize

    class Skimming(own):
        def __init__(self, path: str, mode: Any = "r") -> None:
            super().__init__(path, mode)
            _note(seen, self)

        def _bytes(self) -> memoryview:
            return memoryview(self.data)  # type: ignore[arg-type]

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type == ARRAY:
                kind, length = struct.unpack_from("<IQ", self._bytes(), orig_offs)
                if length > LONG:
                    return self._skip(int(orig_offs), kind, length)
            return super()._get_field_parts(orig_offs, raw_type)

        def _skip(self, start: int, kind: int, length: int) -> Any:
            first = start + 12
            size, _, _, kinds = super()._get_field_parts(first, kind)
            types = [gguf.GGUFValueType.ARRAY, *kinds]
            if kind != STRING:
                return 12 + size * length, [], [], types
            end, content = first, self._bytes()
            for _ in range(length):
                end += 8 + struct.unpack_from("<Q", content, end)[0]
            return end - start, [np.full(length, ord("-"), np.uint8)], [0], types

    gguf.GGUFReader = functools.cache(Skimming)  # type: ignore[misc]
    gguf.get_tensor_name_map = functools.cache(names)
    gguf.dequantize = functools.partial(_unpacked, unpack)
    try:
        yield seen
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = own, names  # type: ignore[misc]
        gguf.dequantize = unpack


def _unpacked(unpack: Callable[..., np.ndarray], data: np.ndarray, kind: Any) -> np.ndarray:
    """Numbers of a tensor: the same, since rows are whole blocks one behind the other."""
    data = np.asarray(data)
    n_rows, joined = data.size // data.shape[-1], 1
    while n_rows % (2 * joined) == 0 and 2 * joined * data.shape[-1] <= PIECE:
        joined *= 2
    return unpack(data.reshape(n_rows // joined, -1), kind).reshape(*data.shape[:-1], -1)


def _note(seen: Seen, reader: Any) -> None:
    seen.settings = {
        key: found.contents() for key, found in reader.fields.items() if found.types[0] != ARRAY
    }
    seen.kinds = [tensor.tensor_type.name for tensor in reader.tensors]
    seen.n_values = sum(int(tensor.n_elements) for tensor in reader.tensors)
    for tensor in reader.tensors:
        if tensor.name == ROTARY_FACTORS:
            seen.rotary_factors = torch.tensor(tensor.data, dtype=torch.float32)
