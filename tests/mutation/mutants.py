"""The mutants of a module: every small change of its syntax tree that a test ought to notice.

Why not a library: cosmic-ray's operators turn one ``+`` into eleven mutants, change annotations too (which no test can
notice), and have none for what a core mostly consists of: rows of tables, texts, statements, guards, what is returned.
Its runner edits files and starts a shell and a Python for each mutant; ours (``runner.py``) forks a warm process.

Changed are: comparisons, arithmetic, ``and``/``or``/``not``, conditions (always, never), numbers (one more, one less),
texts, flags, members of an enumeration, rows of a table (removed, or with the value of another row), elements, slices,
statements and calls (removed), what is returned, what is caught, loops (not run), cases of a ``match``.

Not changed are: annotations, docstrings, decorators, base classes, imports, ``__all__``, type aliases, assertions, log
calls, the prose of an error (its reason is), and what runs only under ``TYPE_CHECKING`` or as a program.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
_OTHER_CALL = {"min": "max", "max": "min", "any": "all", "all": "any"}
_CONVERSIONS = frozenset(
    (
        "bool",
        "bytes",
        "cast",
        "dict",
        "float",
        "frozenset",
        "int",
        "iter",
        "len",
        "list",
        "set",
        "str",
        "super",
        "tuple",
    )
)
"""Without one of these a value is often the same to every reader: its removal says nothing."""
_LOGS = frozenset(("log", "logger", "logging"))
_NOT_VISITED = frozenset(("annotation", "returns", "decorator_list", "bases", "format_spec", "cause"))
_ALIAS = re.compile(r"(_?[A-Z][a-z]\w*|_?[A-Z]|log|__all__)\Z")
_MEMBER = re.compile(r"[A-Z][A-Z0-9_]+\Z")
_QUERY = re.compile(r"\b(SELECT|UPDATE|DELETE|WHERE|status) ")
_QUERY_CHANGES = (
    *((r"\b0\b", "1"), (r"\b1\b", "2"), (r" < ", " <= "), (r" > ", " >= "), (r"\bMIN\b", "MAX"), (r"\bMAX\b", "MIN")),
    *((r" AND ", " OR "), (r" ORDER BY \w+( DESC)?", " "), (r" DESC", " "), (r" OR IGNORE| OR REPLACE", "")),
)
"""What is changed in a text that is SQL (a tilde more would be no SQL at all): pattern, replacement."""
_SMALL = ast.expr | ast.arguments | ast.keyword | ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return
"""Shown around a constant, which says little alone."""

Change = tuple[ast.AST | None, str]
"""What stands in the place of a node (None: nothing does), and the change in words."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: ``field`` of ``owner``, a node of the module's tree, becomes ``value``.

    ``scope`` is the class and function ("" at module level); with ``change`` it names the mutant, wherever the line
    moves to.
    """

    module: str
    path: Path
    line: int
    scope: str
    change: str
    tree: ast.Module
    owner: ast.AST
    field: str
    value: object

    def compiled(self) -> CodeType:
        """The changed module; the tree is left as it was."""
        before = getattr(self.owner, self.field)
        setattr(self.owner, self.field, self.value)
        try:
            return compile(ast.fix_missing_locations(self.tree), str(self.path), "exec")
        finally:
            setattr(self.owner, self.field, before)


def mutants_of(module: str, path: Path) -> list[Mutant]:
    """Every mutant of a source file, in the order of lines. Raises OSError, SyntaxError."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    finder = _Finder(module, path, tree)
    finder.walk(tree, ())
    return sorted(finder.found, key=lambda mutant: mutant.line)


