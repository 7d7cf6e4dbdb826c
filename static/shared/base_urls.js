/** The addresses that clients of other services need, as docs/clients.md lists them. */

/** The clients, and the path of their address below that of the page. `socket`: it is the address of a WebSocket. */
export const CLIENTS = [
  { clients: "OpenAI SDKs, LangChain, LiteLLM, Open WebUI, AI SDK Core", path: "v1" },
  { clients: "Anthropic SDKs, Claude Code", path: "" },
  { clients: "AI SDK UI (useChat)", path: "api/chat" },
  { clients: "AI SDK UI on a WebSocket", path: "ai-sdk/ws", socket: true },
  { clients: "AG-UI, CopilotKit", path: "ag-ui" },
  { clients: "plain HTTP", path: "api/chat" },
  { clients: "our own protocol", path: "ws", socket: true },
];

/**
 * Returns the address of a client's entry in `CLIENTS`, for a page in the root folder of the gateway.
 * @param {{path: string, socket?: boolean}} entry
 */
export function addressOf({ path, socket }) {
  const url = new URL(path || ".", document.baseURI);
  const address = `${url.origin}${url.pathname}`.replace(/\/$/, "");
  return socket ? address.replace(/^http/, "ws") : address;
}
