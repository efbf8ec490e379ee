"""recal-bench: which LLM router should I trust, at what cost, and was its training stable?"""

__version__ = "0.1.0"
