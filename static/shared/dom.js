/** Creates and updates DOM nodes. Text is always set as text: nothing here parses markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Creates an element.
 * @param {string} tag
 * @param {Record<string, unknown>} [props] attributes; `text` sets the text, `on…` adds a listener; false, null and
 *   undefined are skipped
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Creates an icon by copying a symbol in index.html, because a `<use>` reference takes three times the memory. */
export function icon(name) {
  const symbol = document.getElementById(`icon-${name}`)?.cloneNode(true);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("viewBox", "0 0 16 16");
  if (symbol) svg.append(...symbol.children);
  return svg;
}

/**
 * Returns whether a key event belongs to an input method. In Safari, the Enter that ends a composition can be
 * recognized only by its key code, 229.
 */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

/** Sets the text of a node only if it changed, to avoid needless layout and screen reader announcements. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes `children` the children of `parent`. One that is already in place isn't moved, because it would lose focus. */
export function setChildren(parent, children) {
  for (const [index, child] of children.entries()) {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  }
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}
