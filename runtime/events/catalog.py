"""Every event of the program, with who makes it and who follows it, as the code tells."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from inspect import getdoc
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import msgspec

import commands
import domain
from commands.aggregates import ALL
from commands.services import Commands
from domain.events import EVENTS, Event
from eventstore.codec import kind_of
from projections.registry import read_models
from runtime.events.docs import shapes
from runtime.events.shapes import EventShapes, Field
from runtime.wiring.core import Core
from runtime.wiring.work import Queues, reactors_of

Function = ast.FunctionDef | ast.AsyncFunctionDef


class CatalogEntry(msgspec.Struct, frozen=True):
    """An event. `earlier` are the old wire names that are read as it; `declared_in` is its module.

    `decided_by` are the functions that make it, `folded_by` the aggregate (by its kind) and the
    read models that it changes, and `reactors` those that it sets in motion.
    """

    event: str
    kind: str
    version: int
    earlier: list[str]
    fields: dict[str, Field]
    meaning: str
    declared_in: str
    decided_by: list[str]
    folded_by: list[str]
    reactors: list[str]


def catalog() -> list[CatalogEntry]:
    """Every event, by wire name."""
    known, decided, folds, reactors = shapes(), _decisions(), _folds(), _reactors()
    return [
        CatalogEntry(
            event=name,
            kind=kind_of(cls),
            version=int(name.rpartition(".v")[2]),
            earlier=[old for old in known.upcasters if _read_as(old, known) == name],
            fields=known.events[name].fields,
            meaning=" ".join((getdoc(cls) or "").split()),
            declared_in=cls.__module__,
            decided_by=sorted(decided[cls]),
            folded_by=folds[cls],
            reactors=sorted(reactors[cls]),
        )
        for name, cls in sorted(EVENTS.items())
    ]


def _read_as(old: str, known: EventShapes) -> str:
    while old in known.upcasters:
        old = known.upcasters[old]
    return old


def _folds() -> defaultdict[type, list[str]]:
    found: defaultdict[type, list[str]] = defaultdict(list)
    for aggregate in ALL:
        for cls in EVENTS.values():
            if kind_of(cls) == aggregate.kind and cls not in aggregate.ignores:
                found[cls].append(f"aggregate {aggregate.kind}")
    for model in read_models():
        for cls in model.projection.folds:
            found[cls].append(model.projection.name)
    return found


# -- reactors --------------------------------------------------------------------------------------


class _Nothing:
    """Stands in for what reactors act with: the catalog only asks which events they follow."""

    def __getattr__(self, name: str) -> "_Nothing":
        return self

    def __call__(self, *_: object, **__: object) -> "_Nothing":
        return self

    def __getitem__(self, _: object) -> "_Nothing":
        return self


def _reactors() -> defaultdict[type, set[str]]:
    nothing: Any = _Nothing()
    services = Commands(*[nothing] * len(Commands.__dataclass_fields__))
    core = SimpleNamespace(handler=nothing, log=nothing, commands=services)
    found: defaultdict[type, set[str]] = defaultdict(set)
    for reactor in reactors_of(cast(Core, core), cast(Queues, nothing)):
        for cls in reactor.reactions:
            found[cls].add(reactor.name)
    return found


# -- decisions -------------------------------------------------------------------------------------


def _decisions() -> defaultdict[type, set[str]]:
    """By event class: the functions of domain and commands that make an instance."""
    found: defaultdict[type, set[str]] = defaultdict(set)
    for package in (domain, commands):
        for info in walk_packages(package.__path__, f"{package.__name__}."):
            module = import_module(info.name)
            source = Path(module.__file__ or "").read_text(encoding="utf-8")
            for place, function in _functions(ast.parse(source), module.__name__):
                for cls in _made_in(function, module):
                    found[cls].add(place)
    return found


def _functions(tree: ast.Module | ast.ClassDef, path: str) -> Iterator[tuple[str, Function]]:
    """The functions and methods of a module, each with its dotted name. Inner functions belong to
    their outer one."""
    for node in tree.body:
        if isinstance(node, Function):
            yield f"{path}.{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{path}.{node.name}")


def _made_in(function: Function, module: ModuleType) -> Iterator[type[Event]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            called = _named(node.func, module)
            if called is msgspec.convert:
                called = _named(node.args[1], module)
            if isinstance(called, type) and issubclass(called, Event):
                yield called


def _named(node: ast.expr, module: ModuleType) -> object:
    """The object that a name, or a name in an imported module, refers to; None if unknown."""
    if isinstance(node, ast.Name):
        return getattr(module, node.id, None)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return getattr(getattr(module, node.value.id, None), node.attr, None)
    return None
