/** Builds DOM nodes from data. Text always goes in as text: nothing here reads markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [props] attributes; `text` sets the text, `on…` adds a listener, false and null are left out
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

/** One of the symbols at the top of index.html, copied: a reference to it costs the browser three times the memory. */
export function icon(name) {
  const symbol = document.getElementById(`icon-${name}`)?.cloneNode(true);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("viewBox", "0 0 16 16");
  if (symbol) svg.append(...symbol.children);
  return svg;
}

/** Whether a key goes to an input method. Safari says of the Enter that ends a composition only that it is number 229. */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

/** Sets the text only where it changed, so that nothing is laid out or announced again for nothing. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes these the children, in this order, and leaves alone what stands right: what is moved loses the focus. */
export function arrange(parent, children) {
  for (const [index, child] of children.entries()) {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  }
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}
