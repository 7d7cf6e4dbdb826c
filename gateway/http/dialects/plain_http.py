"""The addresses of plain HTTP, for clients that only want a REST chat. `POST /api/chat` is among those of the AI SDK."""

from __future__ import annotations

from msgspec import Struct

from gateway.dialects.base import Dialect
from gateway.dialects.models import ModelCatalog
from gateway.dialects.plain_http import PLAIN_HTTP, PLAIN_LINES
from gateway.dialects.plain_http_conversation_answers import (
    ConversationView,
    ConversationViews,
    ConversationWithMessages,
    MessageAnswer,
    StoredMessages,
)
from gateway.dialects.plain_http_fields import Done
from gateway.dialects.plain_http_request import ContentBody, SendBody, StreamBody
from gateway.dialects.plain_http_session_answers import (
    ChatHistoryView,
    ChatSessionView,
    HistoryMessage,
    Sent,
    SentHistory,
    Success,
)
from gateway.http import models, service_status
from gateway.http.dialects import plain_http_conversations as conversations
from gateway.http.dialects import plain_http_sessions as sessions
from gateway.http.dialects import plain_http_turns as turns
from gateway.http.dialects.plain_http_conversations import (
    ConversationBody,
    FeedbackBody,
    NamedConversation,
    NamedConversations,
)
from gateway.http.dialects.plain_http_sessions import ChatHistoryGet, SessionBody, SessionGet, SessionList
from gateway.http.operation import Handler, HeaderSpec, Operation, ResponseSpec
from gateway.protocol import requests as p
from gateway.protocol.results import Status

LAST_EVENT_ID = HeaderSpec("Last-Event-ID", "The id of the last event that the client has received.")


def _operation(
    method: str,
    path: str,
    summary: str,
    handler: Handler,
    *responses: ResponseSpec,
    request: type[p.Request] | None = None,
    fields: tuple[str, ...] = (),
    headers: tuple[HeaderSpec, ...] = (),
    body: type[Struct] | None = None,
    is_body_optional: bool = False,
    is_public: bool = False,
    dialect: Dialect = PLAIN_HTTP,
) -> Operation:
    return Operation(
        method,
        path,
        f"Plain HTTP: {summary}",
        handler,
        responses,
        request,
        fields=fields,
        headers=headers,
        is_public=is_public,
        dialect=dialect,
        body=body,
        is_body_optional=is_body_optional,
    )


_NAMED = ("user_id",)
_PAGE = ("limit", "before", "user_id")
_SESSION = "/api/chat/sessions/{session}"
_CONVERSATIONS = "/api/v1/conversations"
_CONVERSATION = f"{_CONVERSATIONS}/{{conversation}}"

