"""Any model of sentence-transformers as an encoder, by its name or folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from recal_bench.arrays import Float32QE
from recal_bench.encoders.cache import VERSION, Arrays, hash_of, pack, unpack
from recal_bench.encoders.registry import encoder
from recal_bench.encoders.sentences import encode_alike, without_bars
from recal_bench.errors import SettingsError

_WEIGHTS = ".safetensors"
_READ = (_WEIGHTS, ".json", ".model", ".txt")
"""The files that make a model. Pickled weights are not among them: a pickle can run anything."""
_OTHER_FORMS = ("onnx", "openvino")


@encoder("sentence-transformers")
class SentenceModel:
    """A model of sentence-transformers with weights in safetensors, on the CPU: from a folder, or from Hugging Face.

    Without an owner, a name is one of `sentence-transformers/`.
    """

    takes: ClassVar[str] = "NAME-OR-FOLDER"
    by_text: ClassVar[bool] = True
    key: str

    def __init__(self, name: str) -> None:
        self._name = name

    def identity(self) -> str:
        """A hash of the model's files. Raises SettingsError where it cannot be loaded."""
        return hash_of([VERSION, "sentence-transformers", _digest(_folder(self._name))])

    def fit(self, prompts: Sequence[str]) -> None:
        self.key = self.identity()

    def save(self) -> Arrays:
        return {"key": pack(self.key)}

    def load(self, arrays: Arrays) -> None:
        self.key = self.identity()
        if unpack(arrays["key"]) != self.key:
            raise SettingsError(
                f"the model {self._name} is not the one that the router was trained with: bring that one back, or run "
                "the router again with --fresh"
            )

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        return encode_alike(_model(_folder(self._name)), prompts)


@lru_cache(maxsize=4)
def _folder(name: str) -> Path:
    """The folder of a model: the one that is named, or that of Hugging Face's cache, into which it is downloaded."""
    if find_spec("sentence_transformers") is None:
        raise SettingsError(
            f'the encoder sentence-transformers:{name} is not installed: pip install ".[sentence-transformers]" in a '
            "checkout, or choose tfidf"
        )
    folder = Path(name)
    if not folder.is_dir():
        folder = _downloaded(name)
    if not any(folder.rglob(f"*{_WEIGHTS}")):
        raise SettingsError(f"the model {name} has no weights in safetensors: choose one that has")
    return folder


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository = name if "/" in name else f"sentence-transformers/{name}"
    wanted: Any = {
        "allow_patterns": [f"*{ending}" for ending in _READ],
        "ignore_patterns": [f"{each}/*" for each in _OTHER_FORMS],
    }
    try:
        try:
            return Path(snapshot_download(repository, local_files_only=True, **wanted))
        except LocalEntryNotFoundError:
            with without_bars():
                return Path(snapshot_download(repository, **wanted))
    except Exception as error:  # Hub, network and disk errors of many kinds.
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(
            f"the model {name} is neither a folder nor to be had from Hugging Face ({reason}): check the name"
        ) from error


@lru_cache(maxsize=4)
def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix in _READ and not set(name.parts) & set(_OTHER_FORMS):
            with path.open("rb") as file:
                content = hashlib.sha256()
                while block := file.read(2**20):
                    content.update(block)
            digest.update(f"{name.as_posix()} {content.hexdigest()}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _model(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        with without_bars():
            return SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True})
    except Exception as error:  # Whatever a damaged or unknown model makes its library raise.
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"the model in {folder} cannot be loaded ({reason}): name another") from error
