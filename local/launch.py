"""Becomes another program that ends with its parent: `python -I -S launch.py SIGNAL PARENT UID GID COMMAND…`.

A separate program, so that nothing of ours runs between fork and exec in a process with threads. The order
matters: changing the user clears the death signal, so it is asked for afterwards; a parent that died before
it was asked for is noticed by its number. UID and GID are -1 to stay who we are.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def main(death_signal: int, parent: int, uid: int, gid: int, command: list[str]) -> None:
    os.umask(0o077)
    libc = ctypes.CDLL(None, use_errno=True)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"cannot ask to end with the parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent ended before its child began")
    try:
        os.execv(command[0], command)  # noqa: S606  there is no shell
    except OSError as failure:
        sys.exit(f"cannot run `{command[0]}`: {failure.strerror}")


if __name__ == "__main__":
    signal_number, parent_pid, user, group = map(int, sys.argv[1:5])
    main(signal_number, parent_pid, user, group, sys.argv[5:])
