"""Reads MMEngine config files and checks every key and value before anything is built.

Config files are Python and are run when they are read: read only files that you trust. YAML and JSON files are data:
nothing in them is run, and they name registered parts alone. torch is imported only when a config is checked.
"""

import ast
import contextlib
import copy
import os
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevit.engine.config_keys import OUR_KEYS, TOP_LEVEL, check_top_level
from densevit.engine.mmengine_patches import base_files, mark_base_variables, merge_base, patch_config
from densevit.errors import ConfigError, suggest
from densevit.plain_data import parse_json, parse_yaml, read_text

if TYPE_CHECKING:
    from mmengine.config import Config

PACKAGE = Path(__file__).resolve().parents[1]
DATA = (".json", ".yaml", ".yml")
MOST_BASES = 50
ENVIRONMENT = re.compile(r"\{\{['\"]?\s*\$(\w+)\s*:\s*([^\s{}]*)\s*['\"]?\}\}")
"""MMEngine's `{{$NAME:default}}`."""


def _shipped_folder() -> Path:
    """`densevit/configs` of an installed wheel, or the repository's `configs/` beside the package."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def shipped_configs() -> list[str]:
    """The names of the recipes that come with densevit."""
    return sorted(path.stem for path in _shipped_folder().glob("*.py") if not path.stem.startswith("_"))


def config_path(name: str) -> Path:
    """The file of a shipped recipe.

    Args:
        name: 'pvt_retinanet_coco', with or without '.py'.

    Raises:
        ConfigError: no recipe of this name; the nearest is named.
    """
    name = name.removesuffix(".py")
    path = _shipped_folder() / f"{name}.py"
    if not path.is_file() or name.startswith("_"):
        known = shipped_configs()
        there = ", ".join(known) or "none"
        raise ConfigError(f"no recipe named {name!r} comes with densevit{suggest(name, known)}; there are: {there}.")
    return path


def read_config(
    path: str | Path, options: dict[str, Any] | None = None, data_root: str | Path | None = None
) -> "Config":
    """Read a config file, apply the options of the command line, and check the result.

    Args:
        path: a file, or the name of a shipped recipe.
        options: override config values, by dotted key: {'model.backbone.arch': 'small'}; list elements by their index.
        data_root: the folder of the data, instead of the file's.

    Returns:
        Config: MMEngine's, without the variables that only the file itself uses.

    Raises:
        ConfigError: no such file; an error in the file; an unknown key, type or argument, with the nearest known one.
    """
    patch_config()
    from mmengine.config import Config

    file = _existing(path)
    data = file.suffix in DATA
    try:
        if data:
            config = Config(_read_data(file.absolute(), [], []), cfg_text=read_text(file), filename=str(file))
        else:
            config = Config.fromfile(str(file), import_custom_modules=False)
    except ConfigError:
        raise
    except SyntaxError as error:
        raise ConfigError(_syntax_sentence(file, error)) from error
    except Exception as error:  # whatever the file's own statements raise
        raise ConfigError(_reading_sentence(file, error)) from error
    _drop_variables(config, file, options or {})
    if options:
        _apply(config, options)
    if data_root is not None:
        _move_data(config, str(data_root))
    check_top_level(str(file), config, options or {})
    from densevit.engine.config_checks import ConfigChecker

    ConfigChecker(str(file), options or {}, data).check(config.to_dict())
    return config


def parse_options(pairs: list[str] | None) -> dict[str, Any]:
    """`--cfg-options` as typed: ['a.b=1', 'c=[1, 2]', 'd=x,y'] -> {'a.b': 1, 'c': [1, 2], 'd': ['x', 'y']}.

    Values are Python literals and `dict(...)`, or MMEngine's forms: words without quotes, also in lists and tuples, and
    lists without brackets. Values that the shell split within brackets are joined again.

    Raises:
        ConfigError: a part without '=', or with brackets that do not match.
    """
    patch_config()
    joined: list[str] = []
    for pair in pairs or []:
        within = joined and sum(map(joined[-1].count, "([{")) > sum(map(joined[-1].count, ")]}"))
        joined[-1:] = [f"{joined[-1]} {pair}"] if within else [*joined[-1:], pair]
    options = {}
    for pair in joined:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--cfg-options {pair!r} is not of the form KEY=VALUE, such as train_cfg.max_epochs=3.")
        try:
            options[key.strip()] = _option(text.strip())
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--cfg-options {pair!r}: the value cannot be read ({error}).") from error
    return options


def _option(text: str) -> Any:
    """The value of one option. Raises ValueError."""
    try:
        tree = ast.parse(f"[{text}]", mode="eval").body  # in brackets: `1,2` is a list, `(1,2)` is not
        values = ast.literal_eval(_DictCalls().visit(tree)) if isinstance(tree, ast.List) else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        values = None
    if values and not any(isinstance(value, (complex, bytes, set, type(...))) for value in values):
        quoted = isinstance(values[0], str) and values[0][:1] + values[0][-1:] in ("[]", "()")
        if len(values) > 1 or text.endswith(","):
            return values
        if quoted:  # MMEngine's key="[a,b]", whose quotes the shell has kept
            return _option(values[0])
        return values[0] if text[0] != "(" or isinstance(values[0], tuple) else tuple(values)  # and its (1)
    if text.startswith(("{", "dict(")):
        raise ValueError("it is no dictionary of Python")
    parts, enclosed = _split(text), text[:1] + text[-1:] in ("[]", "()") and len(_split(text)) == 1
    if enclosed:
        parts = _split(text[1:-1])
    elif len(parts) == 1:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        return {"true": True, "false": False}.get(text.lower(), text)
    values = [_option(part) for part in parts if part]
    return tuple(values) if enclosed and text[0] == "(" else values


class _DictCalls(ast.NodeTransformer):
    """`dict(a=1)` as `{'a': 1}`, which literal_eval takes."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if getattr(node.func, "id", "") != "dict" or node.args or not all(word.arg for word in node.keywords):
            return node
        return ast.Dict([ast.Constant(word.arg) for word in node.keywords], [word.value for word in node.keywords])


