"""What a request must show before anything is done for it, and what every answer says."""

from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nearcache.dashboard.access import Access
from nearcache.dashboard.page import door

__all__ = ["Guard", "html"]

_MOST = 256 * 1024  # bytes of a body
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_EVERY_ANSWER = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Stands before the dashboard.

    A request must come by a name of ours; what is not a mere look, from a page of ours; and where
    there is a token, from somebody who has shown it.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        answer = self._app if refusal is None else refusal
        await answer(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers, looks = Headers(scope=scope), scope["method"] in ("GET", "HEAD")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.knows(hosts[0]):
            return _no(403, "This dashboard is not known by that name: see --allow-host.")
        if self._access.token is None and any(name in headers for name in _FORWARDED):
            return _no(403, "Requests that others pass on need a token: see --token.")
        bearer = self._shows_token(headers)
        if not looks and not (bearer or _is_of(headers.get("origin", ""), hosts[0])):
            return _no(403, "This request comes from a page that is not the dashboard's.")
        if headers.get("sec-fetch-site") == "cross-site" and not _opens_a_page(headers):
            return _no(403, "Other sites may not use the dashboard.")
        if not looks and _size(headers) > _MOST:
            return _no(413, "That is too long.")
        if self._access.token is None or bearer or self._access.remembers(_cookies(headers)):
            return None
        return self._ask_for_token(scope)

    def _shows_token(self, headers: Headers) -> bool:
        kind, _, shown = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._access.admits(shown.strip())

    def _ask_for_token(self, scope: Scope) -> Response | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == "/sign-in" and scope["method"] == "POST":
            return None
        if path != "/" or scope["method"] == "POST":
            return _no(401, "This dashboard wants its token.")
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if "token" in query and self._access.admits(query["token"]):
            return None
        answer = html(door(wrong="token" in query), 401)
        # with no-referrer a browser would not say which page its form is of
        answer.headers["referrer-policy"] = "same-origin"
        return answer


def html(page: tuple[bytes, str], status: int = 200) -> Response:
    """Return a page as an answer."""
    body, policy = page
    headers = {"content-security-policy": policy}
    return Response(body, status, headers, media_type="text/html")


def _no(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)


def _size(headers: Headers) -> int:
    """Return how long a body says it is; one that does not say is too long."""
    try:
        return int(headers.get("content-length", _MOST + 1))
    except ValueError:
        return _MOST + 1


def _is_of(origin: str, host: str) -> bool:
    """Say whether a page is one of ours: of the name that this request came by."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    # a proxy before us may speak TLS where we do not
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _opens_a_page(headers: Headers) -> bool:
    return headers.get("sec-fetch-mode") == "navigate"


def _cookies(headers: Headers) -> dict[str, str]:
    """Return cookies by name; a host's programs share them, and what others set may be odd."""
    found: dict[str, str] = {}
    for line in headers.getlist("cookie"):
        for pair in line.split(";"):
            name, _, value = pair.partition("=")
            found[name.strip()] = value.strip()
    return found


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _EVERY_ANSWER.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
