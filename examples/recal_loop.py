"""ReCal from top to bottom: one seed, nothing batched over seeds, plain torch. docs/recal.md explains each step.

    python examples/recal_loop.py [--steps 200] [--seed 0]

Trains on the embedded pool (simulated) and prints the utility on test beside the best single arm's. What the trainer in
`recal_bench` does besides: missing outcomes, several seeds at once, checkpoints, the choice of a policy on validation.
It starts from the nearest train queries, as the router recal-from-knn does; recal's own prior is a model in itself.
"""

import argparse
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from recal_bench.encoders import fit_encoder
from recal_bench.experiments.bench import load_bench

BATCH, GROUP, HIDDEN, MALFORMED = 256, 16, 64, 0.2
RATE, AVERAGING, LARGEST_NORM = 7e-4, 0.98, 1.0
NEIGHBOURS, PRIOR_SCALE = 500, 30.0
DECAY, EPS, FLOOR, CAP, LEAST_COUNT = 0.95, 1e-6, 0.5, 3.0, 256


class Data(NamedTuple):
    """Q queries and A arms: embeddings, logits before training, scores, costs in units of the most expensive arm's."""

    embedding_QE: Tensor
    prior_QA: Tensor
    score_QA: Tensor
    cost_QA: Tensor
    task_Q: Tensor


class Policy(nn.Module):
    """A layer of units, then logits of an arm's model, of its strategy, of the pair, and of being well-formed."""

    def __init__(self, arms, size, hidden, generator):
        super().__init__()
        models, strategies = (sorted({arm[part] for arm in arms}) for part in (0, 1))
        self.model_A = torch.tensor([models.index(arm[0]) for arm in arms])
        self.strategy_A = torch.tensor([strategies.index(arm[1]) for arm in arms])
        self.sizes = [len(models), len(strategies), len(arms), 1]
        bound = 1 / math.sqrt(size)
        self.first_weight = nn.Parameter(torch.empty(size, hidden).uniform_(-bound, bound, generator=generator))
        self.first_bias = nn.Parameter(torch.empty(1, hidden).uniform_(-bound, bound, generator=generator))
        self.last_weight = nn.Parameter(torch.zeros(hidden, sum(self.sizes)))
        self.last_bias = nn.Parameter(torch.zeros(1, sum(self.sizes)))
        self.last_bias.data[..., -1] = math.log(1 - MALFORMED) - math.log(MALFORMED)

    def forward(self, embedding_QE, prior_QA):
        """The logit of a well-formed action, `[Q]`, and the log-probability of each arm in it, `[Q, A]`."""
        scaled_QE = embedding_QE * math.sqrt(embedding_QE.shape[1])
        hidden_QH = torch.relu(scaled_QE @ self.first_weight + self.first_bias)
        model, strategy, pair, form = torch.split(hidden_QH @ self.last_weight + self.last_bias, self.sizes, dim=1)
        logit_QA = prior_QA + model[:, self.model_A] + strategy[:, self.strategy_A] + pair
        return form[:, 0], torch.log_softmax(logit_QA, dim=1)


def draw(form_Q, log_arm_QA, generator):
    """A group of actions for each query: the arms, `[Q, G]`, and which actions are well-formed."""
    uniform_QG2 = torch.rand((len(form_Q), GROUP, 2), generator=generator)
    cumulative_QA = log_arm_QA.exp().cumsum(dim=1)
    threshold_QG = uniform_QG2[..., 0] * cumulative_QA[:, -1:]
    arm_QG = torch.searchsorted(cumulative_QA, threshold_QG.contiguous(), right=True)
    return arm_QG, uniform_QG2[..., 1] < torch.sigmoid(form_Q)[:, None]


def log_prob(form_Q, log_arm_QA, arm_QG, well_QG):
    form_QG = form_Q[:, None].expand(arm_QG.shape)
    return torch.where(well_QG, logsigmoid(form_QG) + log_arm_QA.gather(1, arm_QG), logsigmoid(-form_QG))


def rewards(arm_QG, well_QG, score_QA, cost_QA):
    """Format, outcome and cost, `[Q, G, 3]`: the last two count only where the first holds."""
    form_QG = well_QG.float()
    return torch.stack([form_QG, form_QG * score_QA.gather(1, arm_QG), -form_QG * cost_QA.gather(1, arm_QG)], dim=-1)


class Average:
    """An exponential moving average of several quantities, without start-up bias."""

    def __init__(self, size):
        self.total, self.weight = torch.zeros(size), torch.zeros(size)

    def follow(self, value, seen):
        self.total = torch.where(seen, DECAY * self.total + (1 - DECAY) * value, self.total)
        self.weight = torch.where(seen, DECAY * self.weight + (1 - DECAY), self.weight)
        return self.total / torch.where(self.weight > 0, self.weight, 1.0)


