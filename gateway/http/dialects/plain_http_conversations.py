"""Plain HTTP: conversations, their messages and costs, and the feedback on answers."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, Struct, structs
from starlette.responses import Response

from gateway.dialects.base import decode_request, renamed
from gateway.dialects.kept_history import KeptHistory
from gateway.dialects.plain_http_conversation_answers import (
    ConversationView,
    ConversationViews,
    ConversationWithMessages,
    StoredMessages,
    conversation_fields,
    stored_message,
    stored_messages,
)
from gateway.dialects.plain_http_fields import Done, id_of, without_tool_results
from gateway.http.dialects.conversations import read_history
from gateway.http.dialects.plain_http_sessions import branch
from gateway.http.operation import RequestContext
from gateway.http.request_body import convert_request
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.http.user_in_body import act_for_user_in_body, remember_user
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError, not_found
from gateway.protocol.results import Conversation, ConversationPage


class NamedConversation(p.Request, frozen=True, tag="conversation.named"):
    """A conversation of the user, or of the user that a service names."""

    conversation: p.Key
    user_id: p.UserName | None = None


class NamedConversations(p.Request, frozen=True, tag="conversations.named"):
    """A page of the conversations of the user, or of the user that a service or an operator names."""

    limit: p.PageLimit = 50
    before: p.Key | None = None
    user_id: p.UserName | None = None


class ConversationBody(Struct, kw_only=True):
    """The fields of a conversation. A new one may have an `id` of the client."""

    id: p.ConversationId | None = None
    title: p.Title | None = None
    system_prompt: str | None = None
    model: p.ModelId | None = None
    metadata: dict[str, Any] | None = None
    user_id: p.UserName | None = None


class FeedbackBody(Struct, kw_only=True):
    """A rating of an answer: the newest one of the conversation, or that with this id."""

    rating: p.Rating
    message_id: p.Key | None = None
    comment: Annotated[str, Meta(max_length=2000)] | None = None
    user_id: p.UserName | None = None


_conversation_body = msgspec.json.Decoder(ConversationBody, float_hook=float).decode
_feedback_body = msgspec.json.Decoder(FeedbackBody, float_hook=float).decode


async def _named_conversation(context: RequestContext) -> str:
    request = await context.parse(NamedConversation)
    await act_for_user_in_body(context, request.user_id, request.conversation)
    return request.conversation


async def list_conversations(context: RequestContext) -> Response:
    """Return a page of a user's conversations; an operator may name any user. Raises `ApiError`."""
    request = await context.parse(NamedConversations)
    user, caller = request.user_id, context.principal
    may_name = context.services.authenticator.is_open or "as" in caller.scopes
    is_foreign = user is not None and user != caller.user and not may_name and "admin" in caller.scopes
    if is_foreign:
        context.principal = structs.replace(caller, user=user, scopes=frozenset({"read"}))
    else:
        await act_for_user_in_body(context, user)
    async with context.session() as session:
        page: ConversationPage = await session.handle(p.ConversationList(limit=request.limit, before=request.before))
    shown = [ConversationView(**conversation_fields(one, context.principal.user)) for one in page.conversations]
    if is_foreign:
        context.principal = caller
    following = None if page.next is UNSET else page.next
    return JsonResponse(ConversationViews(shown, len(shown), following), headers=NO_STORE)


async def create_conversation(context: RequestContext) -> Response:
    """Create a conversation, or return the one that has its id. Raises `ApiError` and `ClientDisconnect`."""
    caller = context.principal.user
    body = await _decoded_conversation(context)
    await act_for_user_in_body(context, body.user_id, body.id)
    request = p.ConversationCreate(
        conversation=body.id, title=body.title, system=body.system_prompt, model=body.model, metadata=body.metadata
    )
    found = await _changed(context, request)
    await remember_user(context, caller, found.id)
    headers = {**NO_STORE, "location": context.external_path(f"{context.operation.path}/{quote(found.id)}")}
    return JsonResponse(ConversationView(**conversation_fields(found, context.principal.user)), 201, headers)


async def update_conversation(context: RequestContext) -> Response:
    """Change the fields of a conversation that the body has. Raises `ApiError` and `ClientDisconnect`."""
    name = context.path_params["conversation"]
    body = await _decoded_conversation(context)
    await act_for_user_in_body(context, body.user_id, name)
    request = p.ConversationUpdate(
        conversation=name, title=body.title, system=body.system_prompt, model=body.model, metadata=body.metadata
    )
    found = await _changed(context, request)
    return JsonResponse(ConversationView(**conversation_fields(found, context.principal.user)), headers=NO_STORE)


async def _decoded_conversation(context: RequestContext) -> ConversationBody:
    body = await context.body(context.services.settings.frame_bytes)
    return decode_request(_conversation_body, body or b"{}")


async def _changed(context: RequestContext, request: p.ConversationCreate | p.ConversationUpdate) -> Conversation:
    """Check a request as if it had come in a frame, handle it, and return its conversation. Raises `ApiError`."""
    names = {"conversation": "id", "system": "system_prompt"}
    try:
        checked = convert_request(type(request), msgspec.to_builtins(request))
        async with context.session() as session:
            found: Conversation = await session.handle(checked)
    except ApiError as error:
        raise renamed(error, lambda path: names.get(path, path)) from None
    return found


async def get_conversation(context: RequestContext) -> Response:
    """Return a conversation with its messages. Raises `ApiError`."""
    name = await _named_conversation(context)
    async with context.session() as session:
        found: Conversation = await session.handle(p.ConversationGet(conversation=name))
        messages = await branch(context, session, name)
    shown = [stored_message(one, name) for one in without_tool_results(messages)]
    fields = conversation_fields(found, context.principal.user)
    return JsonResponse(ConversationWithMessages(**fields, messages=shown), headers=NO_STORE)


async def delete_conversation(context: RequestContext) -> Response:
    """Delete a conversation. Raises `ApiError`."""
    name = await _named_conversation(context)
    async with context.session() as session:
        await session.handle(p.ConversationDelete(conversation=name))
    return JsonResponse(Done("The conversation is deleted."), headers=NO_STORE)


async def get_messages(context: RequestContext) -> Response:
    """Return the messages of a conversation. Raises `ApiError`."""
    name = await _named_conversation(context)
    async with context.session() as session:
        found: StoredMessages = stored_messages(name, await branch(context, session, name))
    return JsonResponse(found, headers=NO_STORE)


async def rate_answer(context: RequestContext) -> Response:
    """Rate an answer of a conversation: the newest one, or that with this id. Raises `ApiError` and `ClientDisconnect`."""
    name = context.path_params["conversation"]
    body = decode_request(_feedback_body, await context.body(context.services.settings.frame_bytes) or b"{}")
    await act_for_user_in_body(context, body.user_id, name)
    async with context.session() as session:
        await session.handle(p.ConversationGet(conversation=name))
        messages = (await read_history(session, name, KeptHistory)).messages
        wanted = body.message_id
        found = next(
            (
                one
                for one in reversed(messages)
                if one.role == "assistant" and (wanted is None or wanted in {id_of(one), one.id})
            ),
            None,
        )
        if found is None:
            raise not_found("message", wanted or "")
        await session.handle(p.FeedbackPut(message=found.id, rating=body.rating, comment=body.comment))
    return JsonResponse(Done("The answer is rated."), headers=NO_STORE)
