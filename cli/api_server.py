"""The API under gunicorn: threads, because most of them only wait for the next token of a stream."""

import os
from typing import Any

import gunicorn.http.wsgi
from gunicorn.app.base import BaseApplication

from .access import check_exposure
from .lifeline import die_with_parent
from .listening import listen
from .settings import Settings

#: gunicorn beats its workers' hearts through a file; in memory, a slow disk cannot make one look dead.
MEMORY_FOLDER = "/dev/shm"

#: Of a worker whose main loop stands still. Requests run in threads and may take as long as they like.
HUNG_AFTER_S = 60

#: For requests of a client that comes back; shorter than the 75 s or so of common proxies before us.
IDLE_CONNECTION_S = 30


def run_api(settings: Settings) -> None:
    """Serve HTTP until SIGTERM; leaves by SystemExit. Raises `Failure` when the address cannot be had, or others would
    be let in while nobody has a key."""
    check_exposure(settings)
    # "gunicorn" in each answer is nobody's business.
    gunicorn.http.wsgi.SERVER = "npu-proxy"
    # gunicorn closes the descriptor itself.
    _Server(settings, listen(settings.host, settings.port).detach()).run()


def server_options(settings: Settings, listener_fd: int) -> dict[str, Any]:
    """gunicorn's options, by its names."""
    return {
        "bind": f"fd://{listener_fd}",
        "worker_class": "gthread",
        "workers": settings.api_workers,
        "threads": settings.api_threads,
        # Connections that wait for a thread are kept, not refused: the API answers 503 itself.
        "worker_connections": settings.api_threads + 1000,
        "timeout": HUNG_AFTER_S,
        # Open streams never end by themselves; `serve` leaves the API 0.4 of its time.
        "graceful_timeout": max(1, int(settings.shutdown_s / 4)),
        "keepalive": IDLE_CONNECTION_S,
        "worker_tmp_dir": MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None,
        "loglevel": "info" if settings.log_level == "debug" else "warning",
        "control_socket_disable": True,
        "proc_name": "npu-proxy-api",
        "post_fork": _hang_on_arbiter,
    }


def _hang_on_arbiter(_: Any, worker: Any) -> None:
    die_with_parent(worker.ppid)


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings, listener_fd: int) -> None:
        self._settings = settings
        self._listener_fd = listener_fd
        super().__init__()

    def load_config(self) -> None:
        for name, value in server_options(self._settings, self._listener_fd).items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # Called in each worker after the fork, so connections and threads are its own.
        from api.app import create_app

        from .compose import api_config

        return create_app(api_config(self._settings))
