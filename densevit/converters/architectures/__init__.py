"""Every architecture of which other projects have weights: a new file here is found by itself, by its ARCHITECTURES.

A file holds one architecture: the names of its tensors and its configurations in each source (see
converters/config_spec.py), as data. A small one shows all that there is:

    KEYS = rules("!head. conv_stem.->stem. stage{+1}.fc.->layers.{}.")
    CONFIG = ConfigSpec("Toy", keys={"embed_dim": ("dim", 8), "layers": "depth"}, fixed={"in_chans": 3})
    ARCHITECTURES = (Architecture("Toy", {"timm": KEYS}, {"timm": {"toy_*": CONFIG}}),)
"""

import importlib
import pkgutil

from densevit.converters.config_spec import ARCHITECTURES

for found in pkgutil.iter_modules(__path__):
    module = importlib.import_module(f"{__name__}.{found.name}")
    ARCHITECTURES |= {made.name: made for made in getattr(module, "ARCHITECTURES", ())}
