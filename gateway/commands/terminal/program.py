"""The start of `turnwire chat`: a chat if standard input is a terminal, one answer if it isn't."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable

from gateway.commands.options import EXIT_FAILED, fail
from gateway.commands.terminal.piped import answer_piped
from gateway.commands.terminal.prompt import Prompt, history_file
from gateway.commands.terminal.screen import Screen, shown
from gateway.commands.terminal.session import TerminalChat
from gateway.commands.terminal.slash import COMMANDS, open_conversation
from gateway.commands.terminal.state import ChatState
from gateway.settings import environment
from turnwire.client import CertificateUntrusted, TurnwireError
from turnwire.client.sync import Gateway, connect

EXIT_INTERRUPTED = 130


def chat(options: Namespace, url: str, token: Callable[[], str] | None) -> int:
    """Chat with the gateway at `url` until the user leaves, or answer what is piped in. Return the exit code.

    Exit with 1 if that fails.
    """
    for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
        if stream is None:  # this program was started without it
            fail(f"Standard {name} is closed. Start this command with one.", EXIT_FAILED)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="replace")
    state = ChatState(model=options.model, conversation=options.conversation, system=options.system)

    def connected() -> Gateway:
        return connect(url, token=token, transport=options.transport)

    try:
        if not sys.stdin.isatty():
            answer_piped(connected, state)
            return 0
        with connected() as gateway:
            _interact(gateway, url, state)
            return 0
    except CertificateUntrusted as error:
        # What follows in the message is for programs.
        fact = shown(error.message).partition(" If ")[0]
        fail(f"{fact} If it is of your own authority, set SSL_CERT_FILE to the authority's file.", EXIT_FAILED)
    except TurnwireError as error:
        fail(shown(error.message), EXIT_FAILED)
    except BrokenPipeError:
        raise  # of every command
    except OSError as error:
        sys.stdout = None  # what it still holds can't be written at exit either
        fail(f"The answer can't be written: {error.strerror}.", EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _interact(gateway: Gateway, url: str, state: ChatState) -> None:
    variables = environment()
    is_plain = variables.get("NO_COLOR") or variables.get("TERM", "dumb") == "dumb"
    screen = Screen(sys.stdout, styled=sys.stdout.isatty() and not is_plain)
    state.default_model = gateway.models().default
    if state.model is not None:
        gateway.estimate("Hello", model=state.model)
    if state.conversation is not None:
        open_conversation(state.conversation, gateway, screen, state)
    screen.note(f"{url}, model {state.model or state.answered_by or state.default_model}. /help lists the commands.")
    prompt = Prompt(COMMANDS, history_file(variables))
    try:
        TerminalChat(gateway, screen, prompt, state).run()
    finally:
        prompt.save()
