"""`broca export`: rows, neuron sets and facts as CSV, JSON or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from broca.cli.output import say, show
from broca.tabular import ExportError

if TYPE_CHECKING:
    import pyarrow as pa


def export(
    source: Annotated[
        Path,
        typer.Argument(help="Run folder, neuron set, query sets, or a folder of neuron sets."),
    ],
    out: Annotated[Path, typer.Option(help="New file: .csv, .json or .parquet.")],
    what: Annotated[
        Literal["auto", "rows", "sets"],
        typer.Option(help="Of a run: its rows (auto), or the neurons of its sets."),
    ] = "auto",
) -> None:
    """Write rows or neurons as a table that other programs read."""
    from broca.tabular import write_table

    table = _table(source, what)
    write_table(table, out)
    say(f"{table.num_rows:,} rows, {table.num_columns} columns: {', '.join(table.column_names)}")
    show(f"Written: {out}")


def _table(source: Path, what: str) -> pa.Table:
    """The table asked for.

    Raises:
        BrocaError: The source is nothing that can be exported, or damaged.
    """
    from broca.scores import QuerySets
    from broca.store import RunFolder, reads_as_run

    if not source.exists():
        raise ExportError("there is no such file or folder", str(source))
    if source.is_file() and source.suffix == ".parquet":
        return QuerySets.load(source).to_arrow()
    if what != "sets" and source.is_dir() and reads_as_run(source):
        table = RunFolder.open(source).rows.read()
        if not table.num_rows:
            raise ExportError("this run has no rows yet", str(source), "--what sets, or go on")
        return table
    if what == "rows":
        raise ExportError("only a run folder has rows", str(source), "Leave --what out")
    return _sets(source)


def _sets(source: Path) -> pa.Table:
    import pyarrow as pa

    from broca.neurons import NeuronSet
    from broca.store import set_files

    tables = []
    for name, path in set_files(source).items():
        table = NeuronSet.load(path).to_arrow()
        names = pa.array([name] * table.num_rows, pa.string())
        tables.append(table.add_column(0, "set", names))
    if not tables:
        raise ExportError("there are no neuron sets", str(source))
    return pa.concat_tables(tables, promote_options="permissive")
