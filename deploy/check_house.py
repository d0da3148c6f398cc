"""Check how the house is built: no import circles, few storeys, names in their place, rows with types.

    python deploy/check_house.py                    all four; or name some of: circles storeys names rows

circles   No module of ours imports itself by way of others. Imports inside functions count, those for types do not.
storeys   The longest chain of imports inside ``edge_agent.detection`` has at most ten modules: whoever reads the top
          one has at most nine below it to understand.
names     The code of a component type is a string literal in ``fleet_core/assets.py`` only: anywhere else it would be a
          rule about a type, which whoever adds a type does not find. Counted are literals that decide something: that
          are compared, matched, the key of a dictionary, a member of a set, tuple or list, or given to a name that says
          ``component_type`` or ``kind``. Words in prose, logs and patterns are not counted. One code is an ordinary
          word too: ``host`` as a key is a network address. ``models``, ``demo`` and ``tests`` may name types: they are
          about particular machines.
rows      What the statements of ``fleet_server.resolution`` answer has types: no field of a class is ``Any``, and
          nothing is annotated as a dictionary of ``Any``.

One line for each fault, with the mend; exit code 1 when there is any.
"""

from __future__ import annotations

import argparse
import ast
import graphlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "benchmarks", "demo", "edge_agent", "firmware_bridge", "fleet_core", "fleet_server", "models", "provisioning",
)  # fmt: skip
DETECTION, MOST_STOREYS = "edge_agent.detection", 10
NAMING = ("edge_agent", "firmware_bridge", "fleet_core", "fleet_server", "provisioning")
NAMES_STAND_IN = Path("fleet_core/assets.py")
ADDRESSES = frozenset(("host",))
"""Codes that are the usual word for a network address where they are the key of a dictionary."""
_NAMING_WORDS = ("component_type", "kind")
_MOST_CIRCLES = 20

Imports = Mapping[str, Collection[str]]
"""Module -> the modules of ours that it imports."""


def read_imports() -> Imports:
    """The imports between our modules, without those that are for type checkers alone."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    return {module: sorted(graph.find_modules_directly_imported_by(module)) for module in sorted(graph.modules)}


def circles(imports: Imports) -> list[tuple[str, ...]]:
    """Import circles, one for each that has to be cut; at most twenty. The first module stands at the end again."""
    left = {module: set(imported) for module, imported in imports.items()}
    found: list[tuple[str, ...]] = []
    while len(found) < _MOST_CIRCLES:
        try:
            graphlib.TopologicalSorter(left).prepare()
        except graphlib.CycleError as error:
            circle = tuple(reversed(error.args[1]))  # graphlib lists the imported module before its importer
            found.append(circle)
            left[circle[0]].discard(circle[1])
        else:
            break
    return found


def longest_chain(imports: Imports, package: str) -> tuple[str, ...]:
    """The longest chain of imports between modules of ``package``, the importing module first. Raises CycleError."""
    inside = {module for module in imports if module == package or module.startswith(f"{package}.")}
    below = {module: sorted(inside & set(imports[module])) for module in sorted(inside)}
    chains: dict[str, tuple[str, ...]] = {}
    for module in graphlib.TopologicalSorter(below).static_order():
        chains[module] = (module, *max((chains[each] for each in below[module]), key=len, default=()))
    return max(chains.values(), key=len, default=())


def named_types(text: str, codes: Collection[str]) -> Iterator[tuple[int, str]]:
    """Line and code of each literal in a module's text that decides something about a component type."""
    for node in ast.walk(ast.parse(text)):
        for literal in _deciding(node):
            if isinstance(literal, ast.Constant) and isinstance(literal.value, str) and literal.value in codes:
                yield literal.lineno, literal.value


