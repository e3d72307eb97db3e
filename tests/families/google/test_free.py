"""Requests to Google that cost nothing, or that begin a job: the objects that they name, and uploads."""

from __future__ import annotations

from typing import Any

import pytest
from tests.families.google.test_request import contents, read, why

from tollhouse.denial import Refused
from tollhouse.families.asked import Dialect, Request
from tollhouse.families.google import GOOGLE

BATCH = "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
COUNT = "/v1beta/models/gemini-2.5-flash:countTokens"
EMBED = "/v1beta/models/gemini-embedding-001:batchEmbedContents"


def test_no_object_goes_unread() -> None:
    """One that is named often counts once. A body that names too many is refused: the last of them
    could be another tenant's."""
    mine = [f"files/f{number}" for number in range(1_000)]
    assert read({"names": [*mine, *mine, "files/f0"]}, BATCH).objects == tuple(mine)
    assert "more than 1000 objects" in why({"names": [*mine, "files/of-another"]}, BATCH)
    often = ["files/f0"] * 1_000
    assert read({"names": [*often, "files/of-another"]}, BATCH).objects == (
        "files/f0",
        "files/of-another",
    )


@pytest.mark.parametrize("text", ["see src/files/a.txt", "files/", "http://[/files/", "files/a b"])
def test_a_prompt_of_a_batch_is_no_file(text: str) -> None:
    """Whatever path it names. Where a file is said to be, it must be one that can be told."""
    asked = read({"requests": [contents({"text": text})]}, BATCH)
    assert asked.objects == ()
    assert "fileUri" in why({"requests": [contents({"file_data": {"file_uri": text}})]}, BATCH)


def test_objects_that_a_batch_names() -> None:
    """By their names anywhere, and by the URL of a file where one stands."""
    url = "https://generativelanguage.googleapis.com/v1beta/files/f-1"
    parts = [{"fileData": {"fileUri": url}}, {"file_data": {"file_uri": "gs://b/files/x"}}]
    body = {"batch": {"input_config": {"file_name": "files/f-2", "requests": [contents(*parts)]}}}
    assert read(body, BATCH).objects == ("files/f-2", "files/f-1")
    veo = "/v1beta/models/veo-3.1-generate-preview:predictLongRunning"
    assert read({"instances": [{"video": {"uri": url}}]}, veo).objects == ("files/f-1",)
    assert "fileUri" in why({"instances": [{"video": {"uri": url.replace("s/f", "s%2ff")}}]}, veo)
    args = {"functionCall": {"name": "f", "args": {"uri": "docs/files/a b"}}}
    assert read({"requests": [contents(args)]}, BATCH).objects == ()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({**contents({"text": "a"}), "generateContentRequest": {}}, COUNT),
        ({"cached_content": "cachedContents/c", "generate_content_request": {}}, COUNT),
        ({"requests": [], "content": {"parts": []}}, EMBED),
    ],
)
def test_two_requests_in_one_body_are_refused(body: Any, path: str) -> None:
    """Nobody knows which of the two the provider reads."""
    assert "The body has both" in why(body, path)


def test_a_request_that_is_counted() -> None:
    """Its objects count. The model may stand beside it."""
    inner = {"model": "models/gemini-2.5-flash", "cachedContent": "cachedContents/c"}
    body = {"model": "models/gemini-2.5-flash", "generateContentRequest": inner}
    assert read(body, COUNT).objects == ("cachedContents/c",)


TO_STORE = "/upload/v1beta/fileSearchStores/s1:uploadToFileSearchStore"
FIRST = (("x-goog-upload-protocol", "resumable"), ("x-goog-upload-command", "start"))
NEXT = (("x-goog-upload-command", "upload, finalize"), ("x-goog-upload-offset", "0"))
AT = "upload_id=u1&upload_protocol=resumable"


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ("", "job"),
        (AT, "free"),
        ("upload_id=u-1_", "free"),
        ("upload_id=", "job"),
        ("upload_protocol=resumable", "job"),
        (AT + "&upload_protocol=multipart", "job"),
        ("uploadType=media&upload_id=u1", "job"),
    ],
)
def test_an_upload_to_a_store_is_one_job(query: str, cost: str) -> None:
    """Its first request is the job, and those behind it cost nothing."""
    operation = GOOGLE.operation("POST", TO_STORE, query)
    assert operation is not None
    assert operation.cost == cost


@pytest.mark.parametrize(
    "headers", [FIRST, NEXT + FIRST[1:], (*NEXT, ("x-goog-upload-protocol", "multipart")), ()]
)
def test_no_upload_begins_as_the_rest_of_another(headers: Any) -> None:
    """It would be a job for which nothing is held."""
    operation = GOOGLE.operation("POST", TO_STORE, AT)
    assert operation is not None
    with pytest.raises(Refused) as refused:
        GOOGLE.read(Request(operation, TO_STORE, headers, b"any", AT), Dialect())
    assert "Leave upload_id out" in refused.value.denial.why
    # google-genai repeats the protocol.
    GOOGLE.read(Request(operation, TO_STORE, NEXT + FIRST[:1], b"any", AT), Dialect())
