"""What providers say when a request is too long, or a model isn't there: in each provider's own words and status."""

import json
from typing import Any

import pytest

from providers.endpoint import Endpoint
from providers.errors.failures import Failures

FAILURES = Failures(Endpoint("kimi", "Kimi", "", ("KEY",)))


def openai(message: str, **fields: Any) -> dict[str, Any]:
    """Return an error body in OpenAI's form."""
    return {"error": {"message": message, **fields}}


TOO_LONG: list[tuple[int, Any]] = [
    (400, openai("Your input exceeds the context window of this model. Please adjust your input and try again.")),
    (
        400,
        openai("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens."),
    ),
    (400, openai("x", code="context_length_exceeded")),
    (400, openai("input length and `max_tokens` exceed context limit: 190000 + 30000 > 200000, decrease input length")),
    (413, openai("Prompt is too long", type="request_too_large")),
    (400, {"message": "Input is too long for requested model."}),
    (400, {"message": "Too many input tokens. Max input tokens: 8192, request input token count: 11000 "}),
    (
        400,
        [openai("The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).", code=400)],
    ),
    (
        400,
        openai(
            "Unable to submit request because the input token count is 2097153 but the model only supports 1048576."
        ),
    ),
    (
        400,
        {
            "object": "error",
            "message": "Prompt contains 329014 tokens and 0 draft tokens, too "
            "large for model with 131072 maximum context length",
            "type": "invalid_request_error",
            "code": "3051",
        },
    ),
    (
        400,
        {
            "message": "too many tokens: total number of tokens in the prompt "
            "cannot exceed 4081 - received 4118. Try using a shorter prompt"
        },
    ),
    (400, {"message": "too many tokens: size limit exceeded by 2004 tokens. Try using shorter or fewer inputs."}),
    (400, openai("Please reduce the length of the messages or completion.", type="invalid_request_error")),
    (
        413,
        openai(
            "Request too large for model `llama` in organization `org` on tokens "
            "per minute (TPM): Limit 6000, Requested 9000, please reduce your message size and try again.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    (
        422,
        openai(
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= "
            "8193. Given: 9000 `inputs` tokens and 512 `max_new_tokens`"
        ),
    ),
    (
        422,
        {
            "error": "Input validation error: `inputs` must have less than 4095 tokens. Given: 9000",
            "error_type": "validation",
        },
    ),
    (400, openai("The input (9000 tokens) is longer than the model's context length (8192 tokens).")),
    (400, openai("The prompt is too long: 141272, model maximum context length: 131071", code="invalid_request_error")),
    (
        400,
        {
            "object": "error",
            "message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
            "type": "BadRequestError",
            "code": 400,
        },
    ),
    (
        400,
        {
            "object": "error",
            "message": "Requested token count exceeds the model's maximum context length of 4096 tokens.",
            "code": 400,
        },
    ),
    (
        400,
        {
            "object": "error",
            "message": "Input length (9000 tokens) exceeds the maximum allowed length (8191 tokens).",
            "code": 400,
        },
    ),
    (400, openai("prompt too long; exceeded max context length by 3 tokens")),
    (400, {"error": "the input length exceeds the context length"}),
    (
        400,
        openai(
            "the request exceeds the available context size, try increasing it",
            type="exceed_context_size_error",
            code=400,
            n_ctx=4096,
        ),
    ),
    (500, openai("Context size has been exceeded.", code=500, type="server_error")),
    (
        400,
        {
            "error": "The number of tokens to keep from the initial prompt is "
            "greater than the context length. Try to load the model with a larger context length"
        },
    ),
    (
        400,
        {
            "error": "Trying to keep the first 5000 tokens when context the "
            "overflows. However, the model is loaded with context length of only 4096 tokens"
        },
    ),
    (
        400,
        openai(
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
            code="invalid_parameter_error",
        ),
    ),
    (400, openai("Prompt exceeds max length", code="1261")),
    (400, openai("Prompt 超长", code="1261")),
    (400, openai("输入长度超过模型上下文限制")),
    (
        400,
        openai(
            "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)",
            type="invalid_request_error",
        ),
    ),
    (
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        },
    ),
    (400, openai("prompt token count of 137500 exceeds the limit of 128000", code="model_max_prompt_tokens_exceeded")),
    (
        400,
        openai(
            "Provider returned error",
            code=400,
            metadata={
                "raw": (
                    '{"type":"error","error":{"type":"invalid_request_error",'
                    '"message":"prompt is too long: 213462 tokens > 200000 maximum"}}'
                ),
                "provider_name": "Anthropic",
            },
        ),
    ),
    (
        400,
        openai(
            '{\n  "error": {\n    "code": 400,\n    "message": "The input token '
            'count (2) exceeds the maximum number of tokens allowed (1)."}}'
        ),
    ),
    (
        400,
        openai(
            "The estimated number of input and maximum output tokens (9000) "
            "exceeded this model context window limit (8192).",
            code=5021,
        ),
    ),
    (
        400,
        {
            "errors": [
                {
                    "code": "invalid_input_argument",
                    "message": "the number of input tokens 5000 cannot exceed the total "
                    "tokens limit 4096 for this model",
                }
            ]
        },
    ),
    (400, openai("invalid params, context window exceeds limit (2013)", type="bad_request_error")),
    (400, openai("litellm.ContextWindowExceededError: x")),
    (400, openai("Token limit exceeded")),
    (400, openai("Prompt tokens limit exceeded: 220000 > 200000", code=400)),
    (400, openai("The request was too long for the model. Reduce the number of tokens.")),
    (400, openai("Input length 40000 exceeds the maximum length 32768", code="InvalidParameter")),
    (400, openai("Total tokens of image and text exceed max message tokens.", code="InvalidParameter")),
    (400, {"message": "Malformed input request: expected maxLength: 2048, actual: 5000, please reformat your input"}),
    (422, {"detail": [{"loc": ["body", "messages"], "msg": "Input is too long, max 8192 tokens"}]}),
    (422, {"object": "error", "message": {"detail": [{"type": "context_length", "msg": "prompt too long"}]}}),
    (400, openai("The prompt has 9000 tokens which exceeds the model's maximum of 8192.")),
    (400, openai("This request would exceed the model's context of 128k")),
    (400, openai("Input exceeds maximum token limit")),
    (400, openai("Total input tokens 300000 exceeds limit of 200000")),
    (400, openai("Sequence length 5000 is longer than the maximum sequence length for this model (4096)")),
    (413, openai("Request body too large for gpt-4o model. Max size: 8000 tokens.", code="tokens_limit_reached")),
    (400, openai("输入内容过长")),
    (400, openai("输入token数超过限制")),
    (400, openai("x", metadata={"raw": 'ERROR: {"message":"Input is too long for requested model."}'})),
    (400, openai('litellm.BadRequestError: - b\'{"error":{"message":"prompt is too long: 2 > 1"}}\'')),
    (400, openai("Error code: 400 - {'error': {'message': 'prompt is too long: 2 tokens > 1 maximum'}}")),
]

