"""HTTP servers that a command starts for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

# Longer than clients and load balancers keep an idle connection (60 s and less): whoever sends on one that
# was closed this instant has a failed call.
IDLE_SECONDS = 75


class NotStartedError(Exception):
    """The port is taken or the application did not start."""


class _Quiet(uvicorn.Server):
    """Leaves signals to the command that started it."""

    def install_signal_handlers(self) -> None:
        return


@asynccontextmanager
async def running(app: Any, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The application on a real port (0: any free one) of this machine; gives its base URL.

    Raises NotStartedError.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        ws="none",
        timeout_keep_alive=IDLE_SECONDS,
    )
    server = _Quiet(config)
    task = asyncio.create_task(_serve(server))
    try:
        while not server.started:
            if task.done():
                raise NotStartedError(f"{host}:{port} is taken, or the application did not start")
            await asyncio.sleep(0.01)
        bound = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{host}:{bound}"
    finally:
        server.should_exit = True
        await task


async def _serve(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit:  # uvicorn's way to say that the port is taken
        server.started = False
