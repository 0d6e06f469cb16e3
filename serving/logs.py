"""Logs: every line of the server's log is one record, as text or as a JSON object, whatever a client put into it.

Text that came from outside can hold line ends and terminal codes; they are written as escapes, so that no client forges
a line of its own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

from serving.layers.request_log import request_id

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# BentoML's, uvicorn's, the process manager's and this project's own.
_LOGGERS = ("", "bentoml", "uvicorn", "uvicorn.error", "circus", "serving")
# The process and the descriptor of the log, where standard output leads elsewhere (serving.stray_output).
LOG_VARIABLE = "_QUARTERTURN_LOG"


def set_up_logs(log_format: str) -> None:
    """Give every handler of this process's loggers a formatter of one line a record; the project logs from INFO on.

    With ``log_format`` "json" all of them write through one handler to ``log_stream``.
    """
    logging.getLogger("serving").setLevel(logging.INFO)
    for name, known in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "serving" and isinstance(known, logging.Logger):
            known.disabled = False  # which BentoML does to those made before its own
    if log_format == "json":
        handler = json_handler()
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.handlers = [handler] if not name else []
            logger.propagate = True
        return
    for name in _LOGGERS:
        for handler_of_logger in logging.getLogger(name).handlers:
            formatter = handler_of_logger.formatter or logging.Formatter()
            if not isinstance(formatter, SafeFormatter):
                handler_of_logger.setFormatter(SafeFormatter(formatter))


def json_handler() -> logging.Handler:
    """Return a handler that writes records as JSON to ``log_stream``."""
    handler = _QuietHandler(log_stream())
    handler.setFormatter(JsonFormatter())
    return handler


class _QuietHandler(logging.StreamHandler[TextIO]):
    """Drops records that cannot be written: the disk is full, or nobody reads the log.

    The library would print a traceback to standard error, which is caught for the log and so comes here again, until
    the pipe is full and every process that logs stands still.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Let it go."""


def log_stream() -> TextIO:
    """Return where a log of JSON goes: to standard output, or to where that led when the server began."""
    _, _, descriptor = os.environ.get(LOG_VARIABLE, "").partition(":")
    if not descriptor:
        return sys.stdout
    return os.fdopen(int(descriptor), "w", encoding="utf-8", closefd=False)


class SafeFormatter(logging.Formatter):
    """Formats as another formatter does, with the control characters of a record's message escaped."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text: its message in one line, then a traceback where there is one."""
        safe = logging.makeLogRecord(record.__dict__)
        safe.msg, safe.args = escaped(record.getMessage()), None
        return self._inner.format(safe)


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, logger, process, message; request_id and traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object in one line."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": _message(record),
        }
        if (number := request_id.get()) is not None:
            fields["request_id"] = number
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _message(record: logging.LogRecord) -> str:
    """Return a record's message, also where a program has given it other values than its text has places for."""
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg} {record.args}"


def escaped(text: str) -> str:
    """Return the text with control characters and line ends as escapes."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
