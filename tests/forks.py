"""Programs that tests start often: forked from a process that has imported them, which takes each a second.

What is started is a process like any other: it has a process id, gets signals, and ends with an exit code.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_PROGRAMS = multiprocessing.get_context("forkserver")
_PROGRAMS.set_forkserver_preload(["gateway.__main__", "tests.plumbing.a_process"])


def fork(
    main: Callable[[list[str]], int],
    arguments: Sequence[str],
    out: Path,
    err: Path,
    environ: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Starts `main`; its standard output and errors are added to two files, or to one."""
    process = _PROGRAMS.Process(
        target=_run, args=(main, list(arguments), out, err, dict(environ or {})), daemon=True
    )
    process.start()
    return process


def _run(
    main: Callable[[list[str]], int], arguments: list[str], out: Path, err: Path, environ: dict[str, str]
) -> None:
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        with file.open("ab", 0) as written:
            os.dup2(written.fileno(), stream.fileno())
    os.environ.update(environ)
    sys.exit(main(arguments))
