"""Names as file names: one rule, reversible, that holds on every file system.

1. Letters, digits, `_`, `-` and spaces stand as they are, but for spaces at the ends and a first
   `-`. Every other sign becomes its UTF-8 bytes as `%2f`, also a first letter where Windows
   reserves the whole name (`CON`).
2. A name with capitals ends in `~` and a hexadecimal number whose bits say which letters they are,
   so that names equal but for case differ where file systems do not tell case.
3. A long name becomes folders of at most 120 letters each; all but the last end in `+`.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from broca.errors import RunError

LONGEST = 120
_PLAIN = re.compile(r"[A-Za-z0-9_ -]")
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$", re.IGNORECASE)


def file_name(name: str, ending: str = "") -> PurePosixPath:
    """The relative path of a name.

    Args:
        name: Any text that is not empty.
        ending: Of the file, such as ".json".

    Raises:
        RunError: The name is empty.
    """
    if not name:
        raise RunError("a name is empty", mend="Give a name with at least one letter")
    signs = [sign if _PLAIN.fullmatch(sign) else _escaped(sign) for sign in name]
    if _RESERVED.fullmatch(name):
        signs[0] = _escaped(name[0])
    for end, signs_there in ((0, " -"), (-1, " ")):
        if signs[end] in signs_there:
            signs[end] = _escaped(signs[end])
    text = "".join(signs)
    capitals = sum(1 << place for place, sign in enumerate(text) if "A" <= sign <= "Z")
    text += f"~{capitals:x}" if capitals else ""
    *folders, last = (text[at : at + LONGEST] for at in range(0, len(text), LONGEST))
    return PurePosixPath(*(f"{folder}+" for folder in folders), f"{last}{ending}")


def _escaped(sign: str) -> str:
    return "".join(f"%{byte:02x}" for byte in sign.encode("utf-8", "surrogatepass"))


def name_of(path: Path | PurePosixPath, ending: str = "") -> str:
    """The name a relative path stands for; undoes `file_name`."""
    *folders, last = path.parts
    text = "".join(folder.removesuffix("+") for folder in folders) + last.removesuffix(ending)
    return unquote(text.partition("~")[0], errors="surrogatepass")
