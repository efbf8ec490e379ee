"""Scoring for the tasks that include `_qa.yaml`: lm-eval hands over a question with its replies."""

from typing import Any

from recal_bench.scoring import exact_match, extract_answer, f1


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    answer = extract_answer(results[0])
    return {"exact_match": exact_match(answer, doc["golden_answers"]), "f1": f1(answer, doc["golden_answers"])}
