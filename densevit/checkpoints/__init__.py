"""Weights of others: recognised, renamed, loaded with a receipt; models built from the configurations they carry."""

from densevit.checkpoints.importing import build, import_model
from densevit.checkpoints.loading import load_weights
from densevit.checkpoints.pretrained import Pretrained, resolve
from densevit.checkpoints.receipt import Receipt
from densevit.checkpoints.translating import translate

__all__ = ["Pretrained", "Receipt", "build", "import_model", "load_weights", "resolve", "translate"]
