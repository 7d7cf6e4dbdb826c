/** Shows a message that a search has found, and marks the words of the search in it. */

const PAGES_MAX = 100;
const RANGES_MAX = 200;
const DRAWN_MS = 3_000;
const FRAMES = 5;
const NAME = "found";

/**
 * @param {import("./conversation_model.js").ConversationModel} conversation
 * @param {string} id of the message
 * @param {string} query the words of the search
 * @param {(message: import("./message_tree.js").MessageNode) => HTMLElement | null} nodeOf returns its view
 */
export async function showFoundMessage(conversation, id, query, nodeOf) {
  for (let page = 0; page < PAGES_MAX && !conversation.tree.get(id) && conversation.hasEarlier; page++) await conversation.loadEarlier();
  const message = conversation.tree.get(id);
  if (!message) return;
  conversation.reveal(message);
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const until = performance.now() + DRAWN_MS;
  for (let node = nodeOf(message); node && performance.now() < until; node = nodeOf(message)) {
    const ranges = rangesOf(node, words);
    if (ranges.length > 0) {
      mark(ranges);
      return scrollTo(ranges[0].startContainer.parentElement);
    }
    node.scrollIntoView({ block: "start" });
    await new Promise((resolve) => setTimeout(resolve, 50)); // a long answer is drawn in steps
  }
}

/** Shows an element in the middle. What is above it gets its real height only when it is near, so this takes some frames. */
async function scrollTo(element) {
  for (let frame = 0; frame < FRAMES; frame++) {
    element.scrollIntoView({ block: "center" });
    await new Promise(requestAnimationFrame);
  }
}

/** Removes the marks. */
export function clearMarks() {
  globalThis.CSS?.highlights?.delete(NAME);
}

function mark(ranges) {
  clearMarks();
  if (globalThis.Highlight) CSS.highlights.set(NAME, new Highlight(...ranges));
}

function rangesOf(node, words) {
  const ranges = [];
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text && ranges.length < RANGES_MAX; text = walker.nextNode()) {
    if (!text.parentElement.closest("[data-testid=answer], [data-testid=prompt]")) continue;
    const lowered = text.data.toLowerCase();
    for (const word of words) {
      for (let at = lowered.indexOf(word); at >= 0 && ranges.length < RANGES_MAX; at = lowered.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(text, at);
        range.setEnd(text, Math.min(text.length, at + word.length));
        ranges.push(range);
      }
    }
  }
  return ranges.sort((one, other) => one.compareBoundaryPoints(Range.START_TO_START, other));
}
