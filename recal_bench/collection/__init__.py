"""Outcomes from live models: lm-eval's tasks, OpenAI-compatible endpoints, and a journal that a crash does not hurt."""
