"""Metadata as an encoder: what a platform knows of a query besides its text, one-hot beside the text's encoding."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from recal_bench.arrays import Float32QE
from recal_bench.encoders.cache import Arrays, pack, unpack
from recal_bench.encoders.registry import encoder
from recal_bench.errors import SettingsError

NAME = "features"
FeatureValues: TypeAlias = Mapping[str, str]
"""What is known of one query, by name; a value that is not known is absent."""


@encoder(NAME)
class Features:
    """One column for each value that train holds of each feature; what train does not hold is all zero.

    It is given the features of queries, each as a line of JSON, in the place of their prompts.
    """

    columns: dict[tuple[str, str], int]

    def fit(self, prompts: Sequence[str]) -> None:
        pairs = sorted({pair for line in prompts for pair in json.loads(line).items()})
        if not pairs:
            raise SettingsError("the encoder features finds no value of a column feature_* on train: leave it out")
        self.columns = {pair: place for place, pair in enumerate(pairs)}

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        encoding_QE = np.zeros((len(prompts), len(self.columns)), dtype=np.float32)
        for row, line in enumerate(prompts):
            for pair in json.loads(line).items():
                if pair in self.columns:
                    encoding_QE[row, self.columns[pair]] = 1.0
        return encoding_QE

    def save(self) -> Arrays:
        return {"columns": pack(list(self.columns))}

    def load(self, arrays: Arrays) -> None:
        self.columns = {(str(name), str(value)): place for place, (name, value) in enumerate(unpack(arrays["columns"]))}


def reads_features(encoder_name: str) -> bool:
    """Whether an encoder, of one part or of several, reads features."""
    return NAME in encoder_name.split("+")


def lines_of(features: Sequence[FeatureValues], n_queries: int) -> list[str]:
    """The features of queries as the encoder reads them. Raises SettingsError where they are not given."""
    if len(features) != n_queries:
        raise SettingsError(
            "the encoder features reads columns feature_* beside the text, and this router hands it texts alone: take "
            "knn, ridge, mlp, hierarchy or recal"
        )
    return [json.dumps(dict(each), sort_keys=True) for each in features]
