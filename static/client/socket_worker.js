/** The worker of worker_socket.js: a WebSocket, and a way to block the thread that reads it. */

let socket;

self.onmessage = ({ data: asked }) => {
  if (asked.open) open(asked.open);
  else if (asked.send !== undefined) socket.send(asked.send);
  else if (asked.pause !== undefined) pause(asked.pause);
  else socket.close(asked.close);
};

function open({ url, protocols }) {
  socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => self.postMessage({ open: true });
  socket.onmessage = ({ data }) => self.postMessage({ data }, data instanceof ArrayBuffer ? [data] : []);
  socket.onclose = ({ code, reason }) => self.postMessage({ closed: { code, reason } });
}

function pause(ms) {
  // Memory of its own that may be waited on: unlike SharedArrayBuffer it needs no cross-origin isolation.
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  Atomics.wait(new Int32Array(memory.buffer), 0, 0, ms);
  self.postMessage({ resumed: true });
}
