"""The user that a service names in a header of a dialect's request, as `as` does in a frame."""

from __future__ import annotations

from gateway.identity.origin import Headers, header_values
from gateway.identity.principal import Principal, check_user, missing_scope, principal_for
from gateway.protocol.errors import ApiError

AS_HEADER = "Turnwire-As"
OTHER_HEADERS = ("X-OpenWebUI-User-Id",)
"""The headers in which other software names the user. It sends them to every server, so without the scope `as` they are
ignored."""


def act_for_user_in_header(principal: Principal, headers: Headers) -> Principal:
    """Return the principal for the user that a service names, or `principal` if it names none.

    The service vouches for the user now, so the user has a credential that was issued now. Raise `ApiError` if the
    service may not name a user, names several, or the name is invalid.
    """
    named = [
        (header, value)
        for header in (AS_HEADER, *OTHER_HEADERS)
        for value in header_values(headers, header.lower().encode())
        if header == AS_HEADER or "as" in principal.scopes
    ]
    if not named:
        return principal
    header, user = named[0]
    if "as" not in principal.scopes:
        raise missing_scope("as", header)
    if len({value for _, value in named}) > 1:
        raise ApiError("forbidden", "The headers name more than one user. Send one.", path=header)
    try:
        user = check_user(user.encode("latin-1").decode())
    except ValueError as error:
        raise ApiError("invalid_request", f"Invalid user name: {error}. Correct {header}.", path=header) from None
    return principal_for(principal, user)
