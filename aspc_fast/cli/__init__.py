"""The `aspc-fast` command: one function per command, each loaded when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from aspc_fast.errors import UserError, did_you_mean
from aspc_fast.files import DISK_ERRORS

_COMMANDS: dict[str, tuple[str, str]] = {
    # command -> module of aspc_fast.cli, one line of help; each module has COMMANDS: name -> function
    "train": ("train", "train an algorithm (default ASPC) on a dataset"),
    "sweep": ("sweep", "train datasets x settings x seeds as one batched program"),
    "evaluate": ("evaluate", "roll out a trained run in its simulator"),
    "watch": ("watch", "film a trained run: an episode as mp4 or GIF"),
    "export": ("export", "write a trained policy as ONNX or safetensors"),
    "report": ("report", "tables and curves of results folders: Markdown, CSV and one HTML page"),
    "verify": ("verify", "replay a golden trace of the authors' trainer and compare"),
    "profile": ("profile", "algorithms side by side under torch.profiler"),
    "kernels": ("kernels", "compile the Triton kernels without a GPU: registers, spills, tensor cores"),
    "bench": ("bench", "time each way of running against reference.py"),
    "data": ("data", "list, inspect, download or make datasets: ls, info, get, make"),
    "doctor": ("doctor", "what works on this machine, and what to do about the rest"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 a mistake of the user's, 130 interrupted."""
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"aspc-fast: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("aspc-fast: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, as `| head` does
        code = 0
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(f"aspc-fast: {error.filename or 'output'}: {error.strerror}; all before it is intact", file=sys.stderr)
        code = 2
    sys.exit(code)


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        from aspc_fast import __version__

        print(f"aspc-fast {__version__}")
        return 0
    name = _choose(argv[0], list(_COMMANDS), "aspc-fast --help")
    functions: dict[str, Callable[..., Any]] = import_module(f"aspc_fast.cli.{_COMMANDS[name][0]}").COMMANDS
    rest, words = argv[1:], [name]
    if set(functions) != {name}:
        if not rest or rest[0] in ("-h", "--help"):
            lines = [
                f"  {sub:10} {(function.__doc__ or '').strip().splitlines()[0]}" for sub, function in functions.items()
            ]
            print("\n".join([f"usage: aspc-fast {name} COMMAND [options]", "", *lines]))
            return 0 if rest else 2
        words.append(_choose(rest[0], list(functions), f"aspc-fast {name} --help"))
        rest = rest[1:]
    import tyro

    if name == "train":
        from aspc_fast.cli.train import for_algorithm

        functions = {"train": for_algorithm(rest)}
    result = tyro.cli(
        functions[words[-1]], args=rest, prog=" ".join(["aspc-fast", *words]), config=(tyro.conf.FlagCreatePairsOff,)
    )
    return result if isinstance(result, int) else 0


def _choose(word: str, known: list[str], help_command: str) -> str:
    if word not in known:
        raise UserError(f"unknown command {word!r}{did_you_mean(word, known)} ({help_command} lists them)")
    return word


def _help() -> str:
    lines = [f"  {name:10} {text}" for name, (_, text) in _COMMANDS.items()]
    return "\n".join(
        [
            "usage: aspc-fast COMMAND [options]",
            "",
            "ASPC (arXiv 2508.19900) for offline reinforcement learning, at the speed of the hardware.",
            "",
            *lines,
            "",
            "aspc-fast COMMAND --help tells the options of a command.",
        ]
    )
