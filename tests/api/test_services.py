"""What a request must not wait for."""

import threading
import time

from api import services
from api.services import WorkersView
from jobs.connection import connect_impatient
from jobs.store import JobStore
from tests.support.waiting import until


def test_while_one_request_asks_a_silent_redis_for_the_workers_the_others_go_on(own_valkey, monkeypatch):
    monkeypatch.setattr(services, "REPORTS_AGE_S", 0.0)
    with connect_impatient(own_valkey.url) as redis:
        view = WorkersView(JobStore(redis))
        assert view() == []
        own_valkey.pause()
        asking = threading.Thread(target=view)
        asking.start()
        until(view._lock.locked, what="the question")
        begun = time.monotonic()
        assert view() == []
        assert time.monotonic() - begun < 1
        assert asking.is_alive()
        own_valkey.resume()
        asking.join(10)
        assert not asking.is_alive()
