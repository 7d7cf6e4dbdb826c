/**
 * Draws a Mermaid diagram in a sandboxed frame: it gets the source, and answers with its height. Nothing that it does
 * reaches the page. The source is shown until the diagram is drawn, and if that fails.
 */

import { el, setText } from "../shared/dom.js";

const LOAD_MS = 20_000;
const DRAW_MS = 5_000;
const HEIGHT_MAX = 4_000;
const NEAR = "300px";
/** Frames that have a diagram or are drawing one. Above the limit the oldest one is replaced by its source. */
const FRAMES_MAX = 8;
const open = new Set();

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Returns whether the page is dark. */
function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : dark.matches;
}

class Diagram {
  #source;
  #pre;
  #button;
  #frame = null;
  #timer = 0;
  #onMessage = (event) => this.#receive(event);
  #isShown = false;
  #height = "";
  /** Whether the user has chosen to see the source. */
  #prefersSource = false;

  constructor(source, pre, button) {
    this.#source = source;
    this.#pre = pre;
    this.#button = button;
    button.addEventListener("click", () => this.#toggle());
  }

  #toggle() {
    if (!this.#frame) return this.load();
    this.#prefersSource = this.#isShown;
    this.#show(!this.#isShown);
  }

  load() {
    if (this.#frame) return;
    if (open.size >= FRAMES_MAX) [...open][0].close("Diagram");
    open.add(this);
    setText(this.#button, "Drawing");
    const src = new URL("../diagram/frame.html", import.meta.url).href;
    this.#frame = el("iframe", { class: "diagram", sandbox: "allow-scripts", referrerpolicy: "no-referrer", title: "Diagram", src });
    addEventListener("message", this.#onMessage);
    this.#endAfter(LOAD_MS);
    this.#pre.after(this.#frame);
  }

  /** Draws it again, in the page's colors. */
  draw() {
    this.#endAfter(DRAW_MS);
    this.#frame.contentWindow.postMessage({ source: this.#source, dark: isDark() }, "*");
  }

  close(label) {
    clearTimeout(this.#timer);
    removeEventListener("message", this.#onMessage);
    open.delete(this);
    this.#prefersSource = false;
    this.#show(false);
    this.#frame?.remove();
    this.#frame = null;
    setText(this.#button, label);
  }

  #endAfter(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.close("Draw again"), ms);
  }

  #receive({ source, data }) {
    if (source !== this.#frame?.contentWindow) return;
    if (data === "ready") return this.draw();
    clearTimeout(this.#timer);
    const height = Number(data?.height);
    if (!(height > 0)) return this.close("Not a valid diagram");
    this.#height = `${Math.min(HEIGHT_MAX, Math.ceil(height))}px`;
    this.#show(!this.#prefersSource); // its height changes with the width of the page and the theme
  }

  #show(shown) {
    this.#isShown = shown;
    if (this.#frame) this.#frame.style.height = shown ? this.#height : "";
    this.#frame?.toggleAttribute("data-shown", shown);
    this.#pre.hidden = shown;
    setText(this.#button, shown ? "Code" : "Diagram");
  }
}

const redraw = () => open.forEach((diagram) => diagram.draw());
dark.addEventListener("change", redraw);
new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });

/**
 * Draws a diagram when it is near the part of the page in view.
 * @param {string} source
 * @param {HTMLElement} bar gets a button that shows the source
 * @param {HTMLElement} pre shows the source
 */
export function drawDiagram(source, bar, pre) {
  const button = el("button", { type: "button", class: "copy diagram-button", text: "Diagram" });
  bar.firstElementChild.after(button);
  const diagram = new Diagram(source, pre, button);
  const observer = new IntersectionObserver(([{ isIntersecting }]) => {
    if (!isIntersecting) return;
    observer.disconnect();
    diagram.load();
  }, { rootMargin: NEAR });
  observer.observe(bar);
}
