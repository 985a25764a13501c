"""The HTTP server around the application."""

from cli.api_server import server_options
from cli.settings import Settings


def test_one_thread_for_each_request_and_open_stream():
    options = server_options(Settings(api_workers=2, api_threads=10), 5)
    assert (options["worker_class"], options["workers"], options["threads"]) == ("gthread", 2, 10)
    assert options["bind"] == "fd://5"


def test_streams_are_cut_before_serve_would_kill_the_server():
    for shutdown_s in (4.0, 10.0, 60.0):
        assert server_options(Settings(shutdown_s=shutdown_s), 5)["graceful_timeout"] < 0.4 * shutdown_s


def test_requests_are_not_logged_unless_asked_for():
    assert "accesslog" not in server_options(Settings(), 5)
    assert server_options(Settings(), 5)["loglevel"] == "warning"
