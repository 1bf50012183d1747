"""The former home of `densevit.converters.import_model`."""

from densevit.converters.import_model import build, import_model  # noqa: F401
