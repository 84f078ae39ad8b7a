"""Dashboards for tests: over a source that says what the test wants, in a thread of its own."""

import threading
from typing import Any, Self

import uvicorn

import reports
from nearcache.dashboard import Access, make_app
from nearcache.dashboard.listening import listen
from nearcache.errors import ConfigError

__all__ = ["TOKEN", "FakeSource", "Served"]

TOKEN = "a-token-of-32-characters-or-so--"


class FakeSource:
    """Figures that stay as they are until the test changes ``document`` or sets ``error``."""

    def __init__(self, document: dict[str, Any] | None = None) -> None:
        self.document = reports.report().to_dict() if document is None else document
        self.error: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.reads = 0
        self.forgotten: list[tuple[Any, ...]] = []
        self.explained: list[tuple[Any, ...]] = []

    def report(self) -> dict[str, Any]:
        self.reads += 1
        self.hold.wait(20)
        if self.error is not None:
            raise self.error
        return self.document

    def explain(self, namespace: str, key: str, model: str | None) -> dict[str, Any]:
        self.explained.append((namespace, key, model))
        if key == "bad":
            raise ConfigError("that is no key")
        self.hold.wait(20)
        return {"sentences": [f"{key} is in the store.", "It lives on."], "size": 12, "tags": []}

    def forget(self, namespace: str, what: str, name: str | None, model: str | None) -> str:
        self.forgotten.append((namespace, what, name, model))
        return f"{name} was forgotten."

    def close(self) -> None:
        self.hold.set()


class Served:
    """A dashboard on a free loopback port; ``stop`` ends it, ``start`` brings it back there."""

    def __init__(self, source: Any, access: Access | None = None) -> None:
        self._app = make_app(source, access)
        self.port = 0
        self.start()

    def start(self) -> None:
        door = listen("127.0.0.1", self.port)
        self.port = door.getsockname()[1]
        config = uvicorn.Config(
            self._app, log_config=None, access_log=False, lifespan="off", http="h11", ws="none",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: self._server.run(sockets=[door]), name="dashboard", daemon=True
        )
        self._door = door
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._door.close()
