"""A causal language model of random weights with a tokenizer of its own: made on the spot, without any download."""

from __future__ import annotations

import string
from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ("<|end|>", "<|pad|>", "<|user|>", "<|assistant|>")
_TEXT = (
    "Who wrote it? Where is the city? Answer: a short phrase. Think step by step, then end with a line of the answer."
)


def write_tiny_model(
    folder: Path, *, seed: int = 0, chat: bool = True, context_length: int = 512, eos: float = 2.0
) -> Path:
    """Write model and tokenizer to a folder: Llama with 2 layers, heads of 32, some 160 tokens of ASCII, in float32.

    The larger `eos`, the sooner a reply ends by itself (it scales the end token's output weights).
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    space, newline = "\u0120", "\u010a"
    alphabet = [*string.ascii_letters, *string.digits, *string.punctuation, space, newline]
    bpe.train_from_iterator(
        [_TEXT], trainers.BpeTrainer(vocab_size=160, special_tokens=list(_SPECIAL), initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=context_length
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context_length,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] *= eos
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
