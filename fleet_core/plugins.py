"""Load the one module a configuration names.

A plugin is one file in the package of its kind. The file's name is the configuration's ``type``. It offers

* ``Config``                 a dataclass of its settings, read by ``parse_config``,
* ``build(config, deps)``    which returns the object the kind's ``api.py`` describes,
* ``SAMPLE``                 a TOML text that is a valid configuration, shown in the docs and tested.

Only the module that is asked for is imported, so an unused plugin's dependencies need not be installed.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from fleet_core.errors import BadConfig

Settings = TypeVar("Settings")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


def plugin_names(package: str) -> list[str]:
    """Names of the plugins in a package, without importing them (``api`` and ``_private`` are not plugins)."""
    module = importlib.import_module(package)
    found = (info.name for info in pkgutil.iter_modules(module.__path__))
    return sorted(name for name in found if name != "api" and not name.startswith("_"))


def load_plugin(package: str, name: str) -> ModuleType:
    """Import plugin ``name`` of ``package``. Raises BadConfig with the names that exist."""
    is_name = bool(_NAME.match(name)) and name != "api"
    loaded = sys.modules.get(f"{package}.{name}") if is_name else None
    if loaded is not None:  # the folder need not be read again: every refit of a detection loads its detectors
        return loaded
    if not is_name or name not in plugin_names(package):
        known = ", ".join(plugin_names(package)) or "none"
        raise BadConfig(f"{package} has no plugin {name!r}; there are: {known}")
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        raise BadConfig(f"plugin {package}.{name} needs the Python package {error.name!r}, not installed") from error


def parse_config(cls: type[Settings], table: Mapping[str, Any], where: str) -> Settings:
    """Make a dataclass from a TOML table. Raises BadConfig naming ``where``, the key and what was expected.

    Fields may be of type bool, int, float (which accepts an int), str, Path, ``Literal``, a dataclass,
    ``tuple[T, ...]``, ``dict[str, T]``, ``Any`` or a union of these. The dataclass itself checks ranges, in
    ``__post_init__``.
    """
    if not isinstance(table, Mapping):
        raise BadConfig(f"{where}: expected a table, not {table!r}")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls)) if field.init}
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise BadConfig(f"{where}: unknown setting {unknown[0]!r}; there are: {', '.join(fields) or 'none'}")
    hints = typing.get_type_hints(cls)
    values = {name: _parse_value(hints[name], value, f"{where}.{name}") for name, value in table.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise BadConfig(f"{where}: setting {name!r} is missing")
    try:
        return cls(**values)
    except BadConfig as error:
        raise BadConfig(f"{where}: {error}") from None


def _parse_value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return parse_config(hint, value, where)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(arguments, value, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise BadConfig(f"{where}: expected {' or '.join(map(repr, arguments))}, not {value!r}")
    if hint is Path and isinstance(value, str) and value:
        return Path(value)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_parse_value(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _parse_value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise BadConfig(f"{where}: expected {getattr(hint, '__name__', hint)}, not {value!r}")


def _parse_union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    present = [choice for choice in choices if choice is not type(None)]
    if len(present) == 1 and value is not None:  # its own error says more than that of the union
        return _parse_value(present[0], value, where)
    for choice in sorted(choices, key=lambda each: each is not type(value)):  # 5 is an int before it is a float
        if choice is type(None) and value is None:
            return None
        try:
            return _parse_value(choice, value, where)
        except BadConfig:
            continue
    raise BadConfig(f"{where}: expected {' or '.join(getattr(c, '__name__', str(c)) for c in choices)}, not {value!r}")
