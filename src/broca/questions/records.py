"""Rows of public data sets, one at a time: from the Hugging Face hub or from local files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from broca.errors import QuestionsError
from broca.facts.reading import read_json, read_rows

KINDS = (".parquet", ".json", ".jsonl", ".csv", ".tsv")
Record = tuple[str, Mapping[str, Any]]


def read_hub(hub: Mapping[str, Any], split: str | None, revision: str | None) -> Iterator[Record]:
    """Rows of a data set on the hub, configuration by configuration; nothing is kept on disk.

    Args:
        hub: `dataset` (a name on the hub) and `configs`.
        split: Which split.
        revision: Commit, tag or branch of the data set.

    Raises:
        QuestionsError: The extra `datasets` is not installed, or the data cannot be reached.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        mend = "pip install 'broca[datasets]', or give local files as source"
        raise QuestionsError("the hub needs the library datasets", "hub", mend) from None
    if "dataset" not in hub:
        raise QuestionsError("the mapping names no data set", "[hub]", 'Write dataset = "..."')
    for config in hub.get("configs") or [None]:
        where = f"{hub['dataset']}, {config or 'default'}, {split}"
        try:
            rows = load_dataset(
                hub["dataset"], config, split=split, revision=revision, streaming=True
            )
            for number, row in enumerate(rows):
                yield f"{where}, row {number}", row
        # the library raises its own, the hub client's and the network's errors alike
        except (OSError, ValueError, RuntimeError) as cause:
            mend = "Check name and connection, or give local files as source"
            raise QuestionsError(f"the data set cannot be read: {cause}", where, mend) from cause


def read_local(path: Path, split: str | None) -> Iterator[Record]:
    """Rows of one file, or of all files of a folder and its sub-folders.

    Where files of a folder carry the split in their name (`test-00000-of-00001.parquet`), only
    those are read.

    Raises:
        QuestionsError: Nothing is there, or a file cannot be read.
    """
    if not path.exists():
        raise QuestionsError("there is no such file or folder", str(path), "Check source")
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in KINDS)
    of_split = [p for p in found if split and split in p.stem]
    for file in of_split or found:
        if file.suffix not in KINDS:
            mend = f"Known: {', '.join(KINDS)}"
            raise QuestionsError(f"files of kind {file.suffix!r} are not known", str(file), mend)
        yield from _read_file(file)
    if not found:
        raise QuestionsError("the folder holds no data", str(path), f"Known: {', '.join(KINDS)}")


def _read_file(path: Path) -> Iterator[Record]:
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix == ".json":
        document, _ = read_json(path, QuestionsError)
        rows = document.get("data") if isinstance(document, dict) else document
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            mend = 'Needed: a list of objects, or {"data": [...]}'
            raise QuestionsError("no rows in this JSON file", str(path), mend)
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows))
    else:
        yield from read_rows(path, QuestionsError)


def _parquet_rows(path: Path) -> Iterator[Record]:
    # half a second to import, which questions from elsewhere need not pay
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield f"{path}, row {number}", row
                    number += 1
    except (pa.ArrowException, OSError) as cause:
        raise QuestionsError(f"this is no Parquet file: {cause}", str(path)) from None
