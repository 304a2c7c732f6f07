"""A card whose text could not be built is still shown to a clinician, but fails every test that made it."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_card_without_text(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    failed = [record.__dict__ for record in caplog.records if record.name == "cards.render"]
    assert not failed, [(r.get("rule"), r.get("error", r.get("action"))) for r in failed]
