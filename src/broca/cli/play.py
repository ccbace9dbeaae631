"""`broca play`: a page on which neuron sets are tried with one's own prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broca.cli.output import say, show

if TYPE_CHECKING:
    from broca.play import Material


def play(
    model: Annotated[
        str | None,
        typer.Option(
            help="Hub name, folder, .gguf file, adapter folder, or 'atlas'; the run's by default."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Run folder, or what `find relations` wrote: its sets and prompts."),
    ] = None,
    sets: Annotated[
        list[Path] | None, typer.Option("--set", help="Neuron set to offer; repeatable.")
    ] = None,
    facts: Annotated[
        str, typer.Option(help="Facts to choose from: folder, file, 'lre', 'atlas', auto, none.")
    ] = "auto",
    questions: Annotated[str | None, typer.Option(help="Questions to choose from.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the sets made on the page; `made` in the run by default."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.", min=0, max=65535)] = 8642,
    host: Annotated[
        str, typer.Option(help="Where to listen; off loopback a token is asked for.")
    ] = "127.0.0.1",
    dtype: Annotated[str, typer.Option(help="As in transformers.")] = "auto",
    threads: Annotated[
        int,
        typer.Option(
            help="Threads to compute with; 0: one for a small model; for a large one as many as "
            "torch takes, if that is faster.",
            min=0,
        ),
    ] = 0,
) -> None:
    """Serve a page that asks, edits, finds and keeps, with chance beside every effect."""
    _require_extra()
    from broca.model import LanguageModel
    from broca.model.loading import usual_place
    from broca.play import Address, Material, serve
    from broca.play.server import bind

    address = Address.of(host, port)
    bind(address).close()  # a port that is taken is told before a model is loaded
    name = model or _model_of(run)
    loaded = LanguageModel.from_pretrained(name, dtype=dtype, device_map=usual_place(name))
    material = Material.load(
        loaded,
        run=run,
        sets=sets or [],
        facts=None if facts == "none" else facts,
        questions=questions,
        out=out,
    )
    _introduce(material)
    serve(material, address, lambda url: show(f"Open {url}"), threads or None)


def _require_extra() -> None:
    """Refuse where the server's packages are missing.

    Raises:
        PlayError: With what to install.
    """
    from importlib.util import find_spec

    from broca.errors import PlayError

    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise PlayError(
            f"{' and '.join(missing)} not installed", mend='Install them: pip install "broca[play]"'
        )


def _model_of(run: Path | None) -> str:
    """The model that a run studied, atlas without one."""
    from broca.store import RunFolder, reads_as_run

    if run is None or not reads_as_run(run):
        return "atlas"
    return str(RunFolder.open(run).environment["model"])


def _introduce(material: Material) -> None:
    for notice in material.notices:
        say(notice)
    count = sum(1 for _ in material.names())
    say(f"{material.model.name}: {count:,} neuron sets, {len(material.relations):,} relations.")
    say("Ctrl-C ends the server.")
