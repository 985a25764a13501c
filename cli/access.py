"""Whether callers need an API key, and the refusal to let others in while nobody has one."""

from .errors import Failure
from .redis_server import redis_url
from .settings import Settings


def listens_to_others(settings: Settings) -> bool:
    """Whether another machine can reach the API."""
    from api.guard import is_loopback

    return not is_loopback(settings.host)


def needs_keys(settings: Settings) -> bool:
    """Whether the API asks for keys."""
    return settings.auth == "keys" or (settings.auth == "auto" and listens_to_others(settings))


def check_exposure(settings: Settings) -> None:
    """Raise `Failure` if the API would listen to others, with keys, while there is none: that is nobody's intention.

    Asks Redis; when it does not answer nothing is said, for then the API refuses each request anyway.
    """
    if settings.auth == "off" or not listens_to_others(settings):
        return
    from redis.exceptions import RedisError

    from jobs.connection import connect
    from jobs.users import UserStore

    with connect(redis_url(settings)) as redis:
        try:
            if UserStore(redis).has_keys():
                return
        except RedisError:
            return
    raise Failure(
        f"{settings.host} lets other machines in, and nobody has an API key yet: make one with "
        "`npu-proxy keys create NAME`, or set NPU_PROXY_AUTH=off to let everyone in"
    )
