"""`broca play`: a page over a local server on which a neuron set is tried with one's own prompt.

The files, in the order in which a request passes them: `server` (address, guard) -> `routes` ->
`state` (what a page may ask for, with its limits) -> `jobs` (one model, one lock, a queue that is
told about and can be left) -> `editing`, `finding`, `looking` (what is computed) -> `keeping`
(links, files, code). `material` is what the server was started with. The page itself is
`templates`.
"""

from __future__ import annotations

from broca.play.material import Material
from broca.play.server import Address, Serving, make_app, serve

__all__ = ["Address", "Material", "Serving", "make_app", "serve"]
