/** Patches DOM nodes with the fewest changes: equal nodes stay, and text that grew is appended to. */

/**
 * Makes `current` hold the same content as `next`.
 * @param {Element} current an element in the page
 * @param {Element} next an element of the same kind; its nodes may be moved out of it
 */
export function patchDom(current, next) {
  let node = current.firstChild;
  for (const wanted of [...next.childNodes]) {
    if (!node) {
      current.append(wanted);
      continue;
    }
    const following = node.nextSibling;
    if (!isSameNode(node, wanted)) node.replaceWith(wanted);
    else if (node.nodeType === Node.TEXT_NODE) setTextData(node, wanted.data);
    else patchDom(node, wanted);
    node = following;
  }
  while (node) {
    const following = node.nextSibling;
    node.remove();
    node = following;
  }
}

/** Sets the text of a text node. If the text only grew, just the new part is written. */
export function setTextData(node, text) {
  if (text.length > node.length && text.startsWith(node.data)) node.appendData(text.slice(node.length));
  else if (node.data !== text) node.data = text;
}

/** Returns the text node at the very end of an element, or null if it doesn't end with text. */
export function lastTextNode(element) {
  let node = element;
  while (node.lastChild) node = node.lastChild;
  return node.nodeType === Node.TEXT_NODE ? node : null;
}

/** Returns whether two nodes have the same type, name and attributes. */
function isSameNode(one, other) {
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName) return false;
  if (one.nodeType !== Node.ELEMENT_NODE) return true;
  if (one.attributes.length !== other.attributes.length) return false;
  return [...one.attributes].every(({ name, value }) => other.getAttribute(name) === value);
}
