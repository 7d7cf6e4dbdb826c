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
    const parts = it.keptPrompts().map(({ turn, parts, isPartial = false }) => [turn, parts.length, isPartial]);
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
        "parts": [["a", 2, False], ["b", 1, True], ["c", 1, True]],
        "conversations": ["c1", "c1", "c1"],
        "most": 50,
        "first": "b",
        "left": 0,
    }


def test_a_start_over_http_follows_its_turn_or_fails() -> None:
    """A turn that the gateway has accepted is followed on the connection. One that it refused, or that never reached it,
    has ended with the error, as a refused start over the socket has. If the answer is lost, the same start is sent again:
    the gateway may have accepted it."""
    code = r"""
    const followed = [];
    const connection = { state: { state: "live" }, follow: (id) => (followed.push(id), { id, accepted: Promise.resolve() }) };
    const answers = [
      () => new Response("event: x", { status: 200 }),
      () => new Response(JSON.stringify({ error: { code: "too_large", message: "Too much." } }), { status: 413 }),
      () => new Response("<html>", { status: 502 }),
      () => { throw new TypeError("Failed to fetch"); },
      (count) => { if (count % 2 === 1) throw new TypeError("Failed to fetch"); else return new Response("event: x"); },
    ];
    let count = 0;
    const codes = [];
    for (const answer of answers) {
      globalThis.fetch = async (url, { headers }) => (codes.push(`${url} ${headers.accept}`), answer(count++));
      const { turn } = await it.startOverHttp(connection, { turn: "t1", input: [] });
      codes.push(turn.ending?.error.code ?? null, await turn.accepted.then(() => "accepted", ({ code }) => code));
    }
    const requests = codes.filter((code) => code === "v1/turns text/event-stream").length;
    console.log(JSON.stringify({ followed, requests, codes: codes.filter((code) => !code?.includes("/")) }));
    """
    refused = [code for code in ("too_large", "connection_lost", "connection_lost") for _ in range(2)]
    assert run("http_start.js", code) == {
        "followed": ["t1", "t1"],
        "requests": 7,
        "codes": [None, "accepted", *refused, None, "accepted"],
    }


def test_only_a_whole_prompt_is_sent_again() -> None:
    """After a reload, a prompt that the gateway has isn't sent again. The text of one whose files are lost, or whose
    conversation was deleted, is given back instead."""
    code = r"""
    const seen = [];
    const conversation = (id, notFound = false) => ({
      id, notFound, placeKept: ({ turn }) => turn,
      removePlaced: (turn) => seen.push(`removed ${turn}`),
      startPlaced: (turn) => seen.push(`sent ${turn}`),
    });
    const parts = (turn) => [{ kind: "text", text: `words of ${turn}` }];
    const prompt = (turn, at, fields) => ({ turn, at, conversation: at.id, parts: parts(turn), ...fields });
    const fresh = conversation(null);
    const partial = prompt("partial", conversation("c1"), { isPartial: true });
    const prompts = [prompt("whole", fresh), partial, prompt("known", fresh), prompt("gone", conversation("c2", true))];
    const getTurn = async (turn) => turn === "known" ? { conversation: "c3" } : Promise.reject(new Error("not found"));
    const giveBack = (id, text, why) => seen.push(`${id}: ${text}: ${why.split(". ")[1]}`);
    await it.resend(prompts, { getTurn }, ({ at }) => at, (id) => seen.push(`shown ${id}`), giveBack);
    console.log(JSON.stringify(seen));
    """
    assert run("resend.js", code) == [
        "sent whole",
        "removed partial",
        "c1: words of partial: Add its files again, then send it.",
        "removed known",
        "shown c3",
        "removed gone",
        "c2: words of gone: Send it to start a new one.",
    ]


