/** Highlights code in a worker, one block after the other. The worker ends when it is idle, or takes too long. */

import { schedulePaint } from "../shared/frame_scheduler.js";
import { workerScriptUrl } from "../shared/script_url.js";

const LOAD_MS = 20_000;
const TIMEOUT_MS = 3_000;
const IDLE_MS = 60_000;

let worker = null;
let lastId = 0;
let timer = 0;
/** The requests that aren't answered; the first one is being worked on. */
const requests = [];

/**
 * Highlights code.
 * @param {string} code
 * @param {string} grammar a name of languages.js
 * @param {(className: string, text: string) => void} onPiece gets all pieces in their order, in steps that fit a frame
 * @returns {Promise<boolean>} whether it worked
 */
export function highlight(code, grammar, onPiece) {
  const { promise, resolve } = Promise.withResolvers();
  requests.push({ id: ++lastId, code, grammar, onPiece, resolve, pieces: [], isDone: false, failed: false });
  if (requests.length === 1) startNext();
  return promise;
}

function startNext() {
  clearTimeout(timer);
  const [next] = requests;
  if (!next) {
    timer = setTimeout(endWorker, IDLE_MS);
    return;
  }
  if (!worker) {
    worker = new Worker(workerScriptUrl(new URL("./highlight_worker.js", import.meta.url).href), { type: "module" });
    worker.onmessage = ({ data }) => onAnswer(data);
    worker.onerror = () => fail();
  }
  timer = setTimeout(fail, LOAD_MS);
  worker.postMessage({ id: next.id, code: next.code, grammar: next.grammar });
}

function endWorker() {
  worker?.terminate();
  worker = null;
}

function fail() {
  endWorker();
  finish(true);
}

function onAnswer({ id, isLoaded, pieces, done, failed }) {
  const [request] = requests;
  if (id !== request?.id) return;
  if (isLoaded) {
    clearTimeout(timer);
    timer = setTimeout(fail, TIMEOUT_MS);
  }
  if (pieces) request.pieces.push(pieces);
  if (done) finish(Boolean(failed));
}

/** Ends the first request, and starts the next one. */
function finish(failed) {
  const request = requests.shift();
  startNext();
  if (failed) request?.resolve(false);
  else if (request) schedulePaint(new PieceTask(request));
}

/** Hands the pieces over in steps that fit an animation frame. */
class PieceTask {
  #request;
  #at = 0;

  constructor(request) {
    this.#request = request;
  }

  paint(deadline) {
    const { pieces, onPiece, resolve } = this.#request;
    while (pieces.length > 0) {
      const [part] = pieces;
      do {
        if (this.#at >= part.length) break;
        onPiece(part[this.#at], part[this.#at + 1]);
        this.#at += 2;
      } while (this.#at % 64 > 0 || performance.now() < deadline);
      if (this.#at < part.length) return schedulePaint(this);
      pieces.shift();
      this.#at = 0;
    }
    resolve(true);
  }
}
