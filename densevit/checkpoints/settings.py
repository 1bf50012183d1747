"""Reads a foreign configuration so that no key of it is passed over in silence."""

from collections.abc import Collection, Mapping
from typing import Any

from densevit.errors import ConfigError, nearest

MISSING = object()


class NotBuilt(ConfigError):
    """A model or a part of one that densevit has no counterpart of (yet)."""


class Settings:
    """One `dict(type=..., ...)` of a foreign configuration.

    Each key is taken once; `done` names the keys that nobody took. `where` is the dict's place, for messages.
    """

    def __init__(self, config: Mapping[str, Any], where: str):
        if not isinstance(config, Mapping):
            raise ConfigError(f"{where} is {config!r}, where a dict of settings was expected.")
        self.left, self.where, self.known = dict(config), where, ["type"]
        self.type = self.left.pop("type", self.left.pop("_target_", None))  # detectron2 writes `_target_`
        if isinstance(self.type, str):  # 'mmdet.RetinaNet', 'mmdet.models.detectors.retinanet.RetinaNet'
            self.type = self.type.rsplit(".", 1)[-1]

    def take(self, key: str, default: Any = MISSING) -> Any:
        """The value of `key`; without a default it must be there."""
        self.known.append(key)
        if key in self.left:
            return self.left.pop(key)
        if default is MISSING:
            raise ConfigError(f"{self.where} lacks {key!r}, which densevit needs to build the same model.")
        return default

    def part(self, key: str, default: Any = MISSING) -> "Settings":
        """The settings of the part under `key`."""
        return Settings(self.take(key, default), f"{self.where}.{key}")

    def expect(self, key: str, default: Any, allowed: Collection[Any] = ()) -> Any:
        """A key that densevit has one value for: anything but the default (or one of `allowed`) is refused."""
        value = self.take(key, default)
        if not any(_same(value, other) for other in (default, *allowed)):
            raise ConfigError(f"{self.where}.{key} is {value!r}; densevit has {default!r} there and nothing else.")
        return value

    def ignore(self, *keys: str) -> None:
        """Keys that change nothing about the model: they are read and left."""
        for key in keys:
            self.take(key, None)

    def done(self) -> None:
        """Raise ConfigError for the first key that nobody took."""
        for key, value in self.left.items():
            close = nearest(key, self.known)
            raise ConfigError(f"{self.where} has the key {key!r} (= {value!r}), which densevit does not know{close}.")


def _same(a: Any, b: Any) -> bool:
    """Equal, lists and tuples alike."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b and isinstance(a, bool) == isinstance(b, bool)
