"""Questions as prompts in tokens, replies as texts: what the policy reads and what of its tokens counts as a reply."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from recal_bench.errors import SettingsError
from recal_bench.language_model.local import Local
from recal_bench.language_model.prompting import Descriptors, question_prompt, system_prompt
from recal_bench.language_model.protocol import Parsed, Turn, information, parse, render
from recal_bench.language_model.router_r1 import parse_reply, render_search, require_one_strategy
from recal_bench.outcomes import Arm

CHUNK = 256
CUT_OFF = "cut-off"
"""The rule that a reply ends of itself, beside those of `protocol.RULES`."""
_MARK = "@@@"


@dataclass
class Dialogue:
    """How one policy is spoken to. A model with a chat template gets the pool in its system prompt; one without (the
    tiny one, which learns the pool by heart) the question alone.

    A reply counts only if the policy ended it itself: what was cut off at `max_new_tokens` breaks the rule `cut-off`.
    """

    local: Local
    arms: tuple[Arm, ...]
    descriptors: Descriptors
    rounds: int = 1
    max_new_tokens: int = 24
    form: Literal["recal", "router-r1"] = "recal"
    live: bool = False

    def __post_init__(self) -> None:
        """Raises SettingsError where Router-R1's form does not suit the model or the arms."""
        tokenizer = self.local.tokenizer
        self.short = not tokenizer.chat_template
        self.eos = {tokenizer.eos_token_id, *_ids(self.local.model.generation_config.eos_token_id)} - {None}
        if self.form == "router-r1":
            require_one_strategy(self.arms)
            if self.short:
                raise SettingsError(
                    "form=router-r1 needs a policy with a chat template: take form=recal, or another one"
                )

    def prompt_ids(self, question: str) -> list[int]:
        """The tokens of a first prompt."""
        text = question_prompt(question, self.short)
        if self.short:
            return self._encode(text)
        told = system_prompt(self.arms, self.descriptors, self.rounds, self.form, self.live)
        messages = [{"role": "system", "content": told}, {"role": "user", "content": text}]
        return self._encode(self._templated(messages))

    def reply_ids(self, turn: Turn) -> list[int]:
        """The tokens of a reply, its end among them."""
        text = render(turn) if self.form == "recal" else render_search(turn)
        return [*self._encode(text), self.local.tokenizer.eos_token_id]

    def information_ids(self, text: str) -> list[int]:
        """The tokens that are inserted after a reply: an arm's answer, and the cue to go on."""
        told = information(text)
        if self.short:
            return self._encode(told)
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
        after = self._templated([*messages, {"role": "user", "content": told.strip()}]).rpartition(_MARK)[2]
        # The policy wrote the end of its own turn.
        end = self.local.tokenizer.eos_token or ""
        return self._encode(after.removeprefix(end))

    def parse(self, reply_ids: Sequence[int], before_ids: Sequence[int] = ()) -> Parsed:
        """What a reply says, and which rules it broke; in Router-R1's form, which the whole trajectory broke by it.

        `before_ids` is what of the trajectory was written and inserted before the reply.
        """
        ended = bool(reply_ids) and reply_ids[-1] in self.eos
        text = self.local.tokenizer.decode(reply_ids[:-1] if ended else reply_ids, skip_special_tokens=False)
        if self.form == "recal":
            parsed = parse(text, self.arms, self.short)
        else:
            before = self.local.tokenizer.decode(list(before_ids), skip_special_tokens=False)
            parsed = parse_reply(before, text, self.arms)
        return parsed if ended else Parsed(None, (*parsed.broken, CUT_OFF))

    def generate(self, prompts: Sequence[Sequence[int]], sample: torch.Generator | None = None) -> list[list[int]]:
        """The replies to prompts, each up to its end: the likeliest tokens, or drawn at temperature 1.

        Prompts of like length are answered together.
        """
        order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
        replies: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(order), CHUNK):
            rows = order[start : start + CHUNK]
            for row, reply in zip(rows, self._generate([prompts[row] for row in rows], sample), strict=True):
                replies[row] = reply
        return replies

    @torch.no_grad()
    def _generate(self, prompts: Sequence[Sequence[int]], sample: torch.Generator | None) -> list[list[int]]:
        model, tokenizer = self.local.model, self.local.tokenizer
        length = max(map(len, prompts))
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (length - len(each)) + list(each) for each in prompts], device=model.device)
        mask = torch.tensor([[0] * (length - len(each)) + [1] * len(each) for each in prompts], device=model.device)
        training = model.training
        model.eval()
        with _drawn_from(sample, model.device):
            given = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=self.max_new_tokens,
                do_sample=sample is not None,
                **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample is not None else {}),
                eos_token_id=sorted(self.eos),
                pad_token_id=pad,
            )
        model.train(training)
        return [self._until_end(reply) for reply in given[:, length:].tolist()]

    def _until_end(self, ids: list[int]) -> list[int]:
        ends = [place for place, token in enumerate(ids) if token in self.eos]
        return ids[: ends[0] + 1] if ends else ids

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.local.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _templated(self, messages: list[dict[str, str]]) -> str:
        text: str = self.local.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text


@contextlib.contextmanager
def _drawn_from(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """transformers draws from torch's global generators: meanwhile they are seeded by the given one."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        yield


def _ids(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
