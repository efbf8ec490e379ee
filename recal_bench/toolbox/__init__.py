"""What baselines share: targets, clusters, bandits, saved arrays and the loop for small torch models."""
