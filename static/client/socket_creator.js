/** How a WebSocket is created in each runtime. */

/** Whether this is a page or its worker, and not another program. */
export function isPage() {
  return Boolean(globalThis.document ?? globalThis.WorkerGlobalScope);
}

/**
 * Returns the function that creates sockets; null if the runtime has no WebSocket.
 *
 * A gateway with auth accepts a socket that states no origin only with the header `Authorization`. A page states its origin
 * and can't send the header; other programs do the reverse.
 * @param {typeof WebSocket} [given] the class, for example of the package `ws`
 * @returns {((url: string, protocols: string[], token?: string) => WebSocket) | null}
 */
export function socketCreator(given) {
  const find = () => (given === undefined ? globalThis.WebSocket : given);
  if (!find()) return null;
  return (url, protocols, token) => {
    const Socket = find();
    if (!token || isPage()) return new Socket(url, protocols);
    const headers = { authorization: `Bearer ${token}` };
    return Socket === globalThis.WebSocket ? new Socket(url, { protocols, headers }) : new Socket(url, protocols, { headers });
  };
}
