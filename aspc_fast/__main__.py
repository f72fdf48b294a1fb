"""`python -m aspc_fast`: the same as the `aspc-fast` command."""

from aspc_fast.cli import main

if __name__ == "__main__":
    main()
