"""Tests of the conversion of a provider's failures to errors."""

import json
from typing import Any

import httpx2
import msgspec
import pytest

from providers.base import ErrorCode, ProviderError
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.errors.retry_headers import retry_after_ms
from providers.http.transport_errors import Stalled
from tests.answers import recordings
from tests.upstream_providers import KEY

HOST = "api.example.com"
ENDPOINT = Endpoint("kimi", "Kimi", f"https://{HOST}/v1", ("MOONSHOT_API_KEY", "KIMI_API_KEY"), (KEY,))
FAILURES = Failures(ENDPOINT)

# The status and the expected error code of each recorded body, in the order of the file.
RECORDED: list[tuple[int, str]] = [
    (401, "upstream_auth"),
    (403, "upstream_auth"),
    (401, "upstream_auth"),
    (401, "upstream_auth"),
    (401, "upstream_auth"),
    (401, "upstream_auth"),
    (400, "context_length_exceeded"),
    (400, "context_length_exceeded"),
    (400, "context_length_exceeded"),
    (400, "context_length_exceeded"),
    (400, "context_length_exceeded"),
    (400, "context_length_exceeded"),
    (400, "invalid_request"),
    (400, "model_not_found"),
    (400, "model_not_found"),
    (404, "model_not_found"),
    (404, "model_not_found"),
    (400, "unsupported"),
    (400, "invalid_request"),
    (400, "invalid_request"),
    (400, "invalid_request"),
    (400, "unsupported"),
    (400, "unsupported"),
    (400, "unsupported"),
    (400, "invalid_request"),
    (429, "upstream_rate_limited"),
    (404, "upstream_error"),
    (400, "invalid_request"),
    (400, "invalid_request"),
]