OPERATIONS: tuple[Operation, ...] = (
    _operation(
        "GET",
        "/api/chat/history",
        "get the messages of a session",
        sessions.get_chat_history,
        ResponseSpec("The messages.", ChatHistoryView),
        request=ChatHistoryGet,
        fields=("sessionId", "user_id"),
    ),
    _operation(
        "DELETE",
        "/api/chat/context",
        "let a session begin again with an empty context",
        sessions.clear_context,
        ResponseSpec("The context is empty.", Success),
        request=ChatHistoryGet,
        fields=("sessionId", "user_id"),
    ),
    _operation(
        "GET",
        "/api/chat/sessions",
        "list the sessions",
        sessions.list_sessions,
        ResponseSpec("The sessions, last changed first.", ChatSessionView, is_list=True),
        request=SessionList,
        fields=_PAGE,
    ),
    _operation(
        "POST",
        _SESSION,
        "create a session, or change its title",
        sessions.put_session,
        ResponseSpec("The session.", ChatSessionView),
        request=SessionGet,
        body=SessionBody,
        is_body_optional=True,
    ),
    _operation(
        "DELETE",
        _SESSION,
        "delete a session",
        sessions.delete_session,
        ResponseSpec("The session is deleted.", Success),
        request=SessionGet,
        fields=_NAMED,
    ),
    _operation(
        "GET",
        f"{_SESSION}/messages",
        "get the messages of a session, as a list",
        sessions.get_session_messages,
        ResponseSpec("The messages.", HistoryMessage, is_list=True),
        request=SessionGet,
        fields=_NAMED,
    ),
    _operation(
        "POST",
        "/stream",
        "answer messages without a session, as lines",
        turns.stream,
        ResponseSpec("The lines of the answer.", is_binary=True),
        body=StreamBody,
        dialect=PLAIN_LINES,
    ),
    _operation(
        "POST",
        "/chat",
        "start the answer to a message of a session, and return at once",
        turns.send,
        ResponseSpec("The message was accepted.", Sent),
        body=SendBody,
    ),
    _operation(
        "GET",
        "/history/{session}",
        "get the messages of a session",
        sessions.get_sent_history,
        ResponseSpec("The messages.", SentHistory),
        request=SessionGet,
        fields=_NAMED,
    ),
    _operation(
        "DELETE",
        "/history/{session}",
        "delete a session, if there is one",
        sessions.delete_history,
        ResponseSpec("There is no such session any more.", Done),
        request=SessionGet,
        fields=_NAMED,
    ),
    _operation(
        "POST",
        _CONVERSATIONS,
        "create a conversation",
        conversations.create_conversation,
        ResponseSpec(
            "The conversation was created, or exists with this id.",
            ConversationView,
            status=201,
            headers=("Location",),
        ),
        body=ConversationBody,
        is_body_optional=True,
    ),
    _operation(
        "GET",
        _CONVERSATIONS,
        "list the conversations",
        conversations.list_conversations,
        ResponseSpec("The conversations.", ConversationViews),
        request=NamedConversations,
        fields=_PAGE,
    ),
    _operation(
        "GET",
        _CONVERSATION,
        "get a conversation with its messages",
        conversations.get_conversation,
        ResponseSpec("The conversation.", ConversationWithMessages),
        request=NamedConversation,
        fields=_NAMED,
    ),
    _operation(
        "PATCH",
        _CONVERSATION,
        "change a conversation",
        conversations.update_conversation,
        ResponseSpec("The conversation.", ConversationView),
        request=NamedConversation,
        body=ConversationBody,
        is_body_optional=True,
    ),
    _operation(
        "DELETE",
        _CONVERSATION,
        "delete a conversation",
        conversations.delete_conversation,
        ResponseSpec("The conversation is deleted.", Done),
        request=NamedConversation,
        fields=_NAMED,
    ),
    _operation(
        "POST",
        f"{_CONVERSATION}/messages",
        "answer a message of a conversation",
        turns.add_message,
        ResponseSpec("The answer, or a stream of its text.", MessageAnswer, is_binary=True),
        request=NamedConversation,
        body=ContentBody,
    ),
    _operation(
        "GET",
        f"{_CONVERSATION}/messages",
        "get the messages of a conversation",
        conversations.get_messages,
        ResponseSpec("The messages.", StoredMessages),
        request=NamedConversation,
        fields=_NAMED,
    ),
    _operation(
        "GET",
        f"{_CONVERSATION}/stream",
        "stream what runs in a conversation",
        turns.follow,
        ResponseSpec("The stream of the answer's text.", is_binary=True),
        ResponseSpec("Nothing runs in this conversation.", status=204),
        request=NamedConversation,
        fields=_NAMED,
        headers=(LAST_EVENT_ID,),
    ),
    _operation(
        "POST",
        f"{_CONVERSATION}/feedback",
        "rate an answer",
        conversations.rate_answer,
        ResponseSpec("The answer is rated.", Done),
        request=NamedConversation,
        body=FeedbackBody,
    ),
    _operation(
        "GET",
        "/api/health",
        "check that the process is alive",
        service_status.health,
        ResponseSpec("The process is alive.", Status),
        is_public=True,
    ),
    _operation(
        "GET",
        "/api/models",
        "list the models",
        models.list_models,
        ResponseSpec("The models.", ModelCatalog),
        request=p.ModelsList,
    ),
)
