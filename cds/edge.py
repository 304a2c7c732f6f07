"""The outermost layer of every HTTP answer: request id, CORS for configured origins, safe headers."""

from __future__ import annotations

import re
from collections.abc import Collection
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = b"GET, POST"
_HEADERS = b"Authorization, Content-Type, Accept-Language, X-Request-Id"


class Edge:
    """Pure ASGI, because it stands in the path of every call."""

    def __init__(self, app: ASGIApp, origins: Collection[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/").encode("latin-1", "ignore") for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = origin = preflight = None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"origin":
                origin = value
            elif name == b"access-control-request-method":
                preflight = value
        request_id = given if given is not None and _SAFE_ID.fullmatch(given) else uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        allowed = origin is not None and origin in self._origins
        if allowed and origin is not None and preflight is not None and scope["method"] == "OPTIONS":
            headers = [
                (b"access-control-allow-origin", origin),
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _HEADERS),
                (b"access-control-max-age", b"600"),
                (b"vary", b"Origin"),
                (b"x-request-id", request_id),
            ]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                headers.append((b"x-request-id", request_id))
                headers.append((b"x-content-type-options", b"nosniff"))
                if self._origins:
                    headers.append((b"vary", b"Origin"))
                if allowed and origin is not None:
                    headers.append((b"access-control-allow-origin", origin))
                    headers.append((b"access-control-expose-headers", b"X-Request-Id"))
            await send(message)

        await self._app(scope, receive, marked)