CASES: list[tuple[int, Any, ErrorCode, bool]] = [
    (429, {"error": {"code": "credit_balance_exhausted", "message": "x"}}, "upstream_rate_limited", False),
    (
        429,
        {"error": {"code": "org_spend_limit_exceeded", "message": "x"}},
        "upstream_rate_limited",
        False,
    ),
    (429, {"error": {"type": "insufficient_quota", "message": "x"}}, "upstream_rate_limited", False),
    (429, {"error": {"code": "1113", "message": "余额不足"}}, "upstream_rate_limited", False),
    (429, {"error": {"message": "Rate limit reached for requests"}}, "upstream_rate_limited", True),
    (429, {"error": {"code": "1302", "message": "并发"}}, "upstream_rate_limited", True),
    (429, {"error": {"code": "1308", "message": "已达上限"}}, "upstream_rate_limited", False),
    (429, {"error": {"type": "exceeded_current_quota_error", "message": "x"}}, "upstream_rate_limited", False),
    (400, {"code": "Arrearage", "message": "Access denied"}, "upstream_rate_limited", False),
    (400, {"error": {"message": "Invalid value: 1113 is above the maximum"}}, "invalid_request", False),
    (400, {"error": {"message": "Invalid value: 1301 tokens"}}, "invalid_request", False),
    (400, {"error": {"message": "Invalid schema for function 'billing_credits'"}}, "invalid_request", False),
    (403, {"error": "Your team doesn't have any credits yet"}, "upstream_rate_limited", False),
    (400, {"error": {"message": "Your credit balance is too low"}}, "upstream_rate_limited", False),
    (400, {"error": {"message": "User location is not supported for the API use."}}, "upstream_auth", False),
    (403, {"error": {"code": "unsupported_country_region_territory", "message": "x"}}, "upstream_auth", False),
    (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}, "model_not_found", False),
    (
        404,
        {
            "error": {
                "message": "Not found the model kimi-k2-turbo-preview or Permission denied",
                "type": "resource_not_found_error",
            }
        },
        "model_not_found",
        False,
    ),
    (400, {"error": {"code": "1211", "message": "模型不存在"}}, "model_not_found", False),
    (
        400,
        {"error": {"code": "model_decommissioned", "message": "The model `x` is decommissioned."}},
        "model_not_found",
        False,
    ),
    (
        404,
        {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-3-opus-20240229"}},
        "model_not_found",
        False,
    ),
    (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment"}}, "model_not_found", False),
    (404, [{"error": {"code": 404, "message": "models/x is not found for API version v1"}}], "model_not_found", False),
    (400, {"message": "Range of input length should be [1, 98304]"}, "context_length_exceeded", False),
    (429, {"error": {"message": "Service tier capacity exceeded for this model."}}, "upstream_overloaded", True),
    (429, {"error": {"type": "engine_overloaded_error", "message": "x"}}, "upstream_overloaded", True),
    (402, {"error": {"message": "Payment Required"}}, "upstream_rate_limited", False),
    (
        400,
        [{"error": {"code": 400, "message": "API key not valid. Pass one."}}],
        "upstream_auth",
        False,
    ),
    (400, {"code": "x", "error": "Incorrect API key provided: xai-***."}, "upstream_auth", False),
    (403, {"error": {"message": "Country not supported"}}, "upstream_auth", False),
    (451, {"error": {"message": "blocked"}}, "content_filtered", False),
    (400, {"error": {"code": "content_filter", "message": "ResponsibleAIPolicy"}}, "content_filtered", False),
    (400, {"error": {"code": "1301", "message": "x"}}, "content_filtered", False),
    (413, "too big", "invalid_request", False),
    (404, "<html>Not Found</html>", "upstream_error", False),
    (404, {"error": {"message": "model 'llama9' not found"}}, "model_not_found", False),
    (301, "", "upstream_error", False),
    (408, "", "upstream_timeout", True),
    (500, "", "upstream_error", True),
    (502, "<html>Bad Gateway</html>", "upstream_error", True),
    (503, "", "upstream_overloaded", True),
    (504, "", "upstream_timeout", True),
    (
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
        "upstream_overloaded",
        True,
    ),
    (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, "invalid_request", False),
    (418, {}, "upstream_error", True),
]


def check_redacted(error: ProviderError) -> None:
    """Check that the message contains no key, host, URL or HTML, and that the detail contains no key."""
    for secret in (KEY, HOST, "http", "html"):
        assert secret not in error.message
    assert KEY not in error.detail


@pytest.mark.parametrize(("status", "body", "code", "retryable"), CASES)
def test_error_responses(status: int, body: Any, code: str, retryable: bool) -> None:
    """A response's status and body determine the error's code and whether it is retryable."""
    raw = body if isinstance(body, str) else json.dumps(body)
    error = FAILURES.from_response(status, {}, raw.encode())
    assert (error.code, error.retryable) == (code, retryable)
    check_redacted(error)


def test_recorded_error_responses() -> None:
    """The recorded error bodies of real providers get the codes that were assigned by hand."""
    bodies = json.loads((recordings() / "http-error-bodies.json").read_text("utf-8"))
    got = []
    for body in bodies:
        error = FAILURES.from_response(body["status"], body["headers"], body["body"].encode())
        got.append((body["status"], error.code))
        assert error.retryable == (error.code == "upstream_rate_limited"), "only the rate-limited one is retryable"
        assert body["host"] not in error.message
        check_redacted(error)
    assert got == RECORDED


@pytest.mark.parametrize(
    ("body", "code", "retryable"),
    [
        ({"error": {"type": "overloaded_error", "message": "Overloaded"}}, "upstream_overloaded", True),
        ({"error": {"type": "rate_limit_error", "message": "slow"}}, "upstream_rate_limited", True),
        ({"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}}, "upstream_overloaded", True),
        (
            [{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "x"}}],
            "invalid_request",
            False,
        ),
        ({"error": {"code": 502, "message": "Upstream"}}, "upstream_error", True),
        ({"error_code": 17, "error_msg": "Open api daily request limit reached"}, "upstream_rate_limited", False),
        ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, "upstream_rate_limited", True),
        ({"error_code": 110, "error_msg": "Access token invalid or no longer valid"}, "upstream_auth", False),
        ({"code": 429, "msg": "slow"}, "upstream_rate_limited", True),
        ({"error": {"type": "throttlingException", "message": "no"}}, "upstream_rate_limited", True),
        ({"code": "401", "msg": "no"}, "upstream_auth", False),
        ({"errors": [{"message": "prompt is too long: 5 tokens"}]}, "context_length_exceeded", False),
        ({"error": "boom"}, "upstream_error", True),
        ({"error": None}, "upstream_error", True),
        ("boom", "upstream_error", True),
        ([], "upstream_error", True),
    ],
)
def test_events(body: Any, code: str, retryable: bool) -> None:
    """The body of an error in a stream determines the error's code and whether it is retryable."""
    error = FAILURES.from_event(body)
    assert (error.code, error.retryable) == (code, retryable)
    check_redacted(error)


def test_message_names_the_key_variable() -> None:
    """The message for a rejected key names the environment variables. The key itself is in no message, no detail, and no
    string form of the endpoint."""
    error = FAILURES.from_response(401, {}, f"bad key {KEY} Bearer abcdefgh sk-live-12345678".encode())
    assert "MOONSHOT_API_KEY or KIMI_API_KEY" in error.message
    assert error.detail == "401 with a body of 65 bytes that isn't JSON"
    check_redacted(error)
    error = FAILURES.from_response(
        401, {}, json.dumps({"error": {"message": f"bad key {KEY} Bearer abcdefgh"}}).encode()
    )
    assert (error.detail, error.provider_text) == ("401", "bad key *** Bearer ***")
    check_redacted(error)
    assert KEY not in repr(ENDPOINT)
    assert KEY not in f"{ENDPOINT}"


def test_rejected_parameter_is_named() -> None:
    """The message names the parameter that the provider rejects, if it looks like a parameter name."""
    for param, shown in (
        ("temperature", True),
        ("messages[0].role", True),
        ("<b>x</b>", False),
        ("api.example.com", False),
    ):
        body = json.dumps({"error": {"message": "no", "param": param}}).encode()
        assert (f"({param})" in FAILURES.from_response(400, {}, body).message) is shown


@pytest.mark.parametrize(
    ("headers", "milliseconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after-ms": "40", "retry-after": "9"}, 40),
        ({"retry-after-ms": "0"}, None),
        ({"retry-after-ms": "0", "retry-after": "3"}, 3000),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "99999999"}, 86_400_000),
        ({"retry-after": "1e400"}, 86_400_000),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 30_000),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT"}, None),
        (
            {"retry-after": "Sat, 21 Nov 2026 10:00:30 +99999999999999999999", "date": "Sat, 21 Nov 2026 10:00:00 GMT"},
            None,
        ),
    ],
)
def test_retry_after(headers: dict[str, str], milliseconds: int | None) -> None:
    """The retry delay is read in all three forms. An invalid delay is ignored, and a long one is capped at one day."""
    assert retry_after_ms(headers) == milliseconds
    assert FAILURES.from_response(429, headers, b"").retry_after_ms == milliseconds


