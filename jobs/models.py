"""The models a server offers: what is known of each, and its tokenizer, without its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from engines.base import Kind
from engines.errors import BadModelName, UnsupportedModel
from engines.grammars import AnyGrammar, CompiledGrammars, GrammarChecker
from engines.image_tokens import UNKNOWN_TOKENS, fixed, image_tokens
from engines.models.manifest import Manifest
from engines.models.names import normalise
from engines.models.store import ModelStore
from engines.tokenizer import FakeTokenizer, ModelTokenizer, PromptTokenizer
from jobs.errors import UnknownModel

FAKE_CONTEXT_TOKENS = 8192


@dataclass(frozen=True)
class OfferedModel:
    """One model, by the engine kind that serves it. `manifest` is None for the fake engine's."""

    name: str
    kind: Kind
    tokenizer: PromptTokenizer
    context_tokens: int
    manifest: Manifest | None = None
    dimensions: int = 0
    #: What an image of that width and height takes of a vision model's context.
    image_tokens: Callable[[int, int], int] = fixed(UNKNOWN_TOKENS)
    grammars: GrammarChecker = field(default_factory=AnyGrammar)


class OfferedModels:
    """What this server's engines are set to serve. Fixed at start."""

    def __init__(self, models: Sequence[OfferedModel]) -> None:
        self.all = tuple(models)

    def named(self, name: str) -> OfferedModel:
        """The model of that name, of whatever kind; `x` and `x:latest` are one. Raises `UnknownModel`."""
        return self._find(name, self.all)

    def get(self, name: str, *kinds: Kind) -> OfferedModel:
        """The model of that name that does one of these kinds of work. Raises `UnknownModel`."""
        return self._find(name, [m for m in self.all if m.kind in kinds])

    def _find(self, name: str, models: Sequence[OfferedModel]) -> OfferedModel:
        try:
            wanted = normalise(name)
        except BadModelName:
            wanted = ""
        for model in models:
            if normalise(model.name) == wanted:
                return model
        raise UnknownModel(name[:100], [m.name for m in models])



def offer(store: ModelStore, name: str, kind: Kind, backend: str) -> OfferedModel:
    """The model that an engine is set to serve, with its tokenizer. Blocks while that loads, up to a few seconds.

    Raises `ModelError` when it is not in the store, damaged, or of another kind.
    """
    if backend == "fake":
        return OfferedModel(name, kind, FakeTokenizer(), context_tokens=FAKE_CONTEXT_TOKENS)
    manifest = of_kind(store, name, kind)
    tokenizer = ModelTokenizer(store.path(name))
    dimensions = manifest.embedding.dimensions if manifest.embedding else 0
    of_images = image_tokens(store.path(name)) if kind == "vision" else fixed(UNKNOWN_TOKENS)
    grammars = CompiledGrammars(store.path(name))
    return OfferedModel(
        manifest.name, kind, tokenizer, manifest.context_tokens, manifest, dimensions, of_images, grammars
    )


def offer_all(root: Path, models: Mapping[str, str], backend: str) -> OfferedModels:
    """Every engine kind's model, from the store at `root`. Blocks and raises as `offer` does."""
    store = ModelStore(root)
    return OfferedModels([offer(store, name, cast(Kind, kind), backend) for kind, name in models.items()])


def of_kind(store: ModelStore, name: str, kind: Kind) -> Manifest:
    """The manifest of a model in the store, checked to be of that kind. Raises `ModelError`."""
    manifest = store.get(name)
    if manifest.kind != kind:
        raise UnsupportedModel(f"{manifest.name} is a model of kind {manifest.kind}, not {kind}")
    return manifest
