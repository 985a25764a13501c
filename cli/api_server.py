"""The API under gunicorn: threads, because most of them only wait for the next token of a stream."""

import os
import socket
import struct
import threading
import time
from functools import partial
from typing import Any

import gunicorn.http.wsgi
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

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

#: What a client gets to go on with a request it has begun, or with taking its answer.
SILENT_CLIENT_S = 30

#: A process that is told to end is gone after this part of `shutdown_s`; `serve` kills it after 0.4 of it.
DRAIN_PART = 0.3
#: For this part of that time answers may still end by themselves; then whoever waits is told that the server stops.
ANSWER_PART = 0.7


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
    drain_s = DRAIN_PART * settings.shutdown_s
    return {
        "bind": f"fd://{listener_fd}",
        "worker_class": DrainingWorker,
        "workers": settings.api_workers,
        "threads": settings.api_threads,
        # Connections that wait for a thread are kept, not refused: the API answers 503 itself.
        "worker_connections": settings.api_threads + 1000,
        "timeout": HUNG_AFTER_S,
        # The worker ends by itself before this; it counts in whole seconds.
        "graceful_timeout": int(drain_s) + 2,
        "keepalive": IDLE_CONNECTION_S,
        "worker_tmp_dir": MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None,
        "loglevel": "info" if settings.log_level == "debug" else "warning",
        "control_socket_disable": True,
        "proc_name": "npu-proxy-api",
        "post_fork": partial(_after_fork, drain_s),
    }


def _after_fork(drain_s: float, _: Any, worker: Any) -> None:
    worker.drain_s = drain_s
    die_with_parent(worker.ppid)


class DrainingWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker with threads, which on SIGTERM ends in good order within `drain_s`.

    gunicorn's own would leave open streams to be cut by SIGKILL, and Python would wait for their threads for ever.
    """

    drain_s = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._told = threading.Event()

    def run(self) -> None:
        threading.Thread(target=self._drain, name="drain", daemon=True).start()
        super().run()

    def handle(self, conn: Any) -> Any:
        """Serve a connection in a thread of the pool, its last goodbye included, in which gunicorn gives the client two
        seconds to close: its own would take them in the thread that accepts, and keep everybody waiting."""
        # Who sends no more of a request, or takes no more of an answer, gives the thread back after that time.
        for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            conn.sock.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", SILENT_CLIENT_S, 0))
        goes_on = super().handle(conn)
        if goes_on is False:
            conn.close(graceful=True)
            conn.close = lambda graceful=False: None
        return goes_on

    def handle_request(self, req: Any, conn: Any) -> bool:
        try:
            keep: bool = super().handle_request(req, conn)
            return keep
        except BlockingIOError:  # The client took nothing for `SEND_WAIT_S` (`api/waiting.py`): no fault of ours.
            return False

    def handle_exit(self, sig: int, frame: object) -> None:
        super().handle_exit(sig, frame)
        self._told.set()

    def _drain(self) -> None:
        self._told.wait()
        time.sleep(ANSWER_PART * self.drain_s)
        self.wsgi.extensions["npu_proxy"].stopping.set()
        time.sleep((1 - ANSWER_PART) * self.drain_s)
        os._exit(0)  # Past the threads that still write to a client who does not read.


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
