// Reads an AsyncAPI document from standard input. Prints as JSON the official parser's problems, and what it finds:
// the ids of the operations that receive, and the names of the messages that are sent.
import { Parser } from "@asyncapi/parser";
import { text } from "node:stream/consumers";

const { document, diagnostics } = await new Parser().parse(await text(process.stdin));
const operations = document?.operations().all() ?? [];
console.log(
  JSON.stringify({
    problems: diagnostics.map(({ code, message, path }) => `${code}: ${message} at ${path.join("/")}`),
    receives: operations.filter((operation) => operation.isReceive()).map((operation) => operation.id()),
    sends: operations.filter((operation) => operation.isSend()).flatMap((operation) => operation.messages().all().map((message) => message.name())),
  }),
);
