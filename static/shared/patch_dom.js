/** Changes nodes into others with the fewest touches: what stays the same isn't touched, text that grew is appended to. */

/** Makes `old` hold what `fresh` holds; both are elements of one kind. */
export function amend(old, fresh) {
  let here = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    if (!here) {
      old.append(wanted);
      continue;
    }
    const next = here.nextSibling;
    if (!alike(here, wanted)) here.replaceWith(wanted);
    else if (here.nodeType === Node.TEXT_NODE) grow(here, wanted.data);
    else amend(here, wanted);
    here = next;
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

/** Gives a text node its new text; only what is new is written where the text has grown. */
export function grow(node, text) {
  if (text.length > node.length && text.startsWith(node.data)) node.appendData(text.slice(node.length));
  else if (node.data !== text) node.data = text;
}

/** The text node at the very end of an element, if its end is text. */
export function lastText(element) {
  let node = element;
  while (node.lastChild) node = node.lastChild;
  return node.nodeType === Node.TEXT_NODE ? node : null;
}

function alike(one, other) {
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName) return false;
  if (one.nodeType !== Node.ELEMENT_NODE) return true;
  if (one.attributes.length !== other.attributes.length) return false;
  return [...one.attributes].every(({ name, value }) => other.getAttribute(name) === value);
}
