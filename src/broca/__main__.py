"""`broca` on the command line: exit 0 when done, 2 for a mistake, 130 when interrupted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process.

    Args:
        arguments: What was typed after `broca`; the process's own arguments by default.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # other packages' bars, drawn into files
    from broca.cli import run_cli

    sys.exit(run_cli(sys.argv[1:] if arguments is None else list(arguments)))


if __name__ == "__main__":
    main()
