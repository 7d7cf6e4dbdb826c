/** Creates the elements of the documents page. Text is inserted as text, never parsed as HTML. */

/** Creates an element. Children that are undefined or the empty string are skipped. */
export function el(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

/** Returns a text as nodes: what is between backticks becomes code. @param {string} [text] */
export function rich(text = "") {
  return text.split("`").map((piece, index) => (index % 2 ? el("code", "", piece) : piece)).filter((piece) => piece !== "");
}

export function createTable(headings, rows) {
  if (!rows.length) return el("p", "", "No fields.");
  const head = el("tr", "", ...headings.map((text) => el("th", "", text)));
  const body = rows.map((cells) => el("tr", "", ...cells.map((cell) => el("td", "", ...[cell].flat()))));
  return el("div", "scroll", el("table", "", el("thead", "", head), el("tbody", "", ...body)));
}

/** Creates a collapsed entry. @param {Node | string | Node[]} summary */
export function createEntry(id, title, summary, ...content) {
  const heading = el("summary", "", title, el("span", "summary", ...[summary ?? ""].flat()));
  const item = el("details", "entry", heading, el("div", "", ...content));
  item.id = id;
  return item;
}
