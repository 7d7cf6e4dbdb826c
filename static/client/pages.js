/** Paginated lists of the gateway as async iterators. */

/**
 * Iterates the items of all pages. `pages()` iterates the pages themselves, `all()` returns every item in one array. A
 * page is requested only when it is needed.
 */
export class Pages {
  #fetchPage;
  #itemsOf;
  #joinPages;

  /**
   * @param {(before: string | undefined) => Promise<{next?: string}>} fetchPage requests one page
   * @param {(page: object) => object[]} itemsOf returns a page's items in iteration order
   * @param {(pages: object[]) => object[]} joinPages returns the items of all pages in the order of `all`
   */
  constructor(fetchPage, itemsOf, joinPages = (pages) => pages.flatMap(itemsOf)) {
    this.#fetchPage = fetchPage;
    this.#itemsOf = itemsOf;
    this.#joinPages = joinPages;
  }

  async *[Symbol.asyncIterator]() {
    for await (const page of this.pages()) yield* this.#itemsOf(page);
  }

  async *pages() {
    let before;
    do {
      const page = await this.#fetchPage(before);
      yield page;
      before = page.next;
    } while (before !== undefined && before !== null);
  }

  async all() {
    const pages = [];
    for await (const page of this.pages()) pages.push(page);
    return this.#joinPages(pages);
  }
}

/** Lists conversations, last changed first. */
export function conversationPages(request, fields) {
  return new Pages((before) => request("conversation.list", { ...fields, ...(before && { before }) }), (page) => page.conversations);
}

/** Lists a conversation's messages: iteration runs from newest to oldest, `all()` from oldest to newest. */
export function messagePages(request, fields) {
  return new Pages(
    (before) => request("conversation.messages", { ...fields, ...(before && { before }) }),
    (page) => page.messages.toReversed(),
    (pages) => pages.toReversed().flatMap((page) => page.messages),
  );
}
