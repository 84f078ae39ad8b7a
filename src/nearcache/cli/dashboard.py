"""``nearcache dashboard``: one page that shows what all workers of a store do."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from nearcache.cli.asking import Namespace, PriceFile, StoreUrl, failing_well, opened, prices_of
from nearcache.cli.listening import needing, say, shown_url, tls_of, warn_of_plain

__all__ = ["dashboard"]


def dashboard(
    *,
    store: StoreUrl = None,
    namespace: Namespace = None,
    prices: PriceFile = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8090,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Let the page forget keys, models and tags.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="NEARCACHE_DASHBOARD_TOKEN",
            show_envvar=True,
            help="What whoever looks must show. Needed on any address that others reach; best "
            "given in the environment, for command lines are seen by all.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A further name that it is reached by, as a reverse proxy's; may be repeated.",
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Certificate, to speak TLS.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Its private key.")
    ] = None,
) -> None:
    """Serve a page that shows, live, what all workers of a store do.

    The first line on standard output is its URL. Only this machine reaches it, and it only shows,
    unless told otherwise.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    with failing_well("dashboard"):
        with needing("dashboard"):  # here, not above: --help need not wait for them
            from nearcache.dashboard import Access, StoreSource, make_app
            from nearcache.dashboard.listening import listen
            from nearcache.dashboard.serving import serve
        tls = tls_of(tls_certificate, tls_key)
        access = Access(
            host=host,
            token=token or None,
            names=allow_host or [],
            writes=allow_writes,
            secure=tls is not None,
        )
        table = prices_of(prices)
        with opened(store) as place, listen(host, port) as door:
            app = make_app(StoreSource(place, namespace=namespace, prices=table), access)
            warn_of_plain(host, tls, "the token and the figures", "the dashboard")
            url = shown_url(door, tls) + "/"

            def started() -> None:
                say(url)
                if open_browser:
                    typer.launch(url)

            serve(app, door, tls=tls, started=started)
