"""Defaults that the command line shows without importing what uses them."""

DEFAULT_ALPHA = 0.2
