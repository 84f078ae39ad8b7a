"""``nearcache dashboard``: one page that shows what all workers of a store do."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from nearcache.cli.listening import check_tls, shown_url
from nearcache.cli.target import WRONG_USAGE, Namespace, StoreUrl, open_target

__all__ = ["dashboard"]


def dashboard(
    *,
    store: StoreUrl = "",
    namespace: Namespace = None,
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
    # Here, not above: --help need not wait for them.
    from nearcache.errors import CacheError, ConfigError

    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        try:
            from nearcache.dashboard import Access, StoreSource, make_app
            from nearcache.dashboard.access import is_loopback
            from nearcache.dashboard.listening import listen
            from nearcache.dashboard.run import run
        except ImportError as error:
            raise ConfigError(
                f"the dashboard needs {error.name or 'a package'}, which is not installed: "
                "pip install 'nearcache[dashboard]'"
            ) from error
        check_tls(tls_certificate, tls_key)
        access = Access(
            host=host,
            token=token or None,
            names=allow_host or [],
            writes=allow_writes,
            secure=tls_certificate is not None,
        )
        with open_target(store) as opened, listen(host, port) as door:
            app = make_app(StoreSource(opened, namespace=namespace), access)
            scheme = "http" if tls_certificate is None else "https"
            if scheme == "http" and not is_loopback(host):
                logging.getLogger("nearcache").warning(
                    "the token and the figures reach %s unencrypted: give --tls-certificate and "
                    "--tls-key, or put the dashboard behind something that speaks TLS",
                    host,
                )
            url = shown_url(scheme, door.getsockname()) + "/"

            def started() -> None:
                typer.echo(url)
                sys.stdout.flush()
                if open_browser:
                    typer.launch(url)

            run(
                app,
                door,
                certificate=None if tls_certificate is None else str(tls_certificate),
                private_key=None if tls_key is None else str(tls_key),
                started=started,
            )
    except ConfigError as error:
        typer.echo(f"nearcache dashboard: {error}", err=True)
        raise typer.Exit(WRONG_USAGE) from None
    except (CacheError, OSError) as error:
        typer.echo(f"nearcache dashboard: {error}", err=True)
        raise typer.Exit(1) from None
