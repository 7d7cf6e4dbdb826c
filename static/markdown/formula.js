/** Turns the source of a formula into KaTeX's tree, within bounds. Needs no page. */

import { FORMULA_CHARS_MAX } from "./math_text.js";

const DEPTH_MAX = 60;
/** A formula that defines macros must be short, because its expansion may be long. */
const DEFINITIONS = /\\(?:[gex]?def|(?:re)?new(?:command|environment)|providecommand|(?:future)?let|global|long)(?![a-zA-Z])/;
const DEFINING_CHARS_MAX = 500;
const OPTIONS = { throwOnError: true, strict: "ignore", trust: false, maxSize: 20, output: "htmlAndMathml" };

/**
 * Returns the tree of a formula, or null if it is invalid or too complex.
 * @param {object} katex
 * @param {string} source without delimiters
 * @param {boolean} displayMode
 */
export function formulaTree(katex, source, displayMode) {
  const defines = DEFINITIONS.test(source);
  if (source.length > (defines ? DEFINING_CHARS_MAX : FORMULA_CHARS_MAX) || isTooDeep(source)) return null;
  try {
    const tree = katex.__renderToDomTree(source, { ...OPTIONS, displayMode, maxExpand: defines ? 100 : 1_000 });
    removeStyleAttributes(tree);
    return tree;
  } catch {
    return null;
  }
}

/** Returns whether groups are nested too deeply. Each level makes the formula taller. */
function isTooDeep(source) {
  let depth = 0;
  for (const character of source) {
    if (character === "{" && ++depth > DEPTH_MAX) return true;
    if (character === "}") depth--;
  }
  return /(?:\\(?:sqrt|left|frac|overline|underline|hat|begin)[^a-zA-Z{]*){40}/.test(source);
}

/** The page's policy refuses `style` attributes. KaTeX has them only in MathML, which isn't seen. */
function removeStyleAttributes(node) {
  if (node.attributes?.style !== undefined) delete node.attributes.style;
  for (const child of node.children ?? []) if (child) removeStyleAttributes(child);
}