def untyped_rows(text: str) -> Iterator[tuple[int, str]]:
    """Line and annotation of each field of a class that is ``Any``, and of each dictionary of ``Any``, in a module."""
    tree = ast.parse(text)
    fields = {
        statement.annotation
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    for field in fields:
        if any(_is_any(part) for part in ast.walk(field)):
            yield field.lineno, ast.unparse(field)
    within = {id(part) for field in fields for part in ast.walk(field)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and id(node) not in within and _is_untyped_dictionary(node):
            yield node.lineno, ast.unparse(node)


def _deciding(node: ast.AST) -> Iterable[ast.expr | None]:
    match node:
        case ast.Compare():
            return (node.left, *node.comparators)
        case ast.Set() | ast.Tuple() | ast.List():
            return node.elts
        case ast.Dict():
            return [key for key in node.keys if not (isinstance(key, ast.Constant) and key.value in ADDRESSES)]
        case ast.MatchValue():
            return (node.value,)
        case ast.keyword(arg=str(name)) | ast.AnnAssign(target=ast.Name(id=name)) if _names_a_type(name):
            return (node.value,)
        case ast.Assign(targets=[ast.Name(id=name)]) if _names_a_type(name):
            return (node.value,)
        case ast.arguments():
            with_default = [*node.posonlyargs, *node.args][-len(node.defaults) :] if node.defaults else []
            pairs = (
                *zip(with_default, node.defaults, strict=True),
                *zip(node.kwonlyargs, node.kw_defaults, strict=True),
            )
            return [default for argument, default in pairs if _names_a_type(argument.arg)]
    return ()


def _names_a_type(name: str) -> bool:
    return any(word in name.lower() for word in _NAMING_WORDS)


def _is_untyped_dictionary(node: ast.Subscript) -> bool:
    if not (isinstance(node.value, ast.Name) and node.value.id in ("dict", "Dict")):
        return False
    return isinstance(node.slice, ast.Tuple) and _is_any(node.slice.elts[-1])


def _is_any(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "Any") or (isinstance(node, ast.Attribute) and node.attr == "Any")


def _sources(packages: Iterable[str]) -> Iterator[tuple[Path, str]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


def _check_circles() -> Iterator[str]:
    imports = read_imports()
    found = circles(imports)
    print(f"import circles: {len(found) or 'none'} in {len(imports)} modules")
    for circle in found:
        yield f"import circle {' -> '.join(circle)}: move what two of them need into a module of its own"


def _check_storeys() -> Iterator[str]:
    try:
        chain = longest_chain(read_imports(), DETECTION)
    except graphlib.CycleError:
        yield f"{DETECTION} has an import circle, so its storeys cannot be counted: mend the circle first"
        return
    short = " -> ".join(module.removeprefix(f"{DETECTION}.") for module in chain)
    print(f"storeys of {DETECTION}: {len(chain)} of at most {MOST_STOREYS}: {short}")
    if len(chain) > MOST_STOREYS:
        yield f"{DETECTION} has {len(chain)} storeys, at most {MOST_STOREYS}: hand a module what it imports"


def _check_names() -> Iterator[str]:
    sys.path.insert(0, str(ROOT))
    from fleet_core.assets import COMPONENT_TYPES

    files = 0
    for path, text in _sources(NAMING):
        files += 1
        for line, code in named_types(text, COMPONENT_TYPES) if path != NAMES_STAND_IN else ():
            yield f"{path}:{line} names the component type {code!r}: make it a property of the type in {NAMES_STAND_IN}"
    print(f"component types: {len(COMPONENT_TYPES)} codes looked for in {files} files")


def _check_rows() -> Iterator[str]:
    files = 0
    for path, text in _sources(("fleet_server/resolution",)):
        files += 1
        for line, annotation in untyped_rows(text):
            yield f"{path}:{line} is {annotation}: name its fields in a dataclass, and read it with class_row"
    print(f"rows of fleet_server.resolution: {files} files")


CHECKS = {"circles": _check_circles, "storeys": _check_storeys, "names": _check_names, "rows": _check_rows}


def main(arguments: list[str] | None = None) -> int:
    """Run the checks named, or all; 1 when anything is at fault."""
    parser = argparse.ArgumentParser(description="Check how the house is built.")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"some of {', '.join(CHECKS)}")
    chosen = parser.parse_args(arguments).checks or list(CHECKS)
    if unknown := [name for name in chosen if name not in CHECKS]:
        parser.error(f"no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    faults = [fault for name in chosen for fault in CHECKS[name]()]
    for fault in faults:
        print(f"fault: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
