"""Launch: starts BentoML's server for the service with our settings, and says when it is ready and what to try."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import threading
import time
import urllib.request
from pathlib import Path

from serving.graphs.providers import available_cores
from serving.processes.hangups import hold_hangups
from serving.processes.model_check import check_at_start
from serving.settings import Settings
from serving.stray_output import catch_stray_output

EXAMPLE_IMAGE = Path(__file__).parents[1] / "examples" / "horse.png"
_POLL_SECONDS = 0.1

logger = logging.getLogger(__name__)


class LaunchError(RuntimeError):
    """A server that cannot start; the message says why."""


def launch(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serve until the process is stopped; SIGTERM and SIGINT let requests in flight finish.

    The workers get the settings through the environment; where ``runs`` is not set, they share the cores. Raises
    LaunchError for a port that is taken and for models or settings with which no server can run.
    """
    if settings.runs is None and workers > 1:
        runs = max(1, available_cores() // (workers * (settings.threads or 1)))
        settings = settings.model_copy(update={"runs": runs})
    settings = settings.model_copy(update={"models": settings.models.absolute()})
    os.environ |= settings.to_environment()
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    os.environ.setdefault("OTEL_SDK_DISABLED", "true")
    options = f"{os.environ.get('BENTOML_CONFIG_OPTIONS', '')} services.quarterturn.workers={workers}"
    os.environ["BENTOML_CONFIG_OPTIONS"] = options.strip()
    hold_hangups()
    if settings.log_format == "json":
        catch_stray_output()
    _check_port(host, port)
    check = check_at_start()  # it runs while the imports below do
    # Its store, of which nothing is used, would be made in the home, which a service account may not have.
    os.environ.setdefault("BENTOML_HOME", str(check.server.path / "bentoml"))

    import bentoml  # reads the environment
    from bentoml._internal.configuration.containers import BentoMLContainer

    from serving.service import Quarterturn

    # BentoML would take a folder that all servers of the account share, and empty it.
    BentoMLContainer.prometheus_multiproc_dir.set(str(check.server.metrics))
    threading.Thread(target=_announce, args=(host, port, settings.log_format), daemon=True).start()
    try:
        bentoml.serve(Quarterturn, host=host, port=port, blocking=True)
    except bentoml.exceptions.BentoMLException as error:
        raise LaunchError(str(error)) from error


def example_command(url: str) -> str:
    """Return a curl command to try: with the image that ships in the checkout, or with one of the user's."""
    image = os.path.relpath(EXAMPLE_IMAGE) if EXAMPLE_IMAGE.exists() else "your-image.jpg"
    return f"curl -F {shlex.quote(f'images=@{image}')} {url}/anomaly_score"


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise LaunchError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def _announce(host: str, port: int, log_format: str) -> None:
    name = "localhost" if host in ("0.0.0.0", "::", "127.0.0.1") else f"[{host}]" if ":" in host else host
    url = f"http://{name}:{port}"
    while not _is_ready(f"{url}/readyz"):
        time.sleep(_POLL_SECONDS)
    line = f"Ready at {url}. Try: {example_command(url)}"
    if log_format == "json":
        logger.info("%s", line)
    else:
        print(line, flush=True)


def _is_ready(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url):
            return True
    except OSError:  # refused, or an HTTP status of an error: URLError is an OSError
        return False
