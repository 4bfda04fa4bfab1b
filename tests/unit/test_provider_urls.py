"""Where a request for an answer is sent, given a provider's base URL."""

import pytest

from baio_adapters.llm.http import url_of


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://llm.example.org", "https://llm.example.org/chat/completions"),
        ("https://llm.example.org/v1/", "https://llm.example.org/v1/chat/completions"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
        ("https://llm.example.org/lab%2Fa%20b/v1", "https://llm.example.org/lab%2Fa%20b/v1/chat/completions"),
        ("https://llm.example.org/\u00f8l/v1", "https://llm.example.org/%C3%B8l/v1/chat/completions"),
        ("https://llm.example.org/v1?version=1", "https://llm.example.org/v1/chat/completions?version=1"),
    ],
)
def test_a_path_is_added_to_a_base_url_and_changes_nothing_else_of_it(base_url: str, url: str) -> None:
    assert url_of(base_url, "chat/completions") == url
