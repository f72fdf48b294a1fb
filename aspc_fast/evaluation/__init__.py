"""Rollouts in today's simulators with D4RL's horizons, rewards and scores."""
