"""The HTTP of the gateways: where a request is sent, and which responses are compressed."""

import httpx2
import pytest

from baio_adapters.llm.http import _refuse_compressed, url_of


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


@pytest.mark.parametrize(
    "encoding", ["", "identity", "Identity", "none", "NONE", "utf-8", "UTF-8", "identity, none", " "]
)
def test_a_content_encoding_that_is_no_compression_is_accepted(encoding: str) -> None:
    _refuse_compressed([encoding])


@pytest.mark.parametrize("encodings", [["gzip"], ["identity", "br"], ["none, deflate"], ["zstd"], ["unheard-of"]])
def test_any_other_content_encoding_is_refused(encodings: list[str]) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        _refuse_compressed(encodings)
