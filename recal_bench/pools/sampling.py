"""What a request may hold beside model and messages: parameters that endpoints of chat completions are known to take.

A name that is not here is more likely mistyped than new, and most endpoints ignore a mistyped one in silence. What an
endpoint alone knows goes under `unchecked`, from where it is sent like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recal_bench.errors import near_miss

RESERVED = ("model", "messages", "stream", "n")
"""Fields of a request that are not a pool file's to set."""
LIMITS = ("max_completion_tokens", "max_tokens")
UNCHECKED = "unchecked"
_OPENAI = """
audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata modalities
parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention reasoning_effort response_format
safety_identifier seed service_tier stop store stream_options temperature tool_choice tools top_logprobs top_p user
verbosity web_search_options
"""
_VLLM_AND_SGLANG = """
add_generation_prompt allowed_token_ids bad_words best_of cache_salt chat_template chat_template_kwargs ebnf
guided_choice guided_grammar guided_json guided_regex ignore_eos include_stop_str_in_output length_penalty min_p
min_tokens priority regex repetition_penalty separate_reasoning skip_special_tokens spaces_between_special_tokens
stop_token_ids structured_outputs thinking_token_budget top_k truncate_prompt_tokens use_beam_search
"""
_PROVIDERS = """
enable_search enable_thinking extra_body include_reasoning models output_config plugins prompt_mode provider random_seed
reasoning reasoning_format route safe_prompt search_parameters thinking thinking_budget top_a transforms
"""
"""DashScope, Gemini, OpenRouter, Anthropic, Mistral, Groq, xAI."""
_LM_EVAL = "diversity_penalty do_sample no_repeat_ngram_size num_beams penalty_alpha typical_p until use_cache"
"""For lm-eval's own backends."""
KNOWN = frozenset(f"{_OPENAI} {_VLLM_AND_SGLANG} {_PROVIDERS} {_LM_EVAL}".split())


def sent(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """A sampling as it goes into a request: what is under `unchecked` beside the rest."""
    return {**{name: value for name, value in sampling.items() if name != UNCHECKED}, **sampling.get(UNCHECKED, {})}


def problem_with(sampling: Mapping[str, Any]) -> str | None:
    """What is wrong with a sampling, as the rest of a sentence that names its place; None where nothing is.

    No value is repeated, and a name only where it cannot be a key.
    """
    if not isinstance(sampling.get(UNCHECKED, {}), dict):
        return f".{UNCHECKED} must hold fields of a request and their values"
    for name in sampling:
        if name not in KNOWN and name != UNCHECKED and name not in RESERVED:
            plain = len(name) <= 40 and name.replace("_", "").isalpha() and name.isascii()
            return (
                f".{name if plain else '...'} is not a parameter that is known{near_miss(name, KNOWN)}: where your "
                f"endpoint takes it, put it under {UNCHECKED}"
            )
    everything = sent(sampling)
    taken = sorted(set(RESERVED) & set(everything))
    if taken:
        return f" sets {', '.join(taken)}, which is ours to set: remove it"
    for name in LIMITS:
        if name in sampling.get(UNCHECKED, {}):
            return f".{UNCHECKED} holds {name}, which is known: put it beside {UNCHECKED}"
        limit = sampling.get(name, 1)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            return f".{name} must be a number above 0"
    return None
