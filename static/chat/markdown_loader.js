/**
 * Loads the Markdown renderer once the page is live, or with the first answer. Loading it takes as long as loading all
 * the rest of the page.
 */

const RETRY_AFTER_MS = 2_000;

let MarkdownView = null;
let loading = null;
let hasFailed = false;

/** Loads the renderer, unless it is loaded or being loaded. */
export function loadMarkdown() {
  loading ??= import("../markdown/markdown_view.js").then(
    (module) => ({ MarkdownView } = module),
    () => {
      hasFailed = true;
      setTimeout(() => (loading = null), RETRY_AFTER_MS);
    },
  );
}

/** A `MarkdownView` that works before the renderer is loaded. If loading fails, it shows the source meanwhile. */
export class LazyMarkdown {
  #root;
  #view = null;

  /** @param {HTMLElement} root gets the blocks as children */
  constructor(root) {
    this.#root = root;
  }

  /** As in `MarkdownView`. */
  update(source, open, deadline) {
    if (!this.#view) {
      if (!MarkdownView) {
        loadMarkdown();
        if (hasFailed) this.#root.textContent = source;
        return false;
      }
      this.#root.replaceChildren();
      this.#view = new MarkdownView(this.#root);
    }
    return this.#view.update(source, open, deadline);
  }
}