def test_a_refused_prompt_is_sent_in_the_way_that_fits_and_kept_once() -> None:
    """A long text doesn't fit into a frame, so it is sent over HTTP, as a long text file is. A prompt that couldn't be sent
    and is sent anew or edited is kept once, so a reload doesn't send it twice."""
    code = r"""
    const stored = {};
    Object.defineProperties(stored, Object.fromEntries(Object.entries({
      getItem: (key) => stored[key] ?? null,
      setItem: (key, value) => (stored[key] = value),
      removeItem: (key) => delete stored[key],
    }).map(([name, value]) => [name, { value }])));
    globalThis.sessionStorage = stored;
    Promise.withResolvers ??= () => {
      const all = {};
      all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }));
      return all;
    };
    const refused = (id, error) => {
      const accepted = Promise.reject(error);
      accepted.catch(() => {});
      const ending = { type: "turn.failed", turn: id, error };
      return { id, accepted, ended: true, ending, parts: [], async *[Symbol.asyncIterator]() {} };
    };
    const error = { code: "connection_closed", message: "Closed." };
    const sent = [];
    const connection = { state: { state: "closed" }, start: ({ turn }) => (sent.push("socket"), refused(turn, error)) };
    globalThis.fetch = async (url) => (sent.push(url), new Response(JSON.stringify({ error }), { status: 400 }));
    const settled = () => new Promise((resolve) => setTimeout(resolve, 20));
    const model = new it.ConversationModel(connection);
    const kept = () => Object.keys(stored).length;
    const counts = [];
    model.send([{ kind: "text", text: "Hi" }], [{}]);
    await settled();
    counts.push(kept());
    model.regenerate(model.tree.leaf(), {});
    await settled();
    counts.push(kept());
    model.edit(model.tree.leaf().parent, [{ kind: "text", text: "Hello" }], {});
    await settled();
    counts.push(kept());
    for (const text of ["x".repeat(60_000), "é".repeat(32_000), "\n".repeat(62_000), "x".repeat(80_000)]) {
      const before = sent.length;
      model.send([{ kind: "text", text }], [{}]);
      while (sent.length === before) await settled(); // the module that sends over HTTP is loaded first
    }
    console.log(JSON.stringify({ counts, sent: sent.slice(3) }));
    """
    assert run("conversation_model.js", code) == {
        "counts": [1, 1, 1],
        "sent": ["socket", "v1/turns", "v1/turns", "v1/turns"],
    }


def test_text_files_of_other_encodings() -> None:
    """UTF-16 with its mark is text too. What can't be read as text is refused with what to do."""
    code = r"""
    const context = { supports: () => false, modelsWith: () => [], added: [] };
    const add = (bytes, name, type = "") =>
      it.toAttachment(new File([bytes], name, { type }), context).then(({ part }) => part.text, ({ message }) => message);
    const wide = (text) => new Uint8Array([0xff, 0xfe, ...[...text].flatMap((letter) => [letter.charCodeAt(0), 0])]);
    const latin = new Uint8Array([0x63, 0x61, 0x66, 0xe9]);
    const excel = "application/vnd.ms-excel";
    console.log(JSON.stringify([await add(wide("Größe"), "a.txt"), await add(latin, "b.csv", excel), await add(latin, "c.bin")]));
    """
    assert run("attachments.js", code) == [
        "`a.txt`:\n```txt\nGröße\n```",
        "it isn't text in UTF-8. Save it as UTF-8 text, then add it again.",
        "this model takes only text files. No model of this gateway does.",
    ]


def test_an_exported_citation_needs_no_address() -> None:
    """A source without an address is exported with its title or its text."""
    code = r"""
    const part = (fields) => ({ kind: "citation", ...fields });
    const parts = [part({ url: "https://a.example", title: "A" }), part({ title: "Report" }), part({ text: "page 3" })];
    const messages = [{ id: "m1", role: "assistant", created_at: "now", parent: null, parts }];
    const connection = { request: async (type) => type === "conversation.get" ? { title: "T", head: "m1" } : { messages } };
    globalThis.document = { createElement: () => ({ setAttribute() {}, append() {}, click() {} }) };
    globalThis.setTimeout = () => {};
    let blob;
    URL.createObjectURL = (given) => (blob = given, "blob:x");
    await it.exportConversation(connection, "c1", "md");
    console.log(JSON.stringify((await blob.text()).split("\n\n").slice(-3).map((line) => line.trim())));
    """
    assert run("export.js", code) == ["[A](https://a.example)", "Report", "page 3"]


def test_a_paused_estimate_isnt_that_of_another_prompt() -> None:
    """After `rate_limited` nothing is asked for a minute, and the estimate of the former prompt isn't shown meanwhile."""
    code = r"""
    let later;
    globalThis.setTimeout = (run) => (later = run);
    globalThis.clearTimeout = () => {};
    const node = () => ({ textContent: "", hidden: true, title: "" });
    const estimate = node();
    let input = "one";
    let asked = 0;
    const refused = { code: "rate_limited" };
    const request = async () => (asked++, input === "one" ? { input_tokens: 5, trimmed: 0 } : Promise.reject(refused));
    const line = new it.CostLine({ request }, node(), estimate, () => ({ input }), () => null);
    const seen = [];
    for (input of ["one", "two", "three"]) {
      line.onChange();
      later();
      await new Promise(setImmediate);
      seen.push(estimate.textContent);
      if (input === "two") Object.assign(estimate, { textContent: "stale", hidden: false });
    }
    console.log(JSON.stringify([seen, asked]));
    """
    assert run("cost_line.js", code) == [["≈ 5 tokens", "", ""], 2]