class _Finder:
    """Walks one module's tree; ``found`` grows."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self.found: list[Mutant] = []
        self._module, self._path, self._tree = module, path, tree
        self._members = _members(tree)

    def walk(self, node: ast.AST, scope: tuple[str, ...]) -> None:
        """Find the changes of everything below ``node``."""
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            scope = (*scope, node.name)
        for field, content in ast.iter_fields(node):
            if field in _NOT_VISITED or (field == "keywords" and isinstance(node, ast.ClassDef)):
                continue
            children = content if isinstance(content, list) else [content]
            for index, child in enumerate(children):
                if not isinstance(child, ast.AST) or _is_left_alone(child, node):
                    continue
                bare = isinstance(child, ast.Constant) and isinstance(node, _SMALL) and " " not in str(child.value)
                place = f" in {_parameter(node, field, index) or _text(node)}" if bare else ""
                for new, words in self._changes(child, node, field):
                    value: object = new
                    if isinstance(content, list):
                        value = [*children[:index], *([] if new is None else [new]), *children[index + 1 :]]
                    line = getattr(child, "lineno", None) or getattr(node, "lineno", 0)
                    if isinstance(child, ast.match_case):
                        line = child.pattern.lineno
                    self.found.append(
                        Mutant(
                            *(
                                self._module,
                                self._path,
                                line,
                                ".".join(scope),
                                words or f"{_text(child)} -> {_text(new)}{place}",
                            ),
                            *(self._tree, node, field, value),
                        )
                    )
                self.walk(child, scope)

    def _changes(self, node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
        """What may stand in the place of ``node``; no words: both are shown."""
        yield from _in_its_place(node, parent, field)
        match node:
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                for index, op in enumerate(ops):
                    for other in _COMPARISONS[type(op)]:
                        yield ast.Compare(left, [*ops[:index], other(), *ops[index + 1 :]], comparators), ""
            case ast.BinOp(left=left, op=op, right=right):
                yield ast.BinOp(left, _OPERATORS[type(op)](), right), ""
            case ast.BoolOp(op=op, values=values):
                yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values), ""
                for index in range(len(values)):
                    rest = values[:index] + values[index + 1 :]
                    yield (rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)), ""
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield operand, ""
            case ast.IfExp(body=body, orelse=orelse):
                yield body, ""
                yield orelse, ""
            case ast.Constant(value=value):
                for other_value in _other_constants(value):
                    yield ast.Constant(other_value), ""
            case ast.JoinedStr(values=values):
                yield ast.JoinedStr([*values, ast.Constant("~")]), f"{_text(node)} -> another text"
            case ast.Attribute(value=ast.Name(id=base), attr=attr) if member := self._other_member(base, attr):
                yield ast.Attribute(node.value, member, node.ctx), ""
            case ast.Call(func=ast.Name(id=name), args=[first, *_]):
                if name in _OTHER_CALL:
                    renamed = copy.copy(node)
                    renamed.func = ast.Name(_OTHER_CALL[name], ast.Load())
                    yield renamed, ""
                elif name.lstrip("_")[:1].islower() and name not in _CONVERSIONS and not isinstance(first, ast.Starred):
                    yield first, ""
            case ast.Slice(lower=lower, upper=upper, step=step):
                if lower is not None:
                    yield ast.Slice(None, upper, step), ""
                if upper is not None:
                    yield ast.Slice(lower, None, step), ""
            case ast.Dict():
                yield from _other_rows(node)
            case ast.ExceptHandler(type=kind, name=name, body=body) if kind is not None:
                yield ast.ExceptHandler(ast.Tuple([], ast.Load()), name, body), f"except {_text(kind)} -> except ()"
            case ast.stmt():
                yield from _other_statements(node)

    def _other_member(self, base: str, attr: str) -> str | None:
        """The next member of the same enumeration that the module names."""
        members = self._members[base]
        return members[(members.index(attr) + 1) % len(members)] if attr in members and len(members) > 1 else None


def _parameter(node: ast.AST, field: str, index: int) -> str:
    """The parameter whose default stands at an index; "" for what are no parameters."""
    if not isinstance(node, ast.arguments):
        return ""
    named = node.kwonlyargs if field == "kw_defaults" else [*node.posonlyargs, *node.args][-len(node.defaults) :]
    return named[index].arg


def _in_its_place(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    """Changes that depend on where a node stands: conditions, what a loop runs over, elements."""
    match parent, field:
        case ast.If(), "test":
            yield ast.Constant(True), f"if {_text(node)} -> always"
            yield ast.Constant(False), f"if {_text(node)} -> never"
        case ast.While(), "test":  # always: most such loops hang, which says little
            yield ast.Constant(False), f"while {_text(node)} -> never"
        case ast.For(), "iter":
            yield ast.Tuple([], ast.Load()), f"for ... in {_text(node)} -> in nothing"
        case ast.comprehension(), "ifs":
            yield None, f"... if {_text(node)} -> of all"
        case ast.match_case(), "guard":
            yield None, f"case ... if {_text(node)} -> without condition"
        case ast.Match(cases=cases), "cases" if isinstance(node, ast.match_case) and len(cases) > 1:
            yield None, f"case {_text(node.pattern)} -> no case"
        case ((ast.List(ctx=ast.Load()) | ast.Set()), "elts"):
            if not isinstance(parent, ast.Set) or len(parent.elts) > 1:
                yield None, f"element {_text(node)} -> removed"
        case ast.Tuple(), "elts" if getattr(parent, "enumerates", False):
            yield None, f"element {_text(node)} -> removed"
    if isinstance(node, ast.Tuple) and _enumerates(parent, field):
        node.enumerates = True  # for the elements, which are visited next


def _enumerates(parent: ast.AST, field: str) -> bool:
    """Whether a tuple in this place lists things of one kind. Others are records: each part is needed to run at all."""
    match parent:
        case ast.For() | ast.comprehension():
            return field == "iter"
        case ast.Call(func=ast.Name(id=name)):
            return name in ("frozenset", "set")
        case ast.Compare(ops=[ast.In() | ast.NotIn()]):
            return field == "comparators"
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name.isupper()
    return False


def _other_constants(value: object) -> Iterator[object]:
    match value:
        case bool():
            yield not value
        case int() | float():
            yield from (value + 1, value - 1)
        case str() if _QUERY.search(value):
            yield from (re.sub(*change, value, count=1) for change in _QUERY_CHANGES if re.search(change[0], value))
        case str():
            yield value + "~"
        case bytes():
            yield value + b"~"


def _other_rows(table: ast.Dict) -> Iterator[Change]:
    texts = [_text(value) for value in table.values]
    count = len(texts)
    for index, key in enumerate(table.keys):
        row = f"{_text(key)}: {texts[index]}" if key else f"**{texts[index]}"
        fewer = ast.Dict(table.keys[:index] + table.keys[index + 1 :], table.values[:index] + table.values[index + 1 :])
        yield fewer, f"row {row} -> removed"
        others = [n % count for n in range(index + 1, index + count) if key and table.keys[n % count]]
        for other in [n for n in others if texts[n] != texts[index]][:1]:
            values = [*table.values[:index], table.values[other], *table.values[index + 1 :]]
            yield ast.Dict(table.keys, values), f"row {row} -> {texts[other]}"


def _other_statements(node: ast.stmt) -> Iterator[Change]:
    nothing = ast.Pass()
    match node:
        case ast.Return(value=value) if value is not None and _text(value) != "None":
            yield ast.Return(ast.Constant(None)), ""
        case ast.AugAssign(target=target, op=op, value=value):
            yield ast.AugAssign(target, _OPERATORS[type(op)](), value), ""
            yield nothing, f"{_text(node)} -> removed"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.Raise() | ast.Delete() | ast.Expr():
            yield nothing, f"{_text(node)} -> removed"
        case ast.AnnAssign(target=ast.Attribute(), value=value) if value is not None:
            yield nothing, f"{_text(node)} -> removed"
        case ast.Continue():
            yield ast.Break(), ""
            yield nothing, "continue -> removed"
        case ast.Break():
            yield nothing, "break -> removed"


def _is_left_alone(node: ast.AST, parent: ast.AST) -> bool:
    """What no test should have to notice; see the module."""
    match node:
        case (
            ast.Import()
            | ast.ImportFrom()
            | ast.Assert()
            | ast.Global()
            | ast.Nonlocal()
            | ast.operator()
            | ast.cmpop()
        ):
            return True
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))) if name in _LOGS:
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return isinstance(parent, ast.Module) and _ALIAS.match(name) is not None
        case ast.If(test=test):
            return _text(test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        case ast.FunctionDef(decorator_list=decorators):
            return any(_text(decorator) == "overload" for decorator in decorators)
    is_prose = isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    )
    return (is_prose and getattr(parent, "is_error", False)) or _marks_error(node, parent)


def _marks_error(node: ast.AST, parent: ast.AST) -> bool:
    """Mark what a ``raise`` makes, so that its prose is known for what it is. Never leaves it alone."""
    if isinstance(parent, ast.Raise) and isinstance(node, ast.Call):
        node.is_error = True  # read when its arguments are visited
    return False


def _members(tree: ast.Module) -> dict[str, list[str]]:
    """The members of each enumeration, or module, that the source names, sorted."""
    named: dict[str, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and _MEMBER.match(node.attr):
            named[node.value.id].add(node.attr)
    return defaultdict(list, {base: sorted(attrs) for base, attrs in named.items()})


def _text(node: ast.AST | None) -> str:
    return "nothing" if node is None else " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
