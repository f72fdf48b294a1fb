"""Training runs: the loop, checkpoints, results."""
