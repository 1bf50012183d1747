"""The configuration that mmdetection and MMEngine save as Python text: read as data, never run.

Only what a written-out configuration consists of is understood: literals, lists, tuples, dicts, `dict(...)`, names
bound earlier, signs and arithmetic of numbers, joined strings and repeated lists. Everything else (a call, an
attribute, an import) is refused where the model needs it, and not even looked at where it does not. So is a text that
would take more time or memory than a configuration needs: names that double each other, numbers of thousands of digits.
"""

import ast
import operator
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from densevit.errors import CheckpointError

ARITHMETIC = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}  # fmt: skip
LARGEST = 100_000
"""Longest list, tuple or string that text may ask for: `[0] * 10**12` is no configuration."""
LONGEST_TEXT, STEPS, DEEPEST = 1 << 20, 500_000, 200
"""Characters of a text, values that are read in it, and values within values."""
LARGEST_NUMBER = 1 << 64
SEQUENCES = (list, tuple, str)


class ConfigText(Mapping):
    """The top-level names of a configuration text; a name is read when it is asked for.

    Args:
        text: the Python source.
        where: what it belongs to, for messages.

    Raises:
        CheckpointError: the text is no Python, or a name that is asked for needs more than data.
    """

    def __init__(self, text: str, where: str):
        self.where, self._nodes, self._open = where, {}, set()
        self._text, self._steps, self._depth = text, 0, 0
        try:
            if len(text) > LONGEST_TEXT:
                raise ValueError(f"{len(text):,} characters are more than a configuration has")
            with warnings.catch_warnings(action="ignore"):  # of escapes such as "\\d"
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = str(error) or type(error).__name__
            raise CheckpointError(f"the configuration saved in {where} is no readable text: {reason}.") from error
        for statement in tree.body:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                self._nodes |= {target.id: statement.value for target in targets if isinstance(target, ast.Name)}

    def __getitem__(self, name: str) -> Any:
        node = self._nodes[name]
        if name in self._open:
            raise CheckpointError(f"the configuration saved in {self.where} defines {name!r} by itself.")
        self._open.add(name)
        try:
            return self._value(node)
        finally:
            self._open.discard(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def _refuse(self, node: ast.AST) -> CheckpointError:
        line = getattr(node, "lineno", 0)
        piece = (self._text.splitlines() or [""])[line - 1][getattr(node, "col_offset", 0) :]
        return CheckpointError(
            f"the configuration saved in {self.where} holds {piece[:60]!r} (line {line or '?'}), "
            f"which is more than data: it was not run, and the model cannot be built from it."
        )

    def _value(self, node: ast.AST) -> Any:
        before, self._steps, self._depth = self._steps, self._steps + 1, self._depth + 1
        if self._steps > STEPS or self._depth > DEEPEST:
            raise CheckpointError(
                f"the configuration saved in {self.where} grows beyond {STEPS:,} values or {DEEPEST} within each "
                f"other (line {getattr(node, 'lineno', '?')}): it was not read further."
            )
        value = self._read(node)
        self._depth -= 1
        if isinstance(node, ast.BinOp) and isinstance(value, SEQUENCES):  # of what is repeated, each counts
            self._steps += len(value) * (self._steps - before)
        elif isinstance(value, int) and abs(value) >= LARGEST_NUMBER:
            raise self._refuse(node)
        return value

    def _read(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return value
            case ast.List(elts=items):
                return [self._value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self._value(item) for item in items)
            case ast.Dict():
                return self._dict(node.keys, node.values)
            case ast.Name(id=name) if name in self._nodes:
                return self[name]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                value = self._value(operand)
                if isinstance(value, (int, float)):
                    return -value if isinstance(sign, ast.USub) else value
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                return self._arithmetic(node)
            case ast.Call(func=ast.Name(id="dict"), args=[] | [_]):
                # dict(other, key=value, **more)
                names = [None] * len(node.args) + [word.arg and ast.Constant(word.arg) for word in node.keywords]
                return self._dict(names, [*node.args, *(word.value for word in node.keywords)])
        raise self._refuse(node)

    def _dict(self, keys: list, values: list) -> dict:
        """keys: None for a value that is a dict itself, whose keys are taken."""
        result: dict = {}
        for key, value in zip(keys, values, strict=True):
            content = self._value(value)
            if key is not None:
                name = self._value(key)
                if not isinstance(name, (str, int, float, bool, type(None))):
                    raise self._refuse(key)
                result[name] = content
            elif isinstance(content, Mapping):
                result.update(content)
            else:
                raise self._refuse(value)
        return result

    def _arithmetic(self, node: ast.BinOp) -> Any:
        left, right = self._value(node.left), self._value(node.right)
        numbers = [isinstance(v, (int, float)) and not isinstance(v, bool) for v in (left, right)]
        if not all(numbers):
            items, times = (right, left) if numbers[0] else (left, right)
            repeated = isinstance(node.op, ast.Mult) and isinstance(items, SEQUENCES) and isinstance(times, int)
            repeated = repeated and any(numbers) and times * max(len(items), 1) <= LARGEST
            joined = isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, SEQUENCES)
            if not (repeated or joined):
                raise self._refuse(node)
        try:
            return ARITHMETIC[type(node.op)](left, right)
        except (ArithmeticError, ValueError) as error:
            raise self._refuse(node) from error
