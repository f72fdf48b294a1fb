"""The `aspc-fast` command."""