def _split(text: str) -> list[str]:
    """The text split at commas outside of brackets and quotes. Raises ValueError."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"" and not parts[-1].strip("([{ "):
            quote = sign
        else:
            depth += (sign in "([{") - (sign in ")]}")
            if sign == "," and not depth:
                parts.append("")
                continue
        parts[-1] += sign
    if depth or quote:
        raise ValueError("brackets or quotes do not match")
    return [part.strip() for part in parts]


def _read_data(file: Path, chain: list[Path], read: list[Path]) -> dict[str, Any]:
    """The settings of a YAML or JSON file merged over those of its bases, which have to be data as well.

    Args:
        file: its absolute path.
        chain: the files that it is a base of.
        read: all files read so far.
    """
    if file.suffix not in DATA:
        raise ConfigError(f"{chain[-1]}: its _base_ {file} is not {' or '.join(DATA)}: data builds on data alone.")
    if file in chain or len(read) >= MOST_BASES:
        raise ConfigError(f"{file} is its own _base_, or has more than {MOST_BASES} of them: take some out.")
    read.append(file)
    known = dict(fileDirname=str(file.parent), fileBasename=file.name, fileBasenameNoExtension=file.stem)
    known["fileExtname"] = file.suffix
    text = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: known.get(found[1], found[0]), read_text(file))
    text = ENVIRONMENT.sub(lambda found: os.environ.get(found[1]) or found[2], text)
    text, references = mark_base_variables(text)
    try:
        content = parse_json(text) if file.suffix == ".json" else parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{file} cannot be read: {error}; correct the config file.") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{file} holds no settings by name; correct the config file.")
    bases, found = content.get("_base_", []), {}
    for base in [bases] if isinstance(bases, str) else bases:
        below = _read_data((file.parent / str(base)).resolve(), [*chain, file], read)
        if twice := found.keys() & below.keys():
            raise ConfigError(f"{file}: two of its bases state the same key: {', '.join(sorted(twice))}.")
        found |= below
    return merge_base(content, references, found)


def _existing(path: str | Path) -> Path:
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if file.parent == Path(".") and file.suffix in ("", ".py") and file.stem in shipped_configs():
        return config_path(file.stem)
    known = shipped_configs()
    raise ConfigError(
        f"config {str(path)!r} is neither a file (looked at {file.absolute()}) nor a recipe that comes with densevit"
        f"{suggest(file.stem, known)}; there are: {', '.join(known) or 'none'}."
    )


def _syntax_sentence(file: Path, error: SyntaxError) -> str:
    # MMEngine's own message holds the original one, "(<unknown>, line 3)" included
    line = error.lineno or next(iter(re.findall(r"line (\d+)", str(error))), "?")
    reason = re.sub(r"^.*config file \S+: ", "", error.msg or str(error))
    reason = re.sub(r" \(.*line \d+\)$", "", reason)
    return f"{error.filename or file}, line {line}: {reason}; correct the config file."


def _reading_sentence(file: Path, error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"{file}: its _base_ cannot be read: {text}; correct the path, which is relative to the file."
    if isinstance(error, KeyError) and "Duplicate key" in text:
        return f"{file}: two of its bases state the same key: {text}."
    # the statements of a config run at module level, nothing else below read_config does
    frames = traceback.extract_tb(error.__traceback__)
    inside = next((f for f in frames if f.name == "<module>"), None)
    location = f"{inside.filename}, line {inside.lineno}" if inside else str(file)
    return f"{location}: {type(error).__name__}: {text}; correct the config file."


def _sources(file: Path) -> list[Path]:
    """A config file and all of its bases."""
    bases = base_files(file) if file.suffix == ".py" else []
    return [file, *(source for base in bases for source in _sources(base))]


def config_files(config: "Config") -> list[Path]:
    """The file of a config and those of its bases; none where it was made in Python."""
    return _sources(Path(config.filename)) if config.filename and Path(config.filename).is_file() else []


def _own_names(files: list[Path]) -> set[str]:
    """Names that only the config files themselves use: variables that they read (`x` in an expression, `_base_.x`,
    `{{_base_.x}}`), imports, functions, classes, loop variables."""
    found: set[str] = set()
    for file in files:
        text = read_text(file)
        found |= set(re.findall(r"_base_\.(\w+)", text))
        if file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(re.sub(r"\{\{.*?\}\}", "None", text))):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, ast.alias):
                found.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.For):
                found |= {target.id for target in ast.walk(node.target) if isinstance(target, ast.Name)}
    return found


def _drop_variables(config: "Config", file: Path, options: dict[str, Any]) -> None:
    """Remove the variables that only the file itself uses, such as `train_pipeline`.

    Setting one from the command line is an error, as the file has used it already.
    """
    own = _own_names(_sources(file))
    dropped = [k for k in config if k not in TOP_LEVEL and (k in own or k.startswith("_"))]
    for key in dropped:
        config.pop(key)
    for key in options:
        if key.split(".")[0] in dropped:
            way = "use --data-root" if key == "data_root" else "change the settings that use it, or the file"
            raise ConfigError(
                f"--cfg-options {key}: {key.split('.')[0]} is a variable inside {file}, and changing it after the file "
                f"has been read does nothing; {way}."
            )


def _apply(config: "Config", options: dict[str, Any]) -> None:
    for key, value in options.items():
        # a switch that is False in the file may be given settings: ema.momentum=0.001
        top = key.split(".")[0]
        if "." in key and top in OUR_KEYS and not isinstance(config.get(top), dict):
            config[top] = {}
        try:
            config.merge_from_dict({key: copy.deepcopy(value)})  # which takes _delete_ out of it
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ConfigError(f"--cfg-options {key} does not fit the config: {reason}.") from error


def _move_data(config: "Config", root: str) -> None:
    """Replace every `data_root` by `root`, also at the start of other paths, such as an ann_file."""
    former: set[str] = set()

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            for key, item in list(value.items()):
                if key == "data_root" and isinstance(item, str):
                    former.add(item.rstrip("/"))
                    value[key] = root
                else:
                    value[key] = walk(item)
        elif isinstance(value, (list, tuple)):
            return type(value)(walk(item) for item in value)
        elif isinstance(value, str):
            for old in former:
                if value.startswith(old + "/"):
                    return root.rstrip("/") + value[len(old) :]
        return value

    for _ in range(2):  # paths may come before the first data_root
        for key in list(config):
            config[key] = walk(config[key])
    if not former:
        raise ConfigError(f"--data-root {root}: the config names no data_root; set the datasets' own paths in it.")
