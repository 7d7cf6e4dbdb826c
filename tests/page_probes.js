/** Probes of the browser tests. They are injected before the page's own scripts, as `probes`. */

// Records the page's sockets, so that a test can close one, and logs blocked resources as errors.
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    window.sockets.push(this);
  }
};
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`blocked by the policy: ${event.violatedDirective} ${event.blockedURI}`);
});

window.probes = {};

/** Imports one of the page's modules, by its path in `static`: the page's own instance of it. */
probes.load = (path) => import(new URL(`../${path}`, document.querySelector("script[type=module]").src));

/** Returns text whose contrast is below WCAG AA: 4.5, or 3 for large text. */
probes.tooFaint = () => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map((at) => top[at] * top[3] + under[at] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => part / 255).map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    const own = rgba(getComputedStyle(node).backgroundColor);
    return own[3] === 1 || !node.parentElement ? own : over(own, behind(node.parentElement));
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    const style = getComputedStyle(node);
    const shown = text.data.trim() && node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!shown || node.closest(".visually-hidden, script, style, option, :disabled")) continue;
    const ground = behind(node);
    const [one, other] = [light(over(rgba(style.color), ground)), light(ground)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < (large ? 3 : 4.5)) faint.push(`${contrast.toFixed(2)} ${text.data.trim().slice(0, 40)}`);
  }
  return faint;
};

