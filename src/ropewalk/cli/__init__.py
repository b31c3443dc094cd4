"""The command-line tool `ropewalk`: connect, listen, proxy, run, explain, simulate, demo.

`main` is what the installed script and `python -m ropewalk` call. The rooms behind it: `command.py` the commands
and their options; `place.py` reads HOST:PORT; `standard.py` stdin and stdout as things a reactor watches;
`joint.py` joins them with one connection; `serve.py` listens; `proxy.py` balances; `run.py` a service; `show.py` colours;
`simulate.py` simulated tests; `demo.py` the demo.

The tool needs click and rich, which the engine does not: importing ropewalk never comes here, and without them
the tool says in one line how to get them.
"""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the tool on `sys.argv`; leaves with the exit status of the command."""
    _hold_standard_descriptors()
    try:
        # Why already: the commands import it when they are run, and none of them should begin without it.
        import rich  # noqa: F401

        from ropewalk.cli.command import ropewalk
    except ModuleNotFoundError as missing:
        # Why: any other module that is missing is a fault of ours, and its traceback says where.
        if (missing.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print(
            f"ropewalk: the command-line tool needs {missing.name}; get it with: pip install 'ropewalk[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    ropewalk(prog_name="ropewalk")


def _hold_standard_descriptors() -> None:
    """Put something where stdin, stdout or stderr was closed (`<&-`).

    Why: the next descriptor to be opened gets the lowest free number, and a socket that is number 1 would be sent
    whatever is printed. Why each the wrong way round: reading or writing it must fail as it would if closed.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
