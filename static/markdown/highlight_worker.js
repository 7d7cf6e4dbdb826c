/**
 * Highlights code in a worker. It answers with pieces of text and their classes, in parts, so that the page never takes
 * long to read an answer.
 */

import highlight from "../vendor/highlight/core.js";

const PIECES_PER_ANSWER = 2_000;
/** The scopes with a color of their own. Text in another scope has the color of the scope around it. */
const COLORED = new Set(
  ("keyword built_in literal type selector-tag meta tag deletion string regexp symbol addition number title attr attribute " +
    "property variable name params comment quote").split(" "),
);

addEventListener("message", async ({ data: { id, code, grammar } }) => {
  try {
    if (!highlight.getLanguage(grammar)) {
      const { default: rules } = await import(`../vendor/highlight/${grammar}.js`);
      highlight.registerLanguage(grammar, rules);
    }
    postMessage({ id, isLoaded: true });
    const pieces = [];
    collect(highlight.highlight(code, { language: grammar, ignoreIllegals: true })._emitter.rootNode, "", pieces);
    for (let from = 0; from < pieces.length; from += PIECES_PER_ANSWER) postMessage({ id, pieces: pieces.slice(from, from + PIECES_PER_ANSWER) });
    postMessage({ id, done: true });
  } catch {
    postMessage({ id, done: true, failed: true });
  }
});

/** Adds the text of a tree to `pieces`: a class and a text by turns. Neighbours of one class are one piece. */
function collect(tree, outer, pieces) {
  const scope = tree.scope?.split(".")[0] ?? "";
  const name = COLORED.has(scope) ? `hljs-${scope}` : outer;
  for (const child of tree.children) {
    if (typeof child !== "string") collect(child, name, pieces);
    else if (pieces.length > 0 && pieces.at(-2) === name) pieces[pieces.length - 1] += child;
    else pieces.push(name, child);
  }
}
