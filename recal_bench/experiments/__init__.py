"""A router meets outcomes: benches, runs and their records, tuning, sweeps."""
