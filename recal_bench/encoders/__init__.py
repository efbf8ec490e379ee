"""Text to vectors: TF-IDF with a truncated SVD, sentence models, files of vectors, plug-ins, or several side by side.

Fitted encoders, and the embeddings of batches that are worth it, are kept in the user's cache folder (or in the folder
that the environment variable RECAL_BENCH_CACHE names) under a hash of all that determines them. A damaged file is
computed again; a cache that cannot be written is done without. Nothing is pickled. Of encoders that take long the
vector of each text is kept by itself (see `kept`), rounded to half precision whether it was kept or not.

Of a prompt longer than 4,000 characters the first and the last 2,000 are read: instructions are in front, questions
often at the end. MiniLM reads no more than the first 256 tokens of that.
"""

from recal_bench.encoders.combined import Encoder, fit_encoder, load_encoder
from recal_bench.encoders.features import Features, FeatureValues, reads_features
from recal_bench.encoders.minilm import MiniLM
from recal_bench.encoders.registry import ENCODERS, encoder, identities_of, installed_encoders, parts_of
from recal_bench.encoders.sentence_models import SentenceModel
from recal_bench.encoders.tfidf import Tfidf
from recal_bench.encoders.vectors import Vectors

__all__ = [
    "ENCODERS",
    "Encoder",
    "FeatureValues",
    "Features",
    "MiniLM",
    "SentenceModel",
    "Tfidf",
    "Vectors",
    "encoder",
    "fit_encoder",
    "identities_of",
    "installed_encoders",
    "load_encoder",
    "parts_of",
    "reads_features",
]
