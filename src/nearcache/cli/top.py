"""``nearcache top``: what all workers of a store do, drawn again and again in the same place."""

import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nearcache.cli.asking import Namespace, StoreUrl, failing_well, opened

if TYPE_CHECKING:
    from nearcache.cli.top_screen import Screen
    from nearcache.stores.base import Store

__all__ = ["top"]

_LOOK = 0.2  # seconds between two looks at keyboard, size and reader


def top(
    *,
    store: StoreUrl = None,
    namespace: Namespace = None,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How often the store is asked.")
    ] = 1.0,
) -> None:
    """Watch all processes that share a store: hits, latency, who is well. Leave with q."""
    from rich.console import Console

    from nearcache.cli.top_screen import Screen

    console = Console(highlight=False)
    with failing_well("top"), opened(store) as place:
        screen = Screen(place.address, namespace)
        reader = _Reader(place, namespace, every, screen)
        if not console.is_terminal or console.is_dumb_terminal:
            reader.ask()
            console.print(screen.drawn(console.width, None, plain=_is_plain(console.encoding)))
            if screen.problem:
                raise typer.Exit(1)
            return
        reader.start()
        try:
            _watch(console, screen, reader)
        except KeyboardInterrupt:  # the other way to leave
            pass
        finally:
            reader.stop()


def _watch(console: "object", screen: "Screen", reader: "_Reader") -> None:
    from rich.console import Console
    from rich.live import Live

    from nearcache.cli.keyboard import keyboard

    assert isinstance(console, Console), "typed so that rich is imported late"
    plain = _is_plain(console.encoding)

    def frame() -> "object":
        return screen.drawn(console.width, console.height, plain=plain)

    with (
        keyboard() as keys,
        Live(frame(), console=console, screen=True, auto_refresh=False) as live,  # type: ignore[arg-type]
    ):
        drawn: object = None
        while not keys.wait(_LOOK):
            state = (screen.version, console.size, int(time.monotonic()))
            if state != drawn:
                live.update(frame(), refresh=True)  # type: ignore[arg-type]
                drawn = state
            if reader.has_failed:
                return


def _is_plain(encoding: str) -> bool:
    return not encoding.lower().startswith("utf")


class _Reader:
    """Asks the store in a thread of its own: one that hangs must not keep anybody here."""

    def __init__(
        self, store: "Store", namespace: str | None, every: float, screen: "Screen"
    ) -> None:
        self._store, self._namespace, self._every = store, namespace, every
        self._screen = screen
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nearcache-top", daemon=True)
        self._error: Exception | None = None

    def ask(self) -> None:
        """Ask once, and tell the screen what came of it."""
        from nearcache.errors import StoreError
        from nearcache.metrics.report import read

        try:
            self._screen.show(read(self._store, self._namespace))
        except StoreError as error:
            self._screen.tell(str(error))

    def start(self) -> None:
        """Ask again and again."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; raises what ended it before."""
        self._over.set()
        if self._error is not None:
            raise self._error

    @property
    def has_failed(self) -> bool:
        """Whether it asks no more because of something that no waiting cures."""
        return self._error is not None

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.ask()
            except Exception as error:  # noqa: BLE001  given to the thread that draws
                self._error = error
                return
            self._over.wait(self._every)
