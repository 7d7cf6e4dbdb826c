/** Reads server-sent events from the body of a response. */

/**
 * Yields `{id, type, data}` of each event and `{comment}` of each comment, as text.
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* serverSentEvents(body) {
  let event = {};
  for await (const line of lines(body)) {
    if (line === "") {
      if (event.data !== undefined) yield event;
      event = {};
      continue;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "") yield { comment: value };
    else if (name === "data") event.data = event.data === undefined ? value : `${event.data}\n${value}`;
    else if (name === "event") event.type = value;
    else if (name === "id") event.id = value;
  }
}

/** Yields the lines of a body. A last line that isn't terminated is left out: it was cut. */
async function* lines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      let from = rest.length;
      rest += decoder.decode(value, { stream: true });
      let begin = 0;
      for (let end; (end = rest.indexOf("\n", from)) >= 0; from = begin = end + 1) {
        yield rest.slice(begin, rest[end - 1] === "\r" ? Math.max(begin, end - 1) : end);
      }
      rest = rest.slice(begin);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
