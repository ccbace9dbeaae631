"""The commands put together, and how mistakes end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import typer

from broca.cli import (
    ask,
    bench,
    build,
    check,
    demo,
    edit,
    export,
    find,
    inspect,
    listing,
    neuron,
    play,
    report,
    run,
)
from broca.cli.output import complain, say
from broca.errors import BrocaError, PromptError

app = typer.Typer(
    name="broca",
    help="Find, measure and edit the neurons of large language models in which knowledge sits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(
    show_version: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    if show_version:
        typer.echo(version("broca"))
        raise typer.Exit()


app.add_typer(bench.app, name="bench")
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.add_typer(find.app, name="find")
app.add_typer(build.app, name="build")
app.command("ask")(ask.ask)
app.command("neuron")(neuron.neuron)
app.command("play")(play.play)
app.command("edit")(edit.edit)
app.command("inspect")(inspect.inspect)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("check")(check.check)
app.command("ls")(listing.ls)


def require_unicode(arguments: Sequence[str]) -> None:
    """Refuse words of a command that are no Unicode text: bytes of another encoding.

    Raises:
        PromptError: With the word.
    """
    for word in arguments:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            mend = "Give it in UTF-8"
            raise PromptError("a word of the command is no UTF-8", ascii(word), mend) from None


def run_cli(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code.

    A mistake of the user's is told in words on standard error, without a traceback.
    """
    try:
        require_unicode(arguments)
        return int(app(list(arguments), prog_name="broca", standalone_mode=False) or 0)
    except BrocaError as error:
        complain(error)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        say("Interrupted.")
        return 130
    except BrokenPipeError:  # whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a name that is too long, no right, no space
        where = None if error.filename is None else str(error.filename)
        mend = "Give a path that can be read or written"
        complain(BrocaError(f"the system refuses: {error.strerror or error}", where, mend))
        return 2
    except Exception as error:
        # A mistyped command. Its class is click's or typer's own copy of it, by version.
        show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if show is None or exit_code is None:
            raise
        show()
        return exit_code
