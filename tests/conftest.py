"""What every test shares."""

import pytest


@pytest.fixture(autouse=True)
def bundled_weights(monkeypatch):
    """Tests are about the bundled weights, whatever the shell has chosen."""
    monkeypatch.delenv("BERTLAB_BERT", raising=False)
    monkeypatch.delenv("BERTLAB_SBERT", raising=False)
