"""Loading what people have: a name on the hub, a folder, a GGUF file, the embedded model."""

from broca.model.loading.fingerprint import fingerprint
from broca.model.loading.gguf import unmark
from broca.model.loading.load import load_module
from broca.model.loading.loaded import Loaded
from broca.model.loading.place import usual_place
from broca.model.loading.weights import check_finite

__all__ = ["Loaded", "check_finite", "fingerprint", "load_module", "unmark", "usual_place"]
