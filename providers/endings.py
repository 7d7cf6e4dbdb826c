"""The end of a provider's answer, for the decoders of all dialects. This module does no I/O."""

from __future__ import annotations

from providers.base import Finished, FinishReason
from providers.delta_buffer import DeltaBuffer
from providers.errors.failures import Failures


def finish_answer(
    parts: DeltaBuffer,
    failures: Failures,
    finish: FinishReason,
    *,
    has_calls: bool,
    has_half_call: bool,
    has_hosted_calls: bool = False,
    stop_sequence: str | None = None,
) -> None:
    """Add the end of the answer to `parts`. The caller must have added the usage before.

    `finish` is the provider's reason. `has_calls`: the answer has tool calls for the client. `has_half_call`: a call
    broke off or has no name. `has_hosted_calls`: there were calls that the provider ran itself. They aren't parts.
    `stop_sequence`: see `Finished`.
    Raise `ProviderError` if the answer claims to be whole but isn't.
    """
    if finish in ("stop", "tool_calls"):
        if has_half_call:
            raise failures.incomplete("a tool call broke off or has no name")
        if not parts.count and parts.output_tokens and not parts.is_rest:
            raise failures.incomplete("the answer has output tokens but no content")
        if has_calls:
            finish = "tool_calls"  # some APIs give the reason "stop" even if there are calls
        elif finish == "tool_calls" and not parts.count and not has_hosted_calls:
            raise failures.incomplete("the answer ends with tool calls but has none")
        elif finish == "tool_calls" and has_hosted_calls:
            finish = "stop"  # the client has no call to answer
        if finish == "stop" and parts.last_kind == "refusal":
            finish = "refusal"  # some APIs give the reason "stop" for a refusal
    parts.append_delta(Finished(finish, stop_sequence if finish == "stop" else None))