/** Returns up to five elements that overflow the window sideways. Elements in a box that scrolls or clips them don't count, unless that box is the chat. */
probes.tooWide = () => [...document.querySelectorAll("main *, .sidebar *")].filter((node) => {
  const box = node.getBoundingClientRect();
  if (box.width === 0 || !node.checkVisibility({ visibilityProperty: true })) return false;
  for (let at = node.parentElement; at; at = at.parentElement) {
    const scrolls = ["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(at).overflowX);
    if (scrolls && !at.matches("html, body, .scroller")) return false;
  }
  return box.right > innerWidth + 1 || box.left < -1;
}).slice(0, 5).map((node) => `${node.localName}.${node.getAttribute("class")} ${Math.round(node.getBoundingClientRect().right)}`);

/** Returns controls that are too small to hit, and controls without a name. */
probes.poorControls = () => [...document.querySelectorAll("button, a[href], input, select, textarea, summary")].filter((node) => {
  if (!node.checkVisibility({ visibilityProperty: true }) || node.closest(".visually-hidden")) return false;
  const box = node.getBoundingClientRect();
  const inText = node.closest("p, li:not(.conversation-item)") || ["checkbox", "radio", "range"].includes(node.type);
  const small = !inText && Math.min(box.width, box.height) < 24;
  const name = node.getAttribute("aria-label") || node.textContent.trim() || node.labels?.[0]?.textContent.trim() || node.title;
  return small || !name;
}).map((node) => node.outerHTML.slice(0, 120));

/** Returns all that a test could leave behind on the page: its address, stored values, fields and elements. */
probes.state = () => {
  const body = document.body.cloneNode(true);
  for (const node of body.querySelectorAll("[data-testid=announcements], .roundtrip, .usage-line[hidden]")) node.replaceChildren();
  // What the page keeps after an answer, hidden, until the next one: two titles, and the choice of what a busy conversation does.
  for (const node of body.querySelectorAll(".usage-line[hidden], .estimate[hidden]")) node.removeAttribute("title");
  for (const node of body.querySelectorAll(".busy-chip[hidden], .busy-menu")) node.remove();
  const stored = [localStorage, sessionStorage].map((storage) => Object.entries(storage).sort());
  const fields = [...document.querySelectorAll("input, textarea, select")].map((field) => [field.value, Boolean(field.checked)]);
  const sorted = (tag) => tag.match(/[^\s"]+(="[^"]*")?/g).sort().join(" "); // a reload may add attributes in another order
  const html = body.outerHTML.replaceAll(/<[a-z][^>"]*("[^"]*"[^>"]*)*>/g, sorted).replaceAll(/\s+/g, " ");
  return { address: location.pathname + location.search + location.hash, stored, fields, html };
};

/** Brings the page back to a state that `probes.state` has returned, after a test. Returns what is different even so. */
probes.restore = async (state) => {
  window.other?.close();
  delete window.other;
  document.querySelector("[data-testid=drawer]:not([hidden]) .drawer-close")?.click();
  for (const button of document.querySelectorAll(".thumbnail button")) button.click();
  const fields = [...document.querySelectorAll("input, textarea, select")];
  const set = () => fields.forEach((field, index) => {
    const [value, checked] = state.fields[index] ?? ["", false];
    if (field.value === value && Boolean(field.checked) === checked && field.type !== "search") return;
    Object.assign(field, ["checkbox", "radio"].includes(field.type) ? { checked } : { value });
    for (const type of ["input", "change"]) field.dispatchEvent(new Event(type, { bubbles: true })); // loads the list again
  });
  set();
  document.querySelector("[data-testid=new-conversation]").click();
  set(); // the new conversation may have a draft
  await new Promise((resolve) => setTimeout(resolve, 500)); // the list is loaded, and the announcements are made
  document.querySelector("[data-testid=announcements]").replaceChildren();
  [localStorage, sessionStorage].forEach((storage, index) => {
    storage.clear();
    for (const [name, value] of state.stored[index]) storage.setItem(name, value);
  });
  window.sockets = sockets.filter(({ readyState }) => readyState === WebSocket.OPEN);
  const now = probes.state();
  const different = Object.keys(now).filter((name) => JSON.stringify(now[name]) !== JSON.stringify(state[name]));
  return sockets.length === 1 ? different : [...different, "sockets"];
};

/** Returns what the answers on the page contain: elements, links, the number of attributes that could do harm; and whether injected code ran. */
probes.answered = () => {
  const list = document.querySelector(".message-list");
  const every = [...list.querySelectorAll("[data-testid=answer] *")];
  return {
    harmed: window.harmed ?? ({}).harmed ?? null,
    elements: [...new Set(every.map((node) => node.localName))].sort(),
    handlers: every.flatMap((node) => [...node.attributes]).filter(({ name }) => /^(on|style|src|srcdoc|id|name)/.test(name)).length,
    links: [...list.querySelectorAll("[data-testid=answer] a")].map((link) => `${link.getAttribute("href")} ${link.rel} ${link.target}`),
  };
};

/** Sets the page's clock ahead by milliseconds, instead of waiting for them. */
const clock = performance.now.bind(performance);
let ahead = 0;
probes.advance = (ms) => {
  ahead += ms;
  performance.now = () => clock() + ahead;
};

/** What the texts of `probes.grow` show when they are rendered at once, as rendering takes long. */
const shownAtOnce = new Map();

/** Renders Markdown at once and in steps of these sizes, and compares the results. */
probes.grow = async ([text, steps]) => {
  const { MarkdownView } = await probes.load("markdown/markdown_view.js");
  const { CodeBlock } = await probes.load("markdown/code_block.js");
  const [whole, grown] = [document.createElement("div"), document.createElement("div")];
  new MarkdownView(whole).update(text, false);
  const view = new MarkdownView(grown);
  let title;
  const astray = [];
  const words = (node) => {
    const copy = node.cloneNode(true);
    for (const formula of copy.querySelectorAll(".math")) formula.textContent = formula.dataset.source;
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  const atOnce = (part) => {
    if (!shownAtOnce.has(part)) {
      const once = document.createElement("div");
      const { finish } = CodeBlock.prototype;
      CodeBlock.prototype.finish = () => {}; // it would highlight the code after the comparison
      new MarkdownView(once).update(part, true);
      CodeBlock.prototype.finish = finish;
      shownAtOnce.set(part, words(once));
    }
    return shownAtOnce.get(part);
  };
  const show = (end) => {
    while (!view.update(text.slice(0, end), end < text.length)) probes.advance(2);
    if (end >= 30) title ??= grown.firstChild;
    const once = atOnce(text.slice(0, end));
    if (once !== words(grown)) astray.push(`${text.slice(Math.max(0, end - 20), end)}: ${words(grown).slice(-40)} instead of ${once.slice(-40)}`);
  };
  for (let end = 0, step = 0; end < text.length; step++) show((end = Math.min(text.length, end + steps[step % steps.length])));
  // Syntax highlighting is added later, to one block after the other, and formulas are rendered later.
  const plain = (root) => (root.querySelectorAll(".code code").length > 0 && !root.querySelector("[class^=hljs]")) || root.querySelector("code[data-math]") !== null;
  const until = performance.now() + 20_000;
  while ((plain(whole) || plain(grown) || !whole.isEqualNode(grown)) && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
  return { same: whole.isEqualNode(grown), whole: whole.innerHTML, grown: grown.innerHTML, astray, kept: title === grown.firstChild, blocks: whole.childElementCount };
};

/** Pastes copies of an image that is much too large for a frame: noise, which no codec compresses. Returns the bytes of one copy. */
probes.pasteNoise = async (copies = 1) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1400, height: 900 });
  const context = canvas.getContext("2d");
  const noise = context.createImageData(1400, 900);
  for (let at = 0; at < noise.data.length; at++) noise.data[at] = (at * 2654435761) >>> 24;
  context.putImageData(noise, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const clipboardData = new DataTransfer();
  for (let copy = 0; copy < copies; copy++) clipboardData.items.add(new File([blob], "noise.png", { type: "image/png" }));
  document.querySelector("#prompt").dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  return blob.size;
};

/** Grows a paragraph word by word and counts the nodes that are created. */
probes.growByWords = async () => {
  const { MarkdownView } = await probes.load("markdown/markdown_view.js");
  const root = document.createElement("div");
  const view = new MarkdownView(root);
  view.update("It begins", true);
  let made = 0;
  const observer = new MutationObserver((records) => { for (const { addedNodes } of records) made += addedNodes.length; });
  observer.observe(root, { childList: true, subtree: true });
  let text = "It begins";
  for (let number = 0; number < 500; number++) view.update((text += ` and word ${number}, then`), true);
  await new Promise((resolve) => setTimeout(resolve));
  return { made, nodes: root.firstChild.childNodes.length, same: root.textContent === text };
};

/** Waits for an answer's ending without polling, which would add to the measured tasks. */
probes.ended = (turn) => new Promise((resolve) => {
  const over = () => turn.getAttribute("aria-busy") === "false" && resolve(turn.dataset.state);
  new MutationObserver(over).observe(turn, { attributes: true });
  over();
});

/** Returns the distance of the chat from its end, in px. */
probes.fromEnd = () => {
  const { scrollHeight, clientHeight, scrollTop } = document.querySelector(".scroller");
  return scrollHeight - clientHeight - scrollTop;
};

/** Waits until the number of elements in the messages hasn't changed for 20 frames of the browser. */
probes.idle = async () => {
  const nodes = document.querySelector(".message-list").getElementsByTagName("*");
  for (let still = 0, before = -1; still < 20; still++) {
    if (nodes.length !== before) still = 0;
    before = nodes.length;
    await new Promise(requestAnimationFrame);
  }
};

/** Waits for animations that run once, because fading text has low contrast. Waits at most 2 s, because off-screen animations never finish. */
probes.settled = async () => {
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame); // what just changed begins to move
  const once = document.getAnimations().filter(({ effect }) => effect.getTiming().iterations === 1);
  const out = new Promise((resolve) => setTimeout(resolve, 2000));
  await Promise.race([Promise.allSettled(once.map(({ finished }) => finished)), out]);
};

/** Returns headings that skip a level. */
probes.skippedHeadings = () => {
  const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter((node) => node.checkVisibility());
  const level = (node) => Number(node?.localName[1] ?? 0);
  return headings.filter((node, index) => level(node) > level(headings[index - 1]) + 1).map((node) => node.outerHTML.slice(0, 80));
};

/** Returns whether something covers the Send button on a wide screen. An open dialog or popover may cover it. */
probes.coveredComposer = () => {
  if (innerWidth <= 736 || document.querySelector("dialog[open], :popover-open")) return false;
  const send = document.querySelector(".send");
  const { x, y, width, height } = send.getBoundingClientRect();
  return !send.contains(document.elementFromPoint(x + width / 2, y + height / 2));
};

/** Returns all visual defects of the page. */
probes.looks = () => ({
  "too faint": probes.tooFaint(),
  "too wide": probes.tooWide(),
  "poor controls": probes.poorControls(),
  "skipped headings": probes.skippedHeadings(),
  "covered composer": probes.coveredComposer(),
  "scrolls sideways": [document.documentElement, document.querySelector(".scroller")].some((at) => at.scrollWidth > at.clientWidth),
});
