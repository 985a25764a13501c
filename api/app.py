"""The Flask app: everything is made in `create_app`, nothing at import."""

from __future__ import annotations

from flask import Flask

from api import auth, errors, guard, headers, metrics
from api.config import ApiConfig
from api.reaping import start_reaping
from api.routes import health, jobs, ollama, openai
from api.services import make_services
from jobs.users import UserStore


def create_app(config: ApiConfig) -> Flask:
    """An app for one process, made after the fork; blocks while tokenizers load. Raises `ModelError`."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.compact = True  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # It would answer with a redirect, in HTML.
    app.extensions["npu_proxy"] = services = make_services(config)
    metrics.limit_labels(app)
    headers.register(app)
    errors.register(app)
    guard.register(app, config.host)
    auth.register(app, UserStore(services.store.redis) if config.keys else None, config.user_limits)
    for routes in (openai, ollama, jobs, health):
        app.register_blueprint(routes.blueprint)
    metrics.register(app, services)
    start_reaping(services.store, config.models)
    return app
