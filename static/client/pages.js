/** Lists that the gateway gives in pages, as async iterators. */

/**
 * Iterate it for its items one by one, or `pages()` for the pages as they came; nothing is asked before it is needed.
 * `all()` gives every item in one array.
 */
export class Pages {
  #ask;
  #itemsOf;
  #joined;

  /**
   * @param {(before: string | undefined) => Promise<{next?: string}>} ask gives one page
   * @param {(page: object) => object[]} itemsOf a page's items in the order of the iteration
   * @param {(pages: object[]) => object[]} joined all pages' items in the order of `all`
   */
  constructor(ask, itemsOf, joined = (pages) => pages.flatMap(itemsOf)) {
    this.#ask = ask;
    this.#itemsOf = itemsOf;
    this.#joined = joined;
  }

  async *[Symbol.asyncIterator]() {
    for await (const page of this.pages()) yield* this.#itemsOf(page);
  }

  async *pages() {
    let before;
    do {
      const page = await this.#ask(before);
      yield page;
      before = page.next;
    } while (before !== undefined && before !== null);
  }

  async all() {
    const pages = [];
    for await (const page of this.pages()) pages.push(page);
    return this.#joined(pages);
  }
}

/** Conversations, last changed first. */
export function conversationPages(request, fields) {
  return new Pages((before) => request("conversation.list", { ...fields, ...(before && { before }) }), (page) => page.conversations);
}

/** A conversation's messages: iterated from the newest to the oldest; `all()` is by time, the oldest first. */
export function messagePages(request, fields) {
  return new Pages(
    (before) => request("conversation.messages", { ...fields, ...(before && { before }) }),
    (page) => page.messages.toReversed(),
    (pages) => pages.toReversed().flatMap((page) => page.messages),
  );
}
