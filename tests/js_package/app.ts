/** A program of a user with strict types. It is never run; TypeScript checks it against the package's types. */

import { connect, TurnwireError, type Connection, type ConnectOptions, type FinalMessage, type Transport, type Turn } from "turnwire";

/** As the types of the package `ws` declare it. */
declare class Ws {
  constructor(address: string | URL, protocols?: string | string[], options?: { headers?: Record<string, string> });
}

const transport: Transport = "auto";
const options: ConnectOptions = { url: "wss://gateway.example/ws", transport, token: async () => "token", webSocket: Ws };
const connection: Connection = connect(options);
connect({ url: new URL("wss://gateway.example/ws"), webSocket: WebSocket });
connect({ webSocket: null, socket: (url, protocols, token) => new WebSocket(url, [...protocols, token ?? ""]) });

export async function ask(input: string, signal: AbortSignal): Promise<string> {
  const turn: Turn = connection.start({ input, signal });
  for await (const event of turn) if (event.type === "turn.delta") console.log(event.text ?? "");
  try {
    const message: FinalMessage = await turn;
    return `${message.text} (${connection.transport === "http" ? "HTTP" : "WebSocket"})`;
  } catch (error) {
    return error instanceof TurnwireError ? error.code : "";
  }
}

connection.addEventListener("ready", ({ detail }) => console.log(detail.user?.length ?? 0));
// @ts-expect-error there is no such transport
connect({ transport: "pigeon" });
