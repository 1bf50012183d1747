"""Weights and configurations of other projects: recognized, renamed, loaded with a report; whole models imported."""

from densevit.converters.import_model import ImportedModel, build, import_model, translate
from densevit.converters.load_weights import Pretrained, load_weights

__all__ = ["ImportedModel", "Pretrained", "build", "import_model", "load_weights", "translate"]
