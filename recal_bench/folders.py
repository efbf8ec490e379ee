"""Where the shipped folders and the cache lie, and how a file is written: whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def shipped(kind: str) -> Path:
    """The folder of shipped `baselines`, `pools` or `tasks`: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def slug(name: str) -> str:
    """A name as part of a file's: letters, digits, dots, underscores; a hyphen for all else that follows each other."""
    import re

    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100]


def sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def cache_folder() -> Path:
    """The user's cache folder, or the one that RECAL_BENCH_CACHE names."""
    import platformdirs

    return Path(os.environ.get("RECAL_BENCH_CACHE") or platformdirs.user_cache_dir("recal-bench"))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError that names no file (a disk is full while it is written) gets this one's name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        code = error.errno
        raise (OSError(code, os.strerror(code), str(path)) if code else OSError(f"{error}: {path}")) from error


@contextmanager
def written_whole(path: Path, sync: bool = False) -> Iterator[Path]:
    """Gives an empty draft in the folder of `path`, which takes that name when the block ends without an error.

    So readers see the old file or the whole new one, and several processes may write at once. Missing folders are made.
    `sync` puts the content on the disk before the draft gets its name, so that it also survives a power cut. Raises
    OSError where the file cannot be written; then, and after an error in the block, no draft is left.
    """
    import secrets

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Not by `tempfile`, whose files are private: this one gets the mode that the umask gives any new file.
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        with naming(path):
            yield draft
            if sync:
                with draft.open("rb") as file:
                    os.fsync(file.fileno())
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def written_together(folder: Path) -> Iterator[Path]:
    """Gives an empty hidden folder in `folder`; its files move into that one when the block ends without an error.

    So the files of a folder are all of one making, and after an error those of before. Raises OSError where they cannot
    be written.
    """
    import tempfile

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".draft-", dir=folder) as name:
            yield Path(name)
            for path in sorted(Path(name).iterdir()):
                path.replace(folder / path.name)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where nothing was in it before
        raise
