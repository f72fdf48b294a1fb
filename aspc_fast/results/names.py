"""What a results folder's files are called, and the version of their format."""

from __future__ import annotations

FORMAT_VERSION = 1
CONFIG, METRICS, SUMMARY, CHECKPOINTS, TENSORBOARD = (
    "config.json",
    "metrics.jsonl",
    "summary.json",
    "checkpoints",
    "tensorboard",
)
SHARDS, SHARD, LOGGING, DONE = "shards", "shard.json", "logging.json", "done.json"  # of a sweep
