"""Every case once more, as a CDS Hooks call over HTTP; every response goes through the walker."""

import httpx
import pytest

from cds.app import create_app
from cds.protocol.walker import problems
from tests.casebook.case_file import Written, bench_of, written_cases
from tests.casebook.over_http import CLOCK, CaseClock, card_mismatch, hook_request, service_of


@pytest.fixture(scope="module")
def transport() -> httpx.ASGITransport:
    return httpx.ASGITransport(app=create_app(CaseClock(max_cards=50, budget_seconds=60)))


def _callable(written: Written) -> bool:
    return not written.raw.get("parameters") and not written.raw.get("facility")


@pytest.mark.parametrize(
    "written", [w for w in written_cases() if _callable(w)], ids=lambda written: written.id
)
async def test_case_over_http(written: Written, transport: httpx.ASGITransport) -> None:
    bench = bench_of(written)
    CLOCK.set(bench.now)
    async with httpx.AsyncClient(transport=transport, base_url="http://cds.test") as client:
        language = "zh-TW" if len(written.name) % 2 else "en"
        response = await client.post(
            f"/cds-services/{service_of(written)}",
            json=hook_request(written, bench),
            headers={"Accept-Language": language},
        )
    body = response.json()
    assert response.status_code == 200, body
    assert not problems(body), written.id
    assert not card_mismatch(written, body["cards"]), written.id
