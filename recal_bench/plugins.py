"""Plug-ins: what this package, other packages and folders of Python files register under a name.

Routers, estimators, reward components and encoders are found in the same way. A module is imported once; a decorator in
it (`@router`, `@estimator`, ...) puts what it decorates into a `Registry`. A folder is imported as a package, so that
its files may share a helper: `from ._shared import distance`. Files that begin with an underscore are not imported by
themselves.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from recal_bench.errors import PluginError, RecalBenchError, SettingsError, near_miss
from recal_bench.folders import shipped

T = TypeVar("T")

GROUPS = ("recal_bench.routers", "recal_bench.estimators", "recal_bench.components", "recal_bench.encoders")
"""Entry point groups: a package names a module under any of them, and importing it registers what it holds."""
MODULES: set[str] = set()
"""The modules that registered something."""
FOLDER_PREFIX = "recal_bench_plugins_"
_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Registry(Generic[T]):
    """What is registered of one kind, by name."""

    def __init__(self, kind: str, listed_by: str) -> None:
        self.kind, self._listed_by = kind, listed_by
        self._entries: dict[str, T] = {}
        self._origins: dict[str, tuple[str, str]] = {}
        self._listeners: list[Callable[[str, T], None]] = []

    def add(self, name: str, entry: T, origin: Any) -> None:
        """Register an entry. `origin` is the class or function it is made of.

        Raises PluginError where the name is not kebab-case, or is taken. A cell of a notebook may be run again.
        """
        if not _KEBAB.fullmatch(name):
            raise PluginError(
                f"{self.kind} {name!r}: a name is lower-case words joined by hyphens, as in my-{self.kind}"
            )
        module, file = origin.__module__, _file_of(origin)
        if name in self._entries and (module, self._origins[name][0]) != ("__main__", "__main__"):
            places = sorted({self._origins[name][1], file})
            where = f"twice in {file}" if len(places) == 1 else f"in {' and in '.join(places)}"
            raise PluginError(f"two {self.kind}s are called {name}, {where}: rename one of them")
        self._entries[name], self._origins[name] = entry, (module, file)
        MODULES.add(module)
        for listener in self._listeners:
            listener(name, entry)

    def each(self, listener: Callable[[str, T], None]) -> None:
        """Call a function for every entry, now and whenever one is added."""
        self._listeners.append(listener)
        for name, entry in list(self._entries.items()):
            listener(name, entry)

    def __getitem__(self, name: str) -> T:
        """Raises SettingsError, with a hint, where nothing has that name."""
        if name not in self._entries:
            raise SettingsError(
                f"no {self.kind} is called {name}{near_miss(name, self._entries)}: {self._listed_by}, and "
                "--include-path FOLDER adds your own"
            )
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))


def discover(include_paths: tuple[Path, ...] = ()) -> None:
    """Import the shipped routers, the plug-ins of installed packages and those of the given folders, each once.

    Raises PluginError where a module cannot be imported; what it raised is the error's cause.
    """
    load_folder(shipped("baselines"))
    for group in GROUPS:
        for entry in metadata.entry_points(group=group):
            with _Named(f"entry point {entry.name} of {group} ({entry.value})"):
                entry.load()
    for folder in include_paths:
        load_folder(folder)


def load_folder(folder: Path) -> None:
    """Import every Python file of a folder that does not begin with an underscore, each once."""
    if not folder.is_dir():
        raise SettingsError(f"{folder} is not a folder: --include-path takes a folder of Python files with plug-ins")
    package = _folder_package(folder.resolve())
    for path in sorted(folder.glob("[!_]*.py")):
        with _Named(str(path), folder):
            importlib.import_module(f"{package}.{path.stem}")


def loaded_folders() -> tuple[Path, ...]:
    """The folders whose plug-ins were imported, but for the shipped ones."""
    names = [name for name in list(sys.modules) if name.startswith(FOLDER_PREFIX) and "." not in name]
    folders = [Path(sys.modules[name].__path__[0]) for name in names]
    return tuple(folder for folder in folders if folder != shipped("baselines").resolve())


def _folder_package(folder: Path) -> str:
    """A package of that folder's files, under a name that its path makes."""
    name = f"{FOLDER_PREFIX}{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = ModuleSpec(name, loader=None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = module_from_spec(spec)
    return name


class _Named:
    """Says which plug-in could not be imported; its own exception, with its traceback, is the cause."""

    def __init__(self, what: str, folder: Path | None = None) -> None:
        self._what, self._folder = what, folder

    def __enter__(self) -> None:
        importlib.invalidate_caches()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, RecalBenchError):
            return
        hint = ""
        if isinstance(error, ModuleNotFoundError) and self._folder and (self._folder / f"{error.name}.py").exists():
            hint = f": write `from .{error.name} import ...`, for the folder is imported as a package"
        raise PluginError(f"{self._what} cannot be imported: {type(error).__name__}: {error}{hint}") from error


def sources_of(origin: type[Any] | Callable[..., Any]) -> list[Path]:
    """The files that a plug-in's results depend on: its package's or folder's; a shipped router's own file alone."""
    module = sys.modules.get(origin.__module__)
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        return []
    own = Path(file)
    top = sys.modules.get(origin.__module__.partition(".")[0])
    if top is None or top.__name__ == "recal_bench" or own.parent == shipped("baselines") or not _folders(top):
        return [own]
    return sorted({path for folder in _folders(top) for path in folder.rglob("*.py")})


def raised_by_plugin(error: BaseException) -> bool:
    """Whether an exception passed through the code of somebody's plug-in: then it is for its author to read."""
    frames = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    shipped_names = f"{_folder_package(shipped('baselines').resolve())}."
    return any(name.startswith(FOLDER_PREFIX) and not name.startswith(shipped_names) for name in frames)


def _folders(package: ModuleType) -> list[Path]:
    return [Path(folder) for folder in getattr(package, "__path__", ())]


def _file_of(origin: Any) -> str:
    try:
        return str(inspect.getfile(origin))
    except (TypeError, OSError):
        return str(origin.__module__)
