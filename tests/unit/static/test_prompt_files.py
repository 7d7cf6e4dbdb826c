"""Text files in a prompt, what goes on in a new conversation, and the prompts that are kept for later, run in Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.programs import program

CHAT = Path(__file__).parents[3] / "static" / "chat"


def run(module: str, code: str) -> Any:
    """Return what `code` logs as JSON; it has the exports of a module of the page as `it`."""
    script = f"const it = await import(process.argv[1]);\n{code}"
    command = [str(program("node")), "--input-type=module", "-e", script, (CHAT / module).as_uri()]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_text_file_keeps_its_name_and_its_fences() -> None:
    """The block has a longer fence than any in the file, and the name is found again. Other texts aren't files."""
    code = r"""
    const nested = it.toFileText("read me`.md", "```js\n````\nend");
    const others = [{ kind: "text", text: "`a`: no file" }, { kind: "image", text: "`a`:\n```" }];
    const names = [nested, it.toFileText("a.py", ""), ...others].map(it.fileTextName);
    console.log(JSON.stringify({ text: nested.text, names }));
    """
    assert run("file_text.js", code) == {
        "text": "`read me.md`:\n`````md\n```js\n````\nend\n`````",
        "names": ["read me.md", "a.py", None, None],
    }


def test_the_last_exchanges_fit_into_their_room() -> None:
    """The newest messages come, oldest first; one that doesn't fit ends them, but the newest is cut instead."""
    code = r"""
    const text = (role, text, parent) => ({ role, parent, parts: [{ kind: "text", text }] });
    const root = { role: "root", parts: [] };
    const path = [["user", "first ".repeat(50)], ["assistant", "yes"], ["user", "second"], ["assistant", "no"]]
      .reduce((parent, [role, words]) => text(role, words, parent), root);
    const long = text("assistant", "é".repeat(5000), path);
    const cut = it.lastExchanges(long, 1000);
    const fits = new TextEncoder().encode(cut).length <= 1000;
    const shown = [it.lastExchanges(path, 100), it.lastExchanges(path, 5), fits, cut.startsWith("Assistant: …é")];
    console.log(JSON.stringify(shown));
    """
    assert run("hand_over.js", code) == ["Assistant: yes\n\nUser: second\n\nAssistant: no", "", True, True]


def test_kept_prompts_are_bounded() -> None:
    """At most fifty prompts are kept, in their order. Files and images over a megabyte aren't; one that doesn't fit is kept
    as text. An entry that can't be read is left out."""
    code = r"""
    const stored = {};
    let full = false;
    const hide = { enumerable: false };
    const setItem = (key, value) => {
      if (full && value.includes("image")) throw new Error("full");
      stored[key] = value;
    };
    Object.defineProperties(stored, {
      getItem: { value: (key) => stored[key] ?? null, ...hide },
      setItem: { value: setItem, ...hide },
      removeItem: { value: (key) => delete stored[key], ...hide },
    });
    globalThis.sessionStorage = stored;
    const prompt = (turn, parts) => ({ turn, group: "g", conversation: null, parent: null, requests: [{}], parts });
    const image = (chars) => ({ kind: "image", data: "x".repeat(chars) });
    const words = { kind: "text", text: "Hi" };
    const kept = [it.keepPrompt(prompt("a", [image(10), words])), it.keepPrompt(prompt("b", [image(2e6), words]))];
    full = true;
    kept.push(it.keepPrompt(prompt("c", [image(10), words])));
    full = false;
    stored["turnwire.outbox d"] = "{";
    stored["turnwire.outbox e"] = "{}";
    const parts = it.keptPrompts().map(({ turn, parts }) => [turn, parts.length]);
    it.setConversationOf("g", "c1");
    const conversations = it.keptPrompts().map(({ conversation }) => conversation);
    for (let number = 0; number < 100; number++) it.keepPrompt(prompt(`n${number}`, [words]));
    const most = Object.keys(stored).length;
    it.dropPrompt("a");
    const first = it.keptPrompts()[0].turn;
    it.clearOutbox();
    console.log(JSON.stringify({ kept, parts, conversations, most, first, left: Object.keys(stored).length }));
    """
    assert run("outbox.js", code) == {
        "kept": [True, False, False],
        "parts": [["a", 2], ["b", 1], ["c", 1]],
        "conversations": ["c1", "c1", "c1"],
        "most": 50,
        "first": "b",
        "left": 0,
    }


def test_a_start_over_http_follows_its_turn_or_fails() -> None:
    """A turn that the gateway has accepted is followed on the connection. One that it refused, or that never reached it,
    has ended with the error, as a refused start over the socket has."""
    code = r"""
    const followed = [];
    const connection = { state: { state: "live" }, follow: (id) => (followed.push(id), { id, accepted: Promise.resolve() }) };
    const answers = [
      () => new Response("event: x", { status: 200 }),
      () => new Response(JSON.stringify({ error: { code: "too_large", message: "Too much." } }), { status: 413 }),
      () => new Response("<html>", { status: 502 }),
      () => { throw new TypeError("Failed to fetch"); },
    ];
    const codes = [];
    for (const answer of answers) {
      globalThis.fetch = async (url, { headers }) => (codes.push(`${url} ${headers.accept}`), answer());
      const { turn } = await it.startOverHttp(connection, { turn: "t1", input: [] });
      codes.push(turn.ending?.error.code ?? null, await turn.accepted.then(() => "accepted", ({ code }) => code));
    }
    const requests = codes.filter((code) => code === "v1/turns text/event-stream").length;
    console.log(JSON.stringify({ followed, requests, codes: codes.filter((code) => !code?.includes("/")) }));
    """
    refused = [code for code in ("too_large", "connection_lost", "connection_lost") for _ in range(2)]
    assert run("http_start.js", code) == {"followed": ["t1"], "requests": 4, "codes": [None, "accepted", *refused]}
