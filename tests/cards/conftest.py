from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cards.desk import locale_with, using


@pytest.fixture(scope="session")
def example_locale(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return locale_with(tmp_path_factory.mktemp("locale"))


@pytest.fixture
def example_texts(example_locale: Path) -> Iterator[None]:
    """The shared texts and those of the test rule, instead of the shipped rules' texts."""
    yield from using(example_locale)
