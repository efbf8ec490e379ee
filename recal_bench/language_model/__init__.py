"""The language model as the router: it reads a question and writes which arm to call, and RL trains what it writes.

See docs/language-model.md. Nothing here is imported before a router of this package is fitted or loaded, for it needs
the extra `lm`.
"""
