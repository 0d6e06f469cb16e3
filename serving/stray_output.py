"""Stray output: what the processes of a server write to their standard output and error past the log.

A library in C complains to standard error, of a client's image perhaps; an interpreter writes a traceback; BentoML has
said something before the log was set up. Where the log is JSON, all of it goes through pipes to the main process, which
logs each line as one record.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading

from serving.logs import LOG_VARIABLE, json_handler

_LEVELS = {1: ("stdout", logging.INFO), 2: ("stderr", logging.WARNING)}
_MAX_LINE = 16 * 1024
_END_SECONDS = 1.0


def catch_stray_output() -> None:
    """Send what this process and its children write to descriptors 1 and 2 through the log, until it ends.

    The log itself goes on to where descriptor 1 led before (``logs.log_stream``). A second call does nothing.
    """
    if os.environ.get(LOG_VARIABLE, "").startswith(f"{os.getpid()}:"):
        return
    sys.stdout.flush()
    log = os.dup(1)
    os.set_inheritable(log, True)
    os.environ[LOG_VARIABLE] = f"{os.getpid()}:{log}"
    for number, (name, level) in _LEVELS.items():
        reading, writing = os.pipe()
        before = os.dup(number)
        os.dup2(writing, number)
        os.close(writing)
        relay = threading.Thread(target=_relay, args=(reading, name, level), daemon=True)
        relay.start()
        atexit.register(_end, number, before, relay)


def _relay(reading: int, name: str, level: int) -> None:
    handler = json_handler()  # its own: a logger without one would write to standard error, and so to itself
    with os.fdopen(reading, "rb") as lines:
        while line := lines.readline(_MAX_LINE):
            if text := line.decode(errors="backslashreplace").rstrip():
                handler.handle(logging.LogRecord(name, level, "", 0, text, None, None))


def _end(number: int, before: int, relay: threading.Thread) -> None:
    """Put the descriptor back and wait for what is still in the pipe, unless a child keeps it open."""
    (sys.stdout if number == 1 else sys.stderr).flush()
    os.dup2(before, number)
    relay.join(_END_SECONDS)
