/** The worker script of worker_socket.js: holds the WebSocket, and blocks the worker's thread on request. */

let socket;

self.onmessage = ({ data: command }) => {
  if (command.open) open(command.open);
  else if (command.send !== undefined) socket.send(command.send);
  else if (command.pause !== undefined) pause(command.pause);
  else socket.close(command.close);
};

function open({ url, protocols }) {
  socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => self.postMessage({ open: true });
  socket.onmessage = ({ data }) => self.postMessage({ data }, data instanceof ArrayBuffer ? [data] : []);
  socket.onclose = ({ code, reason }) => self.postMessage({ closed: { code, reason } });
}

function pause(ms) {
  // `Atomics.wait` needs shared memory. Without cross-origin isolation only WebAssembly can create it.
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  Atomics.wait(new Int32Array(memory.buffer), 0, 0, ms);
  self.postMessage({ resumed: true });
}
