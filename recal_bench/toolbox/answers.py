"""What cascades share: what is known of queries after some arms have answered, and regressions on it.

Answers are compared as texts; what an answer says of its score is learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from recal_bench.arrays import ObjectQA
from recal_bench.errors import OutcomesError
from recal_bench.outcomes import Outcomes
from recal_bench.scoring import extract_answer, normalize

FOLDS = 5


class Answers:
    """What is known of queries: the levels that their encoding lets expect and, of the asked arms, what they answered.

    `level_QA` are expected scores over the arms' typical ones. `look_QAF`: is there a text, is an answer marked in it,
    how long are both. `agree_QAA`: which answers agree.
    """

    def __init__(self, level_QA: np.ndarray) -> None:
        self.level_QA, self.answer_QA = level_QA, np.full(level_QA.shape, "", dtype=object)
        self.look_QAF = np.zeros((*level_QA.shape, 4))
        self.agree_QAA = np.zeros((*level_QA.shape, level_QA.shape[1]), dtype=bool)

    @classmethod
    def of_all(cls, level_QA: np.ndarray, response_QA: np.ndarray) -> Answers:
        """What is known once all arms have answered: texts, or None where one is not known."""
        answers = cls(level_QA)
        for (row, arm), text in np.ndenumerate(response_QA):
            answers.add(row, arm, text, beside=range(arm))
        return answers

    def add(self, row: int, arm: int, text: str | None, beside: Iterable[int]) -> None:
        """Note what an arm answered, beside the answers of other arms."""
        if text is None:
            return
        found = extract_answer(text)
        self.answer_QA[row, arm] = answer = normalize(found)
        self.look_QAF[row, arm] = (1.0, found != text.strip(), np.log1p(len(text)), np.log1p(len(answer)))
        others = list(beside)
        says_same = [agree(answer, self.answer_QA[row, other]) for other in others]
        self.agree_QAA[row, arm, others] = self.agree_QAA[row, others, arm] = says_same

    def seen(self, rows: np.ndarray, arms: Sequence[int]) -> np.ndarray:
        """What a regression sees of the answers of some arms, `[R, P]`."""
        level_RM, look_RMF = self.level_QA[rows][:, arms], self.look_QAF[rows][:, arms]
        parts = [np.ones((len(rows), 1)), look_RMF.reshape(len(rows), 4 * len(arms))]
        parts += [level_RM, level_RM * look_RMF[:, :, 1]]
        for one, other in combinations(range(len(arms)), 2):
            agree_R1 = self.agree_QAA[rows, arms[one], arms[other], None]
            parts += [agree_R1, agree_R1 * level_RM[:, [one, other]]]
        return np.hstack(parts)


def texts_of(outcomes: Outcomes, router: str, does: str) -> ObjectQA:
    """What the arms answered. Raises OutcomesError where the outcomes hold no texts, naming the router."""
    if outcomes.response_QA is None:
        raise OutcomesError(
            f"router {router} {does} answers, and the outcomes hold no texts: it needs the column response"
        )
    return outcomes.response_QA


def agree(one: str, other: str) -> bool:
    """Whether one answer holds the other, as `AD 1862` holds `1862`. An empty one agrees with none."""
    return bool(one and other) and (one == other or f" {one} " in f" {other} " or f" {other} " in f" {one} ")


def folds_of(prompts: Sequence[str]) -> np.ndarray:
    """The fold of every query; equal prompts share one."""
    return np.unique(np.array(prompts, dtype=object), return_inverse=True)[1] % FOLDS


def crossed(
    input_QP: np.ndarray, target_QC: np.ndarray, fold_Q: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression on targets (NaN: unknown): predictions without a query's own fold, and the weights of all."""
    alike: dict[bytes, list[int]] = {}
    for column, known_Q in enumerate(~np.isnan(target_QC.T)):
        alike.setdefault(known_Q.tobytes(), []).append(column)
    prediction_QC, weight_PC = np.zeros(target_QC.shape), np.zeros((input_QP.shape[1], target_QC.shape[1]))
    for columns in alike.values():
        fold_R = np.where(np.isnan(target_QC[:, columns[0]]), -1, fold_Q)
        parts = [(input_QP[fold_R == fold], target_QC[fold_R == fold][:, columns]) for fold in range(FOLDS)]
        gram_FPP = np.stack([input_RP.T @ input_RP for input_RP, _ in parts])
        right_FPC = np.stack([input_RP.T @ target_RC for input_RP, target_RC in parts])
        gram_PP, right_PC = gram_FPP.sum(axis=0) + penalty * np.eye(input_QP.shape[1]), right_FPC.sum(axis=0)
        weight_PC[:, columns] = np.linalg.solve(gram_PP, right_PC)
        left_FPC = np.linalg.solve(gram_PP - gram_FPP, right_PC - right_FPC)
        for fold in range(FOLDS):
            prediction_QC[np.ix_(fold_Q == fold, columns)] = input_QP[fold_Q == fold] @ left_FPC[fold]
    return prediction_QC, weight_PC
