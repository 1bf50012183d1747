"""Which parts of a model a config's `frozen` names."""

import re

from torch import nn

from densevit.errors import ConfigError, suggest

RANGE = re.compile(r"(\d+)-(\d+)")


def resolve_modules(model: nn.Module, name: str) -> list[nn.Module | nn.Parameter]:
    """The modules or parameters that a dotted name means: 'backbone', 'backbone.pos_embed', or several of a list by
    the first and the last, 'backbone.blocks.0-5'.

    Raises ConfigError where a step leads nowhere.
    """
    found: list[nn.Module | nn.Parameter] = [model]
    for i, step in enumerate(steps := name.split(".")):
        between = RANGE.fullmatch(step)
        numbers = range(int(between[1]), int(between[2]) + 1) if between else ()
        wanted = [str(n) for n in numbers] or [step]
        inside = []
        for part in found:
            known = _inside(part)
            for key in wanted:
                if key not in known:
                    location = "model" + "".join(f".{before}" for before in steps[:i])
                    raise ConfigError(
                        f"model.frozen names {name!r}, but {location} has no {key!r}{suggest(key, known)}: choose from "
                        f"{', '.join(known) or 'nothing'}"
                    )
                inside.append(known[key])
        found = inside
    return found


def _inside(part: nn.Module | nn.Parameter) -> dict[str, nn.Module | nn.Parameter]:
    """The modules and parameters right in a part, by name."""
    if isinstance(part, nn.Parameter):
        return {}
    return {**dict(part.named_children()), **dict(part.named_parameters(recurse=False))}
