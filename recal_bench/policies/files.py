"""A trained policy in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm
from recal_bench.policies.encoder_policy import EncoderPolicy


class Kept(NamedTuple):
    """What is kept of a training: the arms, the price of cost, the policy of one seed, the tensors of its prior."""

    arms: tuple[Arm, ...]
    alpha: float
    policy: EncoderPolicy
    prior: dict[str, Tensor]


def save_policy(folder: Path, kept: Kept) -> None:
    """Write `policy.safetensors` and `policy.json`."""
    tensors = {f"policy.{name}": value for name, value in kept.policy.state_dict().items()}
    tensors |= {f"prior.{name}": value for name, value in kept.prior.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "policy.safetensors")
    described = {"arms": [list(arm) for arm in kept.arms], "alpha": kept.alpha}
    (folder / "policy.json").write_text(json.dumps(described) + "\n", encoding="utf-8")


def load_policy(folder: Path, malformed: float) -> Kept:
    """What `save_policy` wrote. Raises SettingsError where a file is missing or damaged."""
    try:
        tensors = load_file(folder / "policy.safetensors")
        described = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
        arms, alpha = tuple(Arm(*arm) for arm in described["arms"]), float(described["alpha"])
        state, prior = (
            {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
            for part in ("policy.", "prior.")
        )
        _, size, hidden = state["first_weight"].shape
        policy = EncoderPolicy(arms, size, hidden, malformed, [torch.Generator()]).eval()
        policy.load_state_dict(state)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise SettingsError(f"{folder} holds no usable policy: run the router again with --fresh") from error
    return Kept(arms, alpha, policy, prior)