NOT_TOO_LONG: list[tuple[int, Any, str]] = [
    (
        400,
        openai("max_tokens: 90000 > 8192, which is the maximum allowed number of output tokens for this model"),
        "invalid_request",
    ),
    (400, openai("This model supports at most 4096 completion tokens, whereas you provided 9000."), "invalid_request"),
    (400, openai("Invalid 'user': string too long. Expected a string with maximum length 64"), "invalid_request"),
    (400, openai("messages.0.content.0.image.source.base64: image exceeds 5 MB maximum"), "invalid_request"),
    (429, openai("Too many tokens, please wait before trying again."), "upstream_rate_limited"),
    (
        429,
        openai("Rate limit reached for gpt-5 on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000."),
        "upstream_rate_limited",
    ),
    (
        413,
        {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}},
        "invalid_request",
    ),
    (413, "<html>413 Request Entity Too Large</html>", "invalid_request"),
    (400, openai("max_tokens has been deprecated, use max_completion_tokens"), "invalid_request"),
    (400, openai("The maximum tokens you requested exceeds the model limit of 4096 for completion"), "invalid_request"),
    (429, openai("Token limit exceeded"), "upstream_rate_limited"),
]

GONE: list[tuple[int, Any]] = [
    (404, openai("The model `gpt-4-32k` does not exist or you do not have access to it.", code="model_not_found")),
    (403, openai("Project `proj_x` does not have access to model `gpt-5`", code="model_not_found")),
    (404, openai("The model `gpt-4-0314` has been deprecated, learn more here: https://x", code="deprecated")),
    (
        400,
        openai(
            "The model `llama3-70b` has been decommissioned and is no longer supported.", code="model_decommissioned"
        ),
    ),
    (404, {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-2.1"}}),
    (404, {"message": "This model version has reached the end of its life. Please refer to the AWS documentation."}),
    (
        404,
        {
            "message": "Access denied. This Model is marked by provider as Legacy "
            "and you have not been actively using it."
        },
    ),
    (400, {"message": "The provided model identifier is invalid."}),
    (
        400,
        openai(
            "Unable to access non-serverless model zai-org/GLM-5.1.",
            code="model_not_available",
            type="invalid_request_error",
        ),
    ),
    (404, openai("Unable to access model foo. Please visit https://api.together.ai/models to see supported models.")),
    (400, {"object": "error", "message": "Invalid model: mistral-tiny-2312", "type": "invalid_model", "code": "1500"}),
    (404, {"message": "model 'command' was removed on September 15, 2025. See https://docs.cohere.com/docs/models"}),
    (
        404,
        {
            "message": "model 'foo' not found, make sure the correct model ID was "
            "used and that you have access to the model."
        },
    ),
    (404, openai("Model not found, inaccessible, and/or not deployed", code="NOT_FOUND")),
    (404, {"message": "Model zai-glm-4.7 is archived and unavailable for the organization.", "code": "model_archived"}),
    (400, openai("Model Not Exist")),
    (
        404,
        openai(
            "models/gemini-1.0 is not found for API version v1beta, or is not supported for generateContent.",
            code=404,
            status="NOT_FOUND",
        ),
    ),
    (
        404,
        openai(
            "This model models/gemini-1.5-pro is no longer available to new users. Please use a newer model.", code=404
        ),
    ),
    (
        404,
        openai(
            "Publisher Model `projects/x/models/y` was not found or your project does not have access to it.", code=404
        ),
    ),
    (400, openai("foo/bar is not a valid model ID", code=400)),
    (404, openai("No endpoints found for foo/bar.", code=404)),
    (
        400,
        openai(
            "Invalid model 'sonar-huge'. Permitted models can be found in the documentation",
            type="invalid_model",
            code=400,
        ),
    ),
    (404, {"error": "model 'llama9' not found, try pulling it first"}),
    (
        400,
        openai(
            "The requested model 'x' is not supported by any provider you have enabled.", code="model_not_supported"
        ),
    ),
    (
        410,
        {
            "type": "about:blank",
            "title": "Gone",
            "status": 410,
            "detail": "The model 'x/y' has reached its end of life on 2026-07-07.",
        },
    ),
    (410, ""),
    (410, openai("This model was retired")),
    (400, {"code": 20012, "message": "Model does not exist. Please check it carefully."}),
    (
        404,
        openai(
            "The model or endpoint ep-1 does not exist or you do not have access to it.",
            code="InvalidEndpointOrModel.NotFound",
        ),
    ),
    (400, openai("该模型已下线")),
    (404, {"error": {"code": "unknown_model", "message": "Unknown model: foo"}}),
    (400, openai("The model has been retired. Use another model.")),
    (404, openai("The model `o1-preview` was sunset on 2025-07-28.")),
    (400, openai("model deprecated-x is disabled")),
    (404, openai("Gemini 2.0 Flash has been shut down", status="NOT_FOUND")),
    (400, openai("Gemini 1.0 Pro Vision has been deprecated on July 12, 2024.")),
    (403, {"message": "You don't have access to the model with the specified model ID."}),
    (400, {"message": "Invocation of model ID a.b-v1:0 with on-demand throughput isn't supported."}),
    (400, {"error": "Model not supported by provider hf-inference"}),
    (400, openai("Model foo has been taken offline")),
    (400, openai("Model foo was phased out; please migrate to bar")),
    (400, openai("foo is deprecated and no longer served. Use bar.")),
    (400, openai("Could not find model foo")),
    (404, openai("Model foo cannot be found")),
    (400, openai("The model `foo` is obsolete")),
]

NOT_GONE: list[tuple[int, Any, str]] = [
    (400, openai("`temperature` is deprecated for this model."), "invalid_request"),
    (400, openai("The parameter logit_bias of this model is deprecated."), "invalid_request"),
    (400, openai("This model does not support image input."), "unsupported"),
    (404, "<html>404 Not Found</html>", "upstream_error"),
    (401, openai("The model is disabled for this key"), "upstream_auth"),
    (503, openai("The model is unavailable"), "upstream_overloaded"),
    (500, openai("The model has crashed"), "upstream_error"),
]


def code(status: int, body: Any) -> tuple[str, bool]:
    raw = body if isinstance(body, str) else json.dumps(body)
    error = FAILURES.from_response(status, {"x-should-retry": "true"} if status < 429 else {}, raw.encode())
    assert not {"context", "model", "prompt", "the", "is", "not"} & set(error.detail.split())
    return error.code, error.retryable


@pytest.mark.parametrize(("status", "body"), TOO_LONG, ids=lambda value: str(value)[:60])
def test_too_long(status: int, body: Any) -> None:
    """Each provider's words for a request that is too long are known. The same request isn't sent again."""
    assert code(status, body) == ("context_length_exceeded", False)


@pytest.mark.parametrize(("status", "body"), GONE, ids=lambda value: str(value)[:60])
def test_gone(status: int, body: Any) -> None:
    """Each provider's words for a model that is unknown, removed or retired are known. It isn't asked again."""
    assert code(status, body) == ("model_not_found", False)


@pytest.mark.parametrize(("status", "body", "expected"), [*NOT_TOO_LONG, *NOT_GONE], ids=lambda value: str(value)[:60])
def test_others(status: int, body: Any, expected: str) -> None:
    """Failures that sound like these, but aren't, have other codes."""
    assert code(status, body)[0] == expected


@pytest.mark.parametrize(
    ("base_resp", "expected"),
    [
        ((1001, "request timeout"), "upstream_timeout"),
        ((1002, "rate limit"), "upstream_rate_limited"),
        ((1004, "not authorized"), "upstream_auth"),
        ((1008, "insufficient balance"), "upstream_rate_limited"),
        ((1026, "input new_sensitive"), "content_filtered"),
        ((1039, "token limit"), "upstream_rate_limited"),
        ((2013, "invalid params"), "invalid_request"),
        ((2013, "invalid params, context window exceeds limit"), "context_length_exceeded"),
        ((2049, "invalid api key"), "upstream_auth"),
        ((2056, "usage limit exceeded"), "upstream_rate_limited"),
        (("9999", "something new"), "upstream_error"),
    ],
)
def test_base_resp(base_resp: tuple[Any, str], expected: str) -> None:
    """MiniMax's status in `base_resp` is mapped by its code."""
    body = {"id": "x", "choices": None, "base_resp": {"status_code": base_resp[0], "status_msg": base_resp[1]}}
    error = FAILURES.from_event(body)
    assert error.code == expected
    assert error.retryable == (base_resp[0] in (1001, 1002, 1039, "9999"))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": True, "message": "rate limit reached"}, "upstream_rate_limited"),
        ({"error": "Too Many Requests", "message": "slow", "statusCode": 429}, "upstream_rate_limited"),
        ({"error": [[{"code": 503, "message": "x"}]]}, "upstream_overloaded"),
        ([[{"error": {"code": 529, "message": "x"}}]], "upstream_overloaded"),
        ({"__type": "ThrottlingException", "Message": "x"}, "upstream_rate_limited"),
    ],
)
def test_shapes(body: Any, expected: str) -> None:
    """The shape in which an error comes doesn't matter."""
    assert FAILURES.from_event(body).code == expected
