"""A trained run on film."""
