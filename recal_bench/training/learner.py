"""Policies in training, one for each seed, as one batched computation: a step, an evaluation, and what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from recal_bench.calibration import Batch, Drawn, Estimator
from recal_bench.calibration.components import columns_read
from recal_bench.calibration.rewards import Reward
from recal_bench.errors import PluginError, SettingsError
from recal_bench.policies.actions import ActionDistribution, Actions
from recal_bench.policies.encoder_policy import EncoderPolicy
from recal_bench.policies.price import JUDGED, draw_alphas, priced
from recal_bench.toolbox.adam import Adam
from recal_bench.training.examples import Examples, draw_rows, reach_of
from recal_bench.training.metrics import Asked, Judged, cheapest_arms, step_metrics
from recal_bench.training.seeds import by_seed, clip_gradients, leaves, of_seed, over_seeds, side_by_side, stack_seeds
from recal_bench.training.selection import Selection, macro_mean
from recal_bench.training.settings import Optimisation

AVERAGING = 0.98


class Rollouts(NamedTuple):
    """Queries `[S, Q, ...]`, their price of cost, what the policy sees of them, and the actions drawn, `[S, Q, G]`.

    `distribution` is the policy's before the step, with its graph: the first gradient step goes on from it.
    """

    batch: Examples
    alpha_SQ1: Tensor
    seen: tuple[Tensor, Tensor, Tensor, Tensor]
    actions: Actions
    distribution: ActionDistribution


@dataclass
class Learner:
    """S seeds of one policy. `generators` (one a seed) are the only source of randomness; `tasks` names the datasets.

    `calibration` holds the estimator's settings. `price` says whether the policy is for the reward's alpha or for any.
    `cost_ref` is in USD; `best_single` is the utility on validation of the arm that is best on train.
    """

    policy: EncoderPolicy
    generators: list[torch.Generator]
    reward: Reward
    estimator: Estimator
    calibration: Any
    settings: Optimisation
    price: Literal["fixed", "conditioned"]
    tasks: tuple[str, ...]
    cost_ref: float | None
    best_single: float
    train: Examples
    validation: Examples

    def __post_init__(self) -> None:
        device, n_seeds = self.policy.device, len(self.generators)
        self.step = 0
        self.weight_K = torch.tensor(self.reward.weights, device=device)
        like_K, like_D = (torch.zeros(len(names), device=device) for names in (self.reward.names, self.tasks))
        empty = self.estimator.start(like_K, like_D, self.calibration)
        if not all(isinstance(part, Tensor) and part.ndim for part in leaves(empty)):
            raise PluginError(
                f"estimator {self.estimator.name}: its state must be made of arrays with at least one axis, "
                "as `like_K * 0` is"
            )
        self.state = stack_seeds([empty] * n_seeds)
        self.buffers = [torch.zeros(0, device=device) for _ in self.generators]
        self.optimizer = Adam(self.policy.parameters(), self.settings.learning_rate)
        self.average = {name: value.clone() for name, value in self.policy.state_dict().items()}
        self.selections = [Selection() for _ in self.generators]
        self.untold: list[tuple[Actions, Judged, Asked, dict[tuple[str, ...], Tensor]]] = []
        self.reach_Q = reach_of(self.train.dataset_Q, self.settings.balance)
        count_A = self.train.available_QA.sum(dim=0).clamp(min=1)
        self.cost_rank_A = (self.train.cost_QA.sum(dim=0) / count_A).argsort().argsort()

    def improve(self) -> None:
        """One step: draw, judge, and raise the clipped objective. What there is to log of it waits for `tell`."""
        rollouts = self.draw()
        judged = self.judge(rollouts)
        ascent = self.ascend(rollouts, judged.advantage_SQG)
        metrics = {tuple(ascent): torch.stack(list(ascent.values()), dim=-1)}
        # What the estimator lets us see of its state, for each task.
        metrics |= {
            tuple(f"{name}/{task}" for task in self.tasks): value_SD for name, value_SD in self.watched_SD.items()
        }
        if judged.weight.ndim == 1:
            judged = judged._replace(weight=judged.weight.expand(len(self.generators), 1, 1, -1))
        asked = Asked(rollouts.batch.dataset_Q, rollouts.batch.available_QA)
        self.untold.append((rollouts.actions, judged, asked, metrics))

    def tell(self) -> list[list[dict[str, float]]]:
        """What to log of the steps since it was last asked, of each for each seed.

        Steps are as good as seeds for this, and many cost little more than one.
        """
        untold, self.untold = self.untold, []
        actions, judged, asked, metrics = side_by_side(untold)
        metrics |= step_metrics(actions, judged, asked, self.reward, self.tasks, self.cost_rank_A)
        lines, n_seeds = by_seed(metrics), len(self.generators)
        told = []
        for number, step in enumerate(range(self.step - len(untold), self.step)):
            own = {"learning_rate": self.settings.learning_rate * self._share(step)}
            told.append([{"step": step + 1, **line, **own} for line in lines[number * n_seeds :][:n_seeds]])
        return told

    def draw(self) -> Rollouts:
        """Queries of train, and actions of the policy for each."""
        draws = [draw_rows(self.reach_Q, self.settings.batch_size, generator) for generator in self.generators]
        batch = self.train.take(torch.stack(draws).to(self.policy.device))
        alpha_SQ1 = self._alphas()
        seen = self._seen(batch, alpha_SQ1)
        distribution: ActionDistribution = self.policy(*seen)
        self._require_finite(distribution.log_arm_QA)
        with torch.no_grad():
            if self.estimator.all_actions:
                actions = distribution.everything()
            else:
                actions = distribution.sample(self.settings.group_size, self.generators)
        return Rollouts(batch, alpha_SQ1, seen, actions, distribution)

    @torch.no_grad()
    def judge(self, rollouts: Rollouts) -> Judged:
        """Rewards and advantages of actions; what the estimator remembers moves on."""
        batch, actions = rollouts.batch, rollouts.actions
        column_SQGC = batch.column_QAC.gather(
            -2, actions.arm_QG[..., None].expand(*actions.arm_QG.shape, batch.column_QAC.shape[-1])
        )
        drawn = Drawn(
            well_formed_QG=actions.well_formed_QG,
            score_QG=batch.score_QA.gather(-1, actions.arm_QG),
            cost_QG=batch.cost_QA.gather(-1, actions.arm_QG),
            column_QG=dict(zip(columns_read(self.reward.terms.added), column_SQGC.unbind(-1), strict=True)),
        )
        reward_SQGK, self.buffers = self.reward(drawn, self.buffers)
        weight = self._weights(rollouts.alpha_SQ1)
        valid_SQG = batch.available_QA.gather(-1, actions.arm_QG) | ~actions.well_formed_QG
        advantage_SQG, self.state, self.watched_SD = self._estimate(
            Batch(
                reward_QGK=reward_SQGK,
                weight_K=weight,
                is_outcome_K=torch.arange(reward_SQGK.shape[-1], device=reward_SQGK.device) == self.reward.outcome,
                outcome_QG=reward_SQGK[..., self.reward.outcome],
                share_QG=actions.share_QG,
                dataset_Q=batch.dataset_Q,
                valid_QG=valid_SQG,
            )
        )
        return Judged(reward_SQGK, weight, valid_SQG, advantage_SQG)

    def ascend(self, rollouts: Rollouts, advantage_SQG: Tensor) -> dict[str, Tensor]:
        """Gradient steps on the clipped objective. Returns what to log, tensors `[S]`."""
        settings, batch, actions = self.settings, rollouts.batch, rollouts.actions
        untrained = self.policy.untrained(rollouts.seen[1], batch.available_QA)
        now: ActionDistribution = rollouts.distribution
        log_prob_SQG = now.log_prob(actions)
        before_SQG = log_prob_SQG.detach()
        for epoch in range(settings.epochs):
            if epoch:
                now = self.policy(*rollouts.seen)
                log_prob_SQG = now.log_prob(actions)
            ratio_SQG = (log_prob_SQG - before_SQG).exp()
            clipped_SQG = ratio_SQG.clamp(1 - settings.clip, 1 + settings.clip_high)
            gain_S = torch.minimum(ratio_SQG * advantage_SQG, clipped_SQG * advantage_SQG).mean(dim=(-2, -1))
            # Where they are only logged nothing needs to be traced.
            with torch.set_grad_enabled(settings.entropy > 0 or settings.kl > 0):
                entropy_S, kl_S = now.entropy().mean(dim=-1), now.kl(untrained).mean(dim=-1)
            loss = (-gain_S - settings.entropy * entropy_S + settings.kl * kl_S).sum()
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm_S = clip_gradients(self.optimizer.parameters)
            self.optimizer.step(self._share(self.step))
        self._require_finite(norm_S, *self.policy.parameters())
        for name, value in self.policy.state_dict().items():
            self.average[name].lerp_(value, 1 - AVERAGING)
        self.step += 1
        return {
            "entropy": entropy_S.detach(),
            "kl": kl_S.detach(),
            "gradient_norm": norm_S,
            "clip_fraction": (ratio_SQG != clipped_SQG).float().mean(dim=(-2, -1)),
        }

    def _share(self, step: int) -> float:
        """Of the learning rate, which falls linearly to 0."""
        return 1 - step / self.settings.steps

    def _require_finite(self, *values: Tensor) -> None:
        # What is not finite shows in the sum.
        if not torch.stack([value.detach().sum() for value in values]).isfinite().all():
            raise SettingsError(
                f"the policy is not finite at step {self.step} of the training: give a smaller learning_rate, entropy, "
                "kl or prior.scale"
            )

    def _alphas(self) -> Tensor:
        """The price of cost of each query of a batch: `[S, B, 1]`, or `[1]` where there is one for all."""
        if self.price == "fixed":
            return torch.tensor([self.reward.terms.alpha], device=self.policy.device)
        drawn = [draw_alphas(self.settings.batch_size, generator) for generator in self.generators]
        return torch.stack(drawn).to(self.policy.device)[..., None]

    def _weights(self, alpha_SQ1: Tensor) -> Tensor:
        """What a unit of each component is worth: `[K]`, or `[S, Q, 1, K]` where alpha differs between queries."""
        if self.price == "fixed":
            return self.weight_K
        weight_SQ1K = self.weight_K.repeat(*alpha_SQ1.shape, 1)
        weight_SQ1K[..., self.reward.priced] = alpha_SQ1
        return weight_SQ1K

    def _seen(self, examples: Examples, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the policy sees of examples at a price."""
        prior = examples.prior_score_QA, examples.prior_cost_QA
        seen = priced(examples.embedding_QE, *prior, alpha, self.price)
        return *seen, examples.available_QA, examples.familiar_Q1

    def _estimate(self, batch: Batch) -> tuple[Tensor, Any, dict[str, Tensor]]:
        """The estimator, for every seed on its own: advantages, its state, and what it lets us see of that.

        Raises PluginError on advantages that cannot be followed.
        """
        watch = self.estimator.watch or (lambda state: {})

        def one(of_one: Batch, state: Any) -> tuple[Tensor, Any, dict[str, Tensor]]:
            advantage_QG, after = self.estimator.compute(of_one, state, self.calibration)
            return advantage_QG, after, dict(watch(after))

        n_seeds = len(self.generators)
        weight = batch.weight_K.expand(n_seeds, -1) if batch.weight_K.ndim == 1 else batch.weight_K
        of_seeds = batch._replace(weight_K=weight, is_outcome_K=batch.is_outcome_K.expand(n_seeds, -1))
        advantage_SQG, state, watched_SD = over_seeds(one, of_seeds, self.state)
        if advantage_SQG.shape != batch.valid_QG.shape or not advantage_SQG.isfinite().all():
            raise PluginError(
                f"estimator {self.estimator.name} must give one finite advantage for each of "
                f"{batch.valid_QG.shape[1]} queries and {batch.valid_QG.shape[2]} rollouts"
            )
        return advantage_SQG, state, watched_SD

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Judge the averaged policies' likeliest arms; remember those to be kept. Returns what to log, for each seed.

        What is logged is at the reward's alpha. A conditioned policy is kept by its mean utility over several.
        """
        validation = self.validation
        utility_SQ, score_SQ, cost_SQ, cheapest_SQ, arm_SQ, malformed_S = self._choices(self.reward.terms.alpha)
        judged = utility_SQ
        if self.price == "conditioned":
            judged = torch.stack([self._choices(alpha)[0] for alpha in JUDGED]).mean(dim=0)
        lines = []
        for seed, selection in enumerate(self.selections):
            selection.consider(judged[seed], validation.dataset_Q, of_seed(self.average, seed), self.step)
            line = {
                "validation_utility": macro_mean(utility_SQ[seed], validation.dataset_Q),
                "validation_score": macro_mean(score_SQ[seed], validation.dataset_Q),
                "validation_top_arm_share": float(torch.bincount(arm_SQ[seed]).max() / len(arm_SQ[seed])),
                "validation_malformed_share": float(malformed_S[seed]),
                "validation_best_single": self.best_single,
                "kept_step": selection.kept_step,
                "kept_gain": selection.gain,
                "kept_gain_error": selection.error,
            }
            if self.reward.terms.has_cost and self.cost_ref is not None:
                line["validation_cost_usd_per_1k"] = 1000 * self.cost_ref * float(cost_SQ[seed].mean())
                line["validation_cheapest_share"] = float(cheapest_SQ[seed].float().mean())
            lines.append(line)
        return lines

    def _choices(self, alpha: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Utility, score, cost, whether it is the cheapest arm, and arm of each choice, `[S, Q]`; malformed `[S]`."""
        validation, n_seeds = self.validation, len(self.generators)
        inputs = self._seen(validation, torch.tensor([alpha], device=self.policy.device))
        actions = torch.func.functional_call(self.policy, self.average, inputs)
        arm_SQ1 = actions.log_arm_QA.argmax(dim=-1, keepdim=True)
        score_SQ, cost_SQ = (
            value_QA.expand(n_seeds, -1, -1).gather(-1, arm_SQ1)[..., 0]
            for value_QA in (validation.score_QA, validation.cost_QA)
        )
        cheapest_Q = cheapest_arms(self.cost_rank_A, validation.available_QA)
        malformed_S = torch.sigmoid(-actions.format_logit_Q).mean(dim=-1)
        arm_SQ = arm_SQ1[..., 0]
        return score_SQ - alpha * cost_SQ, score_SQ, cost_SQ, arm_SQ == cheapest_Q, arm_SQ, malformed_S

    def kept(self) -> list[dict[str, Tensor]]:
        """The parameters to be kept of each seed, the seed's axis (of length 1) included."""
        return [
            {name: value[None] for name, value in (selection.kept or of_seed(self.average, seed)).items()}
            for seed, selection in enumerate(self.selections)
        ]
