"""One change for each statement of Python: the one that is hardest to notice of those that apply.

A condition is negated, a loop has no items, a handler catches nothing, a transaction is none. In a value, the last
comparison is turned round, else a number or a bool is changed, else SQL. Other calls and assignments are deleted; a
function returns None. Left out are imports, docstrings, types, logging, and the messages of what is raised.
"""

import ast
import re
from collections.abc import Iterator

from tests.mutation.changes import Change, change_sql

TURNED = {
    ast.Lt: ("<", ">="), ast.GtE: (">=", "<"), ast.Gt: (">", "<="), ast.LtE: ("<=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: (r"not\s+in", "in"), ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}  # fmt: skip
SIMPLE = (
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr, ast.Raise, ast.Break, ast.Continue, ast.Assert,
    ast.Delete,
)  # fmt: skip
Edit = tuple[int, int, bytes, str]  # from, to, text, kind


class _File:
    def __init__(self, source: bytes) -> None:
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.expr | ast.stmt) -> bytes:
        start, end = self.span(node)
        return self.source[start:end]


def changes(source: bytes) -> Iterator[Change]:
    """The changes of a module, from top to bottom."""
    file = _File(source)
    yield from sorted(_of_block(file, ast.parse(source), ""))


def _of_block(file: _File, block: ast.AST, function: str) -> Iterator[Change]:
    for node in ast.iter_child_nodes(block):
        inner = function
        if isinstance(node, ast.FunctionDef):
            inner = node.name
        elif isinstance(node, ast.stmt) and not _left_out(file, node):
            for begin, stop, (start, end, text, kind) in _edits(file, node):
                yield Change(begin, stop, start, end, text, kind, function)
        if not isinstance(node, ast.expr) and not (
            isinstance(node, ast.If) and b"TYPE_CHECKING" in file.text(node.test)
        ):
            yield from _of_block(file, node, inner)


def _left_out(file: _File, node: ast.stmt) -> bool:
    text = file.text(node)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or text.startswith(b"logger.")
    if isinstance(node, ast.AnnAssign):
        return node.value is None or ast.unparse(node.annotation) == "TypeAlias"
    if isinstance(node, ast.Assign):
        return bool(re.match(rb"(__\w+__|logger)\b|\w+ = TypeVar\(", text))
    return isinstance(node, ast.Raise) and b'"unreachable"' in text


def _edits(file: _File, node: ast.stmt) -> Iterator[tuple[int, int, Edit]]:
    begin, stop = file.span(node)
    if isinstance(node, ast.If | ast.While):
        start, end = file.span(node.test)
        yield begin, end, (start, end, b"not (" + file.source[start:end] + b")", "negated")
    elif isinstance(node, ast.For):
        yield begin, file.span(node.iter)[1], (*file.span(node.iter), b"()", "no items")
    elif isinstance(node, ast.With) and all(item.optional_vars is None for item in node.items):
        colon = file.source.index(b":", file.span(node.items[-1].context_expr)[1])
        yield begin, colon, (begin, colon, b"if True", "not entered")
    elif isinstance(node, ast.Try):
        for handler in node.handlers:
            if handler.type is not None:
                start, end = file.span(handler.type)
                yield start - len(b"except "), end, (start, end, b"()", "catches nothing")
    elif isinstance(value := getattr(node, "value", None), ast.Dict) and isinstance(node, ast.AnnAssign):
        for text in value.values:  # of statements of SQL by name
            start, end = file.span(text)
            yield start, end, (start, end, change_sql(file.text(text)) or b'"mutant"', "sql")
    elif isinstance(node, SIMPLE):
        yield begin, stop, _edit_simple(file, node)


def _edit_simple(file: _File, node: ast.stmt) -> Edit:  # noqa: PLR0911  a table of cases
    begin, stop = file.span(node)
    value = getattr(node, "value", None)
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Return) or value is None:
        return begin, stop, b"pass", "deleted"
    start, end = file.span(value)
    whole = file.source[start:end]
    turned = _turn_comparison(file, value)
    if turned is not None:
        return turned
    if isinstance(value, ast.Constant) and isinstance(value.value, bool):
        return start, end, str(not value.value).encode(), "turned round"
    if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
        return start, end, whole + b" + 1", "number"
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not):
        return start, end, b"bool(" + file.text(value.operand) + b")", "turned round"
    changed = change_sql(whole)
    if changed is not None:
        return start, end, changed, "sql"
    if isinstance(node, ast.Return):
        return start, end, b"None" if whole != b"None" else b"1", "other value"
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return start, end, b'"mutant"', "other value"
    return begin, stop, b"pass", "deleted"


def _turn_comparison(file: _File, value: ast.expr) -> Edit | None:
    found = [node for node in ast.walk(value) if isinstance(node, ast.Compare) and len(node.ops) == 1]
    if not found:
        return None
    last = max(found, key=lambda node: file.span(node.comparators[0]))
    start, end = file.span(last.left)[1], file.span(last.comparators[0])[0]
    old, new = TURNED[type(last.ops[0])]
    return start, end, re.sub(old.encode(), new.encode(), file.source[start:end], count=1), "turned round"
