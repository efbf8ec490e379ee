"""Metrics, references and statistics: arrays in, numbers out. Knows no router and no run."""
