"""The commands of the chat, which begin with a slash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.commands.options import format_table
from gateway.commands.terminal.answer import figures
from gateway.commands.terminal.attachments import ATTACHED_CHARS_MAX, AttachmentError, attachment
from gateway.commands.terminal.conversations import (
    LISTED_MAX,
    branch,
    conversation_table,
    first_page,
    one_line,
    show_messages,
)
from gateway.commands.terminal.screen import Screen
from gateway.commands.terminal.state import ChatState
from turnwire.client import Model
from turnwire.client.sync import Gateway


class Leave(Exception):
    """The user leaves the chat."""


@dataclass(frozen=True)
class Call:
    """A command that the user has typed, with what it works on. `argument` is the rest of the line."""

    argument: str
    gateway: Gateway
    screen: Screen
    state: ChatState


def run_command(line: str, gateway: Gateway, screen: Screen, state: ChatState) -> None:
    """Run the command of a line that begins with a slash.

    Raises:
        Leave: The command is `/exit`.
        TurnwireError: The gateway refuses a request.
    """
    name, _, argument = line.strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        screen.alert(
            f"There is no command {name}. /help lists them. To send a line with a slash, begin it with a space."
        )
        return
    command.run(Call(argument.strip(), gateway, screen, state))


def _help(call: Call) -> None:
    rows = [[f"{name} {command.argument}", command.help] for name, command in COMMANDS.items()]
    keys = [
        ["Ctrl-C", "stop the answer; at the empty prompt, twice: leave"],
        ["Ctrl-D", "leave"],
        ["\\ at the end", "continue the message on the next line"],
    ]
    for line in format_table([*rows, *keys]):
        call.screen.line(line)


def _model(call: Call) -> None:
    if not call.argument:
        current = call.state.model or call.state.answered_by or call.state.default_model
        call.screen.line(f"The model is {current}. /model NAME chooses another one, and /models lists them.")
        return
    # The gateway also takes names that it doesn't list. An estimate says whether it has this one, and asks no provider.
    estimate = call.gateway.estimate("Hello", model=call.argument)
    call.state.model = call.argument
    call.screen.note(f"The next answers are from {estimate.model}.")


def _models(call: Call) -> None:
    found = call.gateway.models()
    current = call.state.model or call.state.answered_by or found.default
    usable = [model for model in found.models if model.available]
    for line in format_table([_model_row(model, current) for model in usable]) if usable else ["None."]:
        call.screen.line(line)
    if missing := len(found.models) - len(usable):
        call.screen.note(f"{missing} other models need a key: `turnwire models` on the gateway's machine says which.")


def _model_row(model: Model, current: str) -> list[str]:
    star = "*" if current in (model.id, *model.aliases) else " "
    price = model.price
    return [f"{star} {model.id}", model.type, f"${price['input']} / ${price['output']}" if price else "-"]


def _attach(call: Call) -> None:
    if not call.argument:
        names = ", ".join(call.state.attached_names)
        call.screen.line(
            f"For the next message: {names}." if names else "No file is attached. /attach FILE attaches one."
        )
        return
    try:
        part = attachment(call.argument)
    except AttachmentError as error:
        call.screen.alert(str(error))
        return
    if call.state.attached_chars + len(part.get("data") or part["text"]) > ATTACHED_CHARS_MAX:
        call.screen.alert(
            "The files are too large for one message. Send this one with another message, or /detach all."
        )
        return
    call.state.attached.append(part)
    call.state.attached_names.append(call.argument)
    what = part.get("media_type", "text")
    call.screen.note(f"{call.argument} ({what}) is sent with your next message. /detach removes it.")


def _detach(call: Call) -> None:
    call.state.detach()
    call.screen.note("No file is attached.")


def _new(call: Call) -> None:
    call.state.open(None)
    call.screen.note("The next message begins a new conversation.")


def _history(call: Call) -> None:
    if call.argument:
        open_conversation(_chosen(call), call.gateway, call.screen, call.state)
        return
    records = first_page(call.gateway.conversations(limit=LISTED_MAX))
    call.state.listed = [record.id for record in records]
    if not records:
        call.screen.line("There are no conversations yet.")
        return
    for line in conversation_table(records, call.state.conversation):
        call.screen.line(line)
    call.screen.note("/history NUMBER continues one of them.")


def _chosen(call: Call) -> str:
    """Return the id of the conversation that a number of the list, or an id, names."""
    number = int(call.argument) if call.argument.isdecimal() and len(call.argument) < 4 else 0
    if not call.state.listed:
        call.state.listed = [record.id for record in first_page(call.gateway.conversations(limit=LISTED_MAX))]
    return call.state.listed[number - 1] if 0 < number <= len(call.state.listed) else call.argument


def open_conversation(conversation: str, gateway: Gateway, screen: Screen, state: ChatState) -> None:
    """Continue a conversation, and show its messages. Raises `TurnwireError` if the user has no such conversation."""
    opened = gateway.conversation(conversation)
    record = opened.get()
    messages = first_page(opened.messages(limit=200))
    state.open(record.id)
    state.answered_by = record.model
    show_messages(screen, branch(messages, record.head))
    screen.note(f"Continuing: {one_line(record.title) or record.id}")


def _show(call: Call) -> None:
    if call.state.conversation is None:
        call.screen.line("This conversation has no messages yet.")
        return
    open_conversation(call.state.conversation, call.gateway, call.screen, call.state)


def _usage(call: Call) -> None:
    rows = []
    if call.state.conversation is not None:
        here = call.gateway.usage(conversation=call.state.conversation)
        rows.append(["This conversation:", figures(here.usage, here.cost)])
    total = call.gateway.usage()
    rows.append(["All your turns:", figures(total.usage, total.cost)])
    for line in format_table(rows):
        call.screen.line(line)


def _exit(call: Call) -> None:
    raise Leave


@dataclass(frozen=True)
class Command:
    """A command, with the name of its argument and its line in `/help`."""

    run: Callable[[Call], None]
    argument: str
    help: str


COMMANDS = {
    "/help": Command(_help, "", "list the commands"),
    "/model": Command(_model, "[NAME]", "show the model, or choose another one"),
    "/models": Command(_models, "", "list the models that can be used"),
    "/attach": Command(_attach, "[FILE]", "send an image, a PDF or a text with the next message"),
    "/detach": Command(_detach, "", "attach no file after all"),
    "/new": Command(_new, "", "begin a new conversation"),
    "/history": Command(_history, "[NUMBER]", "list your conversations, or continue one of them"),
    "/show": Command(_show, "", "show this conversation again"),
    "/usage": Command(_usage, "", "show tokens and cost"),
    "/exit": Command(_exit, "", "leave"),
}
