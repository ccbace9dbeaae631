"""Loading what people have: a name on the hub, a folder, a GGUF file, the embedded model."""

from broca.model.loading.fingerprint import fingerprint
from broca.model.loading.load import load_module
from broca.model.loading.loaded import Loaded

__all__ = ["Loaded", "fingerprint", "load_module"]
