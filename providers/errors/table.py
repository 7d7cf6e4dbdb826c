"""The table that maps a provider's failure (status, type, words) to our error code and message. Data only."""

from __future__ import annotations

from typing import Final, NamedTuple

from providers.base import ErrorCode, too_long
from providers.errors.patterns import ABSENT, GONE, TOO_LONG


class Rule(NamedTuple):
    """A row that matches a failure if `statuses` has its status and the regex `words` is found. None matches all."""

    code: ErrorCode
    statuses: frozenset[int] | None
    words: str | None
    retryable: bool
    message: str


def _statuses(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


_REFUSAL_STATUSES: Final = _statuses(0, 200, 400, 403, 413, 422, 500)
CHECK_KEY: Final = "{title} rejected the key. Check {keys} where the gateway runs, then restart the gateway."
CHECK_CREDENTIALS: Final = (
    "The gateway has no valid credentials for {title}. Check {keys} where the gateway runs, then restart the gateway."
)
MODEL_GONE: Final = (
    "{title} doesn't know this model, has retired it, or doesn't allow it for the account. Check the name of the model."
)
TRY_AGAIN: Final = "Try again in a moment, or choose another model."

# The first row that matches is used. A failure inside a stream has the status that its body gives, or 0.
RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "context_length_exceeded",
        _REFUSAL_STATUSES,
        TOO_LONG,
        False,
        too_long(),
    ),
    Rule("model_not_found", _statuses(0, 200, 400, 403, 404, 409, 410, 422), GONE, False, MODEL_GONE),
    Rule(
        "content_filtered",
        _statuses(0, 200, 400, 403, 422, 451),
        r"content[_ ]filter|content[_ ]policy|content management policy|responsibleaipolicy"
        r"|data_?inspection_?failed|sensitive content|unsafe content|inappropriate content|moderation|^(\S+ )?1301\b"
        r"|considered high risk|敏感|不安全",
        False,
        "{title}'s content filter refused the request. Rephrase it.",
    ),
    Rule("content_filtered", _statuses(451), None, False, "{title}'s content filter refused the request. Rephrase it."),
    Rule(
        "upstream_rate_limited",
        _statuses(0, 200, 400, 402, 403, 429),
        r"credit[_ ]balance|\bcredits\b|insufficient_quota|insufficient balance|spend_limit|spending limit|billing"
        r"|arrear|overdue|recharge|exceeded[_ ](your[_ ])?current[_ ]quota|(daily|total) request limit|余额|欠费"
        r"|^(\S+ )?(111[23]|130[489]|1310)\b",
        False,
        "The account at {title} is out of credit or over its spending limit. Check its billing.",
    ),
    Rule(
        "upstream_rate_limited", _statuses(402), None, False, "{title} requires a payment. Check the account's billing."
    ),
    Rule("upstream_auth", _statuses(401), None, False, CHECK_KEY),
    Rule(
        "upstream_auth",
        _statuses(0, 200, 400, 403),
        r"(invalid|incorrect|missing|expired|no)[\w\s-]{0,12}(api|access)[ _-]?(key|token)|authentication"
        r"|(api|access)[ _-]?(key|token) (is )?(not valid|invalid|not found|expired)|api_key_invalid|security token"
        r"|invalid_iam_token|invalidapikey",
        False,
        CHECK_KEY,
    ),
    Rule(
        "upstream_auth",
        _statuses(0, 200, 400, 403, 451),
        r"location is not supported|country[, ]|unsupported_country",
        False,
        "{title} isn't available in the region where the gateway runs. Choose a model of another provider.",
    ),
    Rule(
        "upstream_auth",
        _statuses(403),
        None,
        False,
        "{title} doesn't allow this request with the configured key. Check the permissions of the account of {keys}.",
    ),
    Rule(
        "model_not_found",
        _statuses(0, 200, 400, 404, 409, 410, 422),
        ABSENT,
        False,
        MODEL_GONE,
    ),
    Rule("model_not_found", _statuses(410), None, False, MODEL_GONE),
    Rule(
        "upstream_error",
        _statuses(301, 302, 303, 307, 308, 404, 405),
        None,
        False,
        "{title} doesn't have this service at the configured address. Check its base URL where the gateway runs.",
    ),
    Rule("upstream_timeout", _statuses(408, 504, 524), None, True, "{title} took too long to answer. Try again."),
    Rule(
        "upstream_overloaded",
        None,
        r"overloaded|engine_overload|at capacity|capacity exceeded|insufficient_system_resource|server is busy",
        True,
        "{title} is overloaded. " + TRY_AGAIN,
    ),
    Rule("upstream_overloaded", _statuses(503, 529), None, True, "{title} is overloaded. " + TRY_AGAIN),
    Rule(
        "upstream_rate_limited",
        _statuses(0, 200),
        r"request limit reached|rate limit|too many requests|throttl",
        True,
        "The rate limit of {title} is reached. " + TRY_AGAIN,
    ),
    Rule("upstream_rate_limited", _statuses(429), None, True, "The rate limit of {title} is reached. " + TRY_AGAIN),
    Rule(
        "invalid_request",
        _statuses(413),
        None,
        False,
        "The request is too large for {title}. Send fewer or smaller parts.",
    ),
    Rule(
        "unsupported",
        _statuses(0, 200, 400, 422, 501),
        r"(does not|doesn't|do not|not) support|unsupported|not supported",
        False,
        "The model doesn't support a part of this request{param}. Leave it out, or choose another model.",
    ),
    Rule(
        "invalid_request",
        _statuses(400, 422),
        None,
        False,
        "{title} refused the request{param}. Change the request; the gateway's log has the details.",
    ),
    Rule("upstream_error", None, None, True, "{title} failed. " + TRY_AGAIN),
)

# Map from an error's code or type, in lower case, to a status, for an error in a stream whose body has no numeric
# status.
STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_reached_error": 429,
    "insufficient_quota": 429,
    "resource_exhausted": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_error": 500,
    "unavailable": 503,
    "timeout_error": 504,
    # GLM's limits on concurrency and rate.
    "1302": 429,
    "1303": 429,
    "1305": 429,
    "overloaded_error": 529,
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "throttlingexception": 429,
    "servicequotaexceededexception": 429,
    "internalserverexception": 500,
    "modelstreamerrorexception": 500,
    "serviceunavailableexception": 503,
}