@pytest.mark.parametrize(
    ("body", "milliseconds", "retryable"),
    [
        ([{"error": {"message": "quota", "details": [{"@type": "x"}, {"retryDelay": "34.5s"}]}}], 34_500, True),
        ({"error": {"message": "You exceeded your current quota. Please retry in 7.5s."}}, 7_500, True),
        ({"error": {"message": "Rate limit reached. Please try again in 640ms."}}, 640, True),
        ({"error": {"message": "Please try again in 2m."}}, 120_000, True),
        ({"error": {"message": "You exceeded your current quota."}}, None, False),
        ({"error": {"message": "x", "details": [{"retryDelay": "soon"}, 7]}}, None, True),
    ],
)
def test_retry_after_in_the_body(body: Any, milliseconds: int | None, retryable: bool) -> None:
    """If its body gives a retry delay, even a quota error is retryable. A delay in the headers takes precedence."""
    error = FAILURES.from_response(429, {}, json.dumps(body).encode())
    assert (error.retry_after_ms, error.retryable) == (milliseconds, retryable)
    assert ("rate limit" in error.message) is retryable
    assert FAILURES.from_response(429, {"retry-after": "3"}, json.dumps(body).encode()).retry_after_ms == 3000


LONG = json.dumps({"error": {"type": "t", "message": "prompt is too long", "param": "messages"}, "echo": "é" * 50})


@pytest.mark.parametrize("size", [70, 74, 75, 80, 90, 91, 92, 93])
def test_truncated_body(size: int) -> None:
    """If the body is cut off, its beginning determines the error."""
    body = LONG.encode()[:size]
    error = FAILURES.from_response(400, {}, body)
    assert (error.code, error.provider_text) == ("context_length_exceeded", "prompt is too long")
    assert error.detail.startswith("400 t")


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"code":' + b"9" * 5000,
        b'{"error":{"message":"\\ud800 x","a":"',
        b'{"error":{"message":"\xff',
        b"{",
        b"",
    ],
)
def test_truncated_body_without_information(body: bytes) -> None:
    """If the body is cut off before anything useful, the status determines the error."""
    assert FAILURES.from_response(503, {}, body).code == "upstream_overloaded"


@pytest.mark.parametrize("code", ["9" * 5000, 10**4000, [1] * 1000, {"a": 1}, "x" * 5000])
def test_event_with_an_unexpected_code(code: Any) -> None:
    """An error with an unexpected code value becomes an `upstream_error`."""
    assert FAILURES.from_event({"error": {"code": code, "message": "m"}}).code == "upstream_error"


def test_body_nested_too_deeply() -> None:
    """If the body is nested too deeply, the status determines the error."""
    assert FAILURES.from_response(503, {}, b"[" * 100_000).code == "upstream_overloaded"


def test_rejected_key_with_a_hint() -> None:
    """The error for a rejected key includes the endpoint's hint. Other errors don't."""
    endpoint = msgspec.structs.replace(ENDPOINT, hint="Keys are regional.")
    assert Failures(endpoint).from_response(401, {}, b"{}").message.endswith("restart the gateway. Keys are regional.")
    assert "regional" not in Failures(endpoint).from_response(500, {}, b"{}").message


