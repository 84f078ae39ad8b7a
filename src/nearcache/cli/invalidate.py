"""``nearcache invalidate``: forget a key, a group, or everything, in every process."""

import sys
from typing import Annotated, Any

import typer

from nearcache.cli.asking import AsJson, StoreUrl, failing_well, opened, print_json, unescaped

__all__ = ["invalidate"]


def invalidate(
    key: Annotated[
        str | None,
        typer.Argument(
            help='The key, as keys shows it: several parts as a JSON list: \'["episodic", "7"]\''
        ),
    ] = None,
    *,
    store: StoreUrl = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            help='The namespace. Default: "emb" for vectors, "hot" for --type and --scope.',
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Forget the vector of this text.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Forget all vectors of a model, or of --text."),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Forget what has a tag.")] = None,
    memory_type: Annotated[
        str | None, typer.Option("--type", help="Forget memories of a type (HotMemoryCache).")
    ] = None,
    scope: Annotated[str | None, typer.Option(help="Forget memories of a scope.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Forget the whole namespace; asks before.")
    ] = False,
    view: Annotated[
        list[str] | None, typer.Option(help="The view within the namespace; may be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --all.")] = False,
    literal: Annotated[
        bool, typer.Option("--literal", help="The key is this very string, no JSON.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Forget, in the store and near every process, as the library does it: one write.

    Entries of groups are not counted: the store forgets all of them at once.
    """
    with failing_well("invalidate"):
        what = {
            "key": key,
            "text": text,
            "model": model if text is None else None,
            "tag": tag,
            "type": memory_type,
            "scope": scope,
            "all": everything or None,
        }
        action, subject = _one_of(what)
        space = _namespace(action, namespace)
        if action == "text" and model is None:
            _refuse("a vector belongs to a model: give --model")
        if action == "all":
            _ask(space, yes=yes)
        with opened(store) as place:
            _check_answers(place)
            found = _forget(place, space, tuple(view or ()), action, subject, model, literal)
        if as_json:
            shown = True if action == "all" else subject
            print_json({"forgotten": {action: shown}, "namespace": space, "was_there": found})
            return
        typer.echo(_said(action, subject, space, found=found))


def _one_of(what: dict[str, Any]) -> tuple[str, Any]:
    given = [(name, value) for name, value in what.items() if value is not None]
    if len(given) != 1:
        _refuse("give one of KEY, --text, --model, --tag, --type, --scope, --all")
    return given[0]


def _namespace(action: str, namespace: str | None) -> str:
    from nearcache.keys import KeySpace

    usual = {"text": "emb", "model": "emb", "type": "hot", "scope": "hot"}.get(action)
    space = namespace or usual
    if space is None:
        _refuse("give the --namespace")
    KeySpace(str(space))
    return str(space)


def _ask(space: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        _refuse("--all forgets the whole namespace: give --yes where nobody can be asked")
    # not typer's own: Ctrl-C would end it as if the answer were no
    typer.echo(f"Forget everything in the namespace {space!r}? [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo("Nothing was forgotten.", err=True)
        raise typer.Exit(1)


def _check_answers(place: Any) -> None:
    """Raise the store's error now: the library would keep trying, and the command would wait."""
    place.now()
    place.look([b"nc1:{doctor:00}:k:sdoctor."], [])


def _forget(
    place: Any,
    space: str,
    views: tuple[str, ...],
    action: str,
    subject: Any,
    model: str | None,
    literal: bool,
) -> bool | None:
    """Forget by the library's own caches; say of a single entry whether it was there."""
    from nearcache import EmbeddingCache, HotMemoryCache, NearCache, Options
    from nearcache.caches.stored import key_of

    options = Options(on_store_error="raise", report=0)
    kinds: dict[str, Any] = {"text": EmbeddingCache, "model": EmbeddingCache}
    kinds |= {"type": HotMemoryCache, "scope": HotMemoryCache}
    kind: Any = kinds.get(action, NearCache)
    with kind(place, namespace=space, options=options) as whole:
        cache: Any = whole
        for view in views:
            cache = cache.view(view)
        if action == "key":
            return bool(cache.invalidate(subject if literal else key_of(subject)))
        if action == "text":
            return bool(cache.invalidate(subject, model))
        if action == "model":
            cache.invalidate_by_model(subject)
        elif action == "tag":
            cache.invalidate_by_tag(subject)
            memories: Any = HotMemoryCache(place, namespace=space, options=options)
            with memories:
                inner = memories
                for view in views:
                    inner = inner.view(view)
                inner.invalidate_by_tag(subject)  # which keeps a user's tags apart from its own
        elif action == "type":
            cache.invalidate_by_type(subject)
        elif action == "scope":
            cache.invalidate_by_scope(subject)
        else:
            cache.clear()
    return None


def _said(action: str, subject: Any, space: str, *, found: bool | None) -> str:
    if action == "all":
        return f"Everything in {unescaped(space)} is forgotten."
    what = f"{'' if action == 'key' else action + ' '}{unescaped(str(subject))}"
    if found is False:
        return f"{what} was not stored in {unescaped(space)}; it is forgotten all the same."
    return f"{what} is forgotten in {unescaped(space)}."


def _refuse(why: str) -> None:
    from nearcache.errors import ConfigError

    raise ConfigError(why)
