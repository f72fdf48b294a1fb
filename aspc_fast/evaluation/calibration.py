"""The simulators' versions with which scores were compared with D4RL's, and the sentence for any other."""

from __future__ import annotations

from importlib import metadata

CALIBRATED = {
    "envpool": "1.2.5",
    "gymnasium": "1.4.0",
    "gymnasium-robotics": "1.4.2",
    "mujoco": "4.0.0",
    "ogbench": "1.2.2",
}
"""pyproject.toml pins the same; envpool carries its own MuJoCo."""

_NEEDED = {
    "envpool": ("envpool",),
    "gymnasium-robotics": ("gymnasium-robotics", "gymnasium", "mujoco"),
    "ogbench": ("ogbench", "gymnasium", "mujoco"),
}


def other_version(package: str) -> str | None:
    """The sentence for a package of another version than the calibrated one; None if it is that one or missing."""
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
    wanted = CALIBRATED.get(package, found)
    return None if found == wanted else f"{package} is {found}, but scores were calibrated with {wanted}"


def uncalibrated(engine: str) -> str:
    """What to add to a score's ``comparable`` sentence where ``engine`` runs on other versions; "" if none does."""
    return "".join(f"; {told}" for told in map(other_version, _NEEDED.get(engine, (engine,))) if told)