CANARIES = (
    "canary-key-0123456789",
    "canary.internal.example",
    "canary prompt",
    "10.1.2.3",
    "CanaryCanaryCanary0123456789",
)


@pytest.mark.parametrize(
    "body",
    [
        "<html>canary.internal.example: canary prompt canary-key-0123456789 10.1.2.3</html>",
        {"error": {"message": "key canary-key-0123456789 at https://canary.internal.example/x said 'canary prompt'"}},
        {"error": {"message": 'canary.internal.example:8443 and 10.1.2.3:80: "canary prompt"', "param": CANARIES[1]}},
        {"error": {"message": "x", "param": "canary-key-0123456789"}},
        {"error": {"message": {"said": "canary prompt"}}},
        {"error": {"type": "canary-key-0123456789", "code": "CanaryCanaryCanary0123456789", "message": "x"}},
        ["canary prompt"],
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [0, 200, 400, 401, 403, 404, 413, 429, 451, 500, 503])
def test_law_13_no_secret_in_a_body_is_exposed(status: int, body: Any) -> None:
    """Law 13: no key, host or quoted text in a provider's body reaches a client or a log."""
    failures = Failures(msgspec.structs.replace(ENDPOINT, api_keys=(CANARIES[0],)))
    raw = body if isinstance(body, str) else json.dumps(body)
    errors = [failures.from_response(status, {}, raw.encode()), failures.unreadable(raw.encode())]
    if not isinstance(body, str):
        errors.append(failures.from_event(body))
    for error in errors:
        for canary in CANARIES:
            assert canary not in error.message
            assert canary not in error.detail
        assert CANARIES[0] not in error.provider_text


def test_no_word_of_the_text_is_in_the_log() -> None:
    """The detail, which is logged, has the status and the names of type, code and parameter, and no word of the text."""
    body = {"error": {"message": "Unsupported value: 'temperature' must be 1 for model my-canary"}}
    for status in (400, 401, 500):
        assert FAILURES.from_response(status, {}, json.dumps(body).encode()).detail == str(status)
    named = {"error": {"message": "no canary", "type": "invalid_request_error", "code": "c1", "param": "top_p"}}
    assert FAILURES.from_response(400, {}, json.dumps(named).encode()).detail == "400 invalid_request_error c1 top_p"
    assert FAILURES.from_finish_reason("overload: the prompt said no").detail == ""


@pytest.mark.parametrize(("header", "retryable"), [("true", True), ("false", False), ("perhaps", True)])
def test_should_retry(header: str, retryable: bool) -> None:
    """If the provider's `x-should-retry` header is true or false, it decides whether the error is retryable."""
    assert FAILURES.from_response(500, {"x-should-retry": header}, b"").retryable is retryable
    assert FAILURES.from_response(400, {"x-should-retry": header}, b"").retryable is (header == "true")


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (httpx2.ConnectTimeout("x"), "upstream_error", "reached"),
        (httpx2.ConnectError("x"), "upstream_error", "reached"),
        (httpx2.ProxyError("x"), "upstream_error", "reached"),
        (httpx2.ReadTimeout("x"), "upstream_timeout", "begin"),
        (Stalled(5, started=False), "upstream_timeout", "begin"),
        (Stalled(5, started=True), "upstream_timeout", "middle"),
        (httpx2.RemoteProtocolError(HOST), "upstream_error", "broke"),
        (RuntimeError("x"), "upstream_error", "broke"),
    ],
)
def test_exceptions(error: Exception, code: str, word: str) -> None:
    """The transport's exceptions, bare or wrapped by an SDK, become retryable errors."""
    wrapped = RuntimeError("Connection error.")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        failure = FAILURES.from_exception(raised)
        assert (failure.code, failure.retryable) == (code, True)
        assert word in failure.message
        check_redacted(failure)


def test_incomplete_unreadable_and_overloaded_answers() -> None:
    """An answer that is incomplete, can't be read or stops due to overload is a retryable error."""
    results = [FAILURES.incomplete(), FAILURES.unreadable(b"<"), FAILURES.from_finish_reason("overloaded")]
    assert [result.code for result in results] == [
        "upstream_incomplete",
        "upstream_error",
        "upstream_overloaded",
    ]
    assert all(result.retryable for result in results)


def test_endpoint_without_keys() -> None:
    """The message for a rejected key makes sense even if no key is configured."""
    error = Failures(Endpoint("ollama", "Ollama", "", ())).from_response(401, {}, b"")
    assert "Check the key where" in error.message
