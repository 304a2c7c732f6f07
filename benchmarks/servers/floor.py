"""The floor: read the same body with orjson, answer no cards."""

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

NO_CARDS = orjson.dumps({"cards": []})


async def answer(request: Request) -> Response:
    orjson.loads(await request.body())
    return Response(NO_CARDS, media_type="application/json")


app = Starlette(routes=[Route("/cds-services/{service}", answer, methods=["POST"])])