class Calibration:
    """From component rewards to advantages; what it remembers between steps."""

    def __init__(self, weight_K, n_tasks):
        self.weight_K = weight_K
        self.spread_K, self.uncertainty_1 = Average(len(weight_K)), Average(1)
        self.square_D, self.count_D = Average(n_tasks), torch.zeros(n_tasks)

    def __call__(self, reward_QGK, task_Q):
        # 1. An advantage for each component: a z-score in the group, with a least spread to divide by.
        varies_Q1K = reward_QGK.amax(1, keepdim=True) > reward_QGK.amin(1, keepdim=True)
        centred_QGK = torch.where(varies_Q1K, reward_QGK - reward_QGK.mean(1, keepdim=True), 0.0)
        std_Q1K = centred_QGK.square().mean(1, keepdim=True).sqrt()
        n_varying_K = varies_Q1K.sum((0, 1))
        spread_K = self.spread_K.follow(std_Q1K.sum((0, 1)) / n_varying_K.clamp(min=1), n_varying_K > 0)
        z_QGK = centred_QGK / (torch.maximum(std_Q1K, FLOOR * spread_K) + EPS)
        # 2. Groups whose outcome is uncertain weigh more: the outcome component alone, by 1 on average.
        std_Q = std_Q1K[:, 0, 1]
        uncertainty = self.uncertainty_1.follow(std_Q.mean(), torch.tensor([True]))
        weight_Q = 0.5 + 1.5 * torch.sigmoid(5.0 * (std_Q - uncertainty))
        weight_Q = weight_Q / weight_Q[std_Q > 0].mean() if (std_Q > 0).any() else weight_Q
        z_QGK = torch.stack([z_QGK[..., 0], z_QGK[..., 1] * weight_Q[:, None], z_QGK[..., 2]], dim=-1)
        # 3. Their sum; the spreads give back what standardising took, so that the exchange rate is the utility's.
        advantage_QG = (z_QGK * self.weight_K * spread_K).sum(-1)
        # 4. One scale for every task.
        member_QD = (task_Q[:, None] == torch.arange(len(self.count_D))).float()
        n_D, square_D = member_QD.sum(0), advantage_QG.square().mean(1) @ member_QD
        square_D = self.square_D.follow(square_D / n_D.clamp(min=1), n_D > 0)
        self.count_D += n_D * advantage_QG.shape[1]
        common = (square_D.sum() / (self.count_D > 0).sum()).sqrt()
        scale_D = torch.where(self.count_D >= LEAST_COUNT, torch.maximum(square_D.sqrt(), common / CAP), common) + EPS
        return advantage_QG / scale_D[task_Q][:, None]


def step(policy, optimizer, calibration, train, generator):
    """Draw, judge, move. Returns the advantages, `[Q, G]`."""
    rows = (torch.rand(BATCH, generator=generator, dtype=torch.float64) * len(train.task_Q)).long()
    batch = Data(*(part[rows] for part in train))
    form_Q, log_arm_QA = policy(batch.embedding_QE, batch.prior_QA)
    arm_QG, well_QG = draw(form_Q.detach(), log_arm_QA.detach(), generator)
    advantage_QG = calibration(rewards(arm_QG, well_QG, batch.score_QA, batch.cost_QA), batch.task_Q)
    # Every action is used once, while the policy is the one that drew it: nothing is there to clip.
    loss = -(log_prob(form_Q, log_arm_QA, arm_QG, well_QG) * advantage_QG).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), LARGEST_NORM)
    optimizer.step()
    return advantage_QG


def prior(queries, memory, alpha):
    """What the arms are worth on the train queries nearest to each query, as logits: where the policy starts."""
    similarity_QN = (queries.embedding_QE @ memory.embedding_QE.T).clamp(min=0)
    if queries is memory:
        similarity_QN.fill_diagonal_(0)
    value_NA = memory.score_QA - alpha * memory.cost_QA
    nearest_Qk, index_Qk = similarity_QN.topk(NEIGHBOURS, dim=1)
    weight_QN = torch.zeros_like(similarity_QN).scatter_(1, index_Qk, (nearest_Qk / nearest_Qk[:, :1]) ** 2)
    return PRIOR_SCALE * (weight_QN @ value_NA + value_NA.mean(0)) / (weight_QN.sum(1, keepdim=True) + 1)


def load():
    """The train and test splits of the embedded pool, its arms and the price of cost."""
    bench = load_bench()
    objective, tasks = bench.objective, bench.splits.train.tasks
    encoder, splits = fit_encoder("tfidf", bench.splits.train.prompt_Q), []
    for part in (bench.splits.train, bench.splits.test):
        embedding_QE = normalize(torch.from_numpy(encoder.encode(part.prompt_Q)), dim=1)
        score_QA = torch.tensor(part.score_QA, dtype=torch.float32)
        cost_QA = torch.tensor(part.cost_QA / objective.cost_ref, dtype=torch.float32)
        task_Q = torch.tensor([tasks.index(task) for task in part.task_Q])
        splits.append(Data(embedding_QE, 0 * score_QA, score_QA, cost_QA, task_Q))
    train, test = (part._replace(prior_QA=prior(part, splits[0], objective.alpha)) for part in splits)
    return train, test, bench.splits.train.arms, objective.alpha


def main(steps, seed):
    train, test, arms, alpha = load()
    generator = torch.Generator().manual_seed(seed)
    policy = Policy(arms, train.embedding_QE.shape[1], HIDDEN, generator)
    average = {name: value.clone() for name, value in policy.state_dict().items()}
    calibration = Calibration(torch.tensor([1.0, 1.0, alpha]), int(train.task_Q.max()) + 1)
    optimizer = torch.optim.Adam(policy.parameters(), lr=RATE)
    for number in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - number / steps)
        step(policy, optimizer, calibration, train, generator)
        for name, value in policy.state_dict().items():
            average[name].lerp_(value, 1 - AVERAGING)
    policy.load_state_dict(average)
    with torch.no_grad():
        arm_Q1 = policy(test.embedding_QE, test.prior_QA)[1].argmax(1, keepdim=True)
    utility_QA = test.score_QA - alpha * test.cost_QA
    single = int((train.score_QA - alpha * train.cost_QA).mean(0).argmax())
    print(f"utility on test (simulated): {utility_QA.gather(1, arm_Q1).mean():.4f}")
    print(f"of the arm that is best on train: {utility_QA[:, single].mean():.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
