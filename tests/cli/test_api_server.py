"""The HTTP server around the application."""

from cli.api_server import DRAIN_PART, server_options
from cli.serve import API_GONE_BY
from cli.settings import Settings


def test_one_thread_for_each_request_and_open_stream():
    options = server_options(Settings(api_workers=2, api_threads=10), 5)
    assert (options["workers"], options["threads"]) == (2, 10)
    assert options["bind"] == "fd://5"


def test_an_api_that_drains_is_gone_before_serve_or_gunicorn_would_kill_it():
    assert DRAIN_PART < API_GONE_BY
    for shutdown_s in (0.1, 4.0, 10.0, 60.0):
        assert DRAIN_PART * shutdown_s < server_options(Settings(shutdown_s=shutdown_s), 5)["graceful_timeout"]


def test_requests_are_not_logged_unless_asked_for():
    assert "accesslog" not in server_options(Settings(), 5)
    assert server_options(Settings(), 5)["loglevel"] == "warning"
