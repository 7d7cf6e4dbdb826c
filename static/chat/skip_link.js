/** The first link of the page. It moves the focus past the list of conversations; the URL's hash names a conversation. */

/**
 * @param {HTMLAnchorElement} link
 * @param {HTMLElement} target
 */
export function initSkipLink(link, target) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    target.focus({ preventScroll: true });
  });
}
