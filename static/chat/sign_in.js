/** Signs the user in, if the gateway requires it. A key or token is exchanged for a ticket each time the socket opens. */

import { authorizationHeader, getCredential, parseCredential, setCredential } from "../shared/credential.js";
import { TurnwireError } from "../turnwire.js";
import { clearDrafts } from "./drafts.js";
import { clearOutbox } from "./outbox.js";
import { forgetSettings } from "./settings.js";
import { forgetPermissions } from "./tool_permissions.js";

const REFUSED = "This key or token isn't accepted. It may be mistyped, expired, or revoked. Check it, or ask for a new one.";
const INVALID = "Keys and tokens have no spaces or special characters. Copy the whole key or token and paste it again.";
const EMPTY = "Paste a key or token first.";
const UNREACHABLE = "Can't reach the gateway. Check the network, then try again.";
const EXPIRED = "Your sign-in has expired or was revoked. Sign in again to continue. Nothing on this page is lost.";

/** The name under which the tab's user is kept. */
const USER = "turnwire.user";

export class SignIn {
  #dialog;
  #box;
  #intro;
  #error;
  #button;
  /** Who has used this page. @type {string | null} */
  #user = null;
  /** Whether this page has to sign the user in. Null: not known yet. @type {boolean | null} */
  required = null;
  /** The call of `ticket` that waits for the user to sign in, as a promise with its resolvers. */
  #pending = null;
  #onSignedIn;

  /**
   * @param {HTMLDialogElement} dialog
   * @param {() => void} onSignedIn
   */
  constructor(dialog, onSignedIn) {
    this.#onSignedIn = onSignedIn;
    this.#dialog = dialog;
    this.#box = dialog.querySelector("input");
    this.#intro = dialog.querySelector(".sign-in-intro");
    this.#error = dialog.querySelector(".sign-in-error");
    this.#button = dialog.querySelector("button");
    dialog.addEventListener("cancel", (event) => event.preventDefault()); // the page doesn't work without a sign-in
    dialog.addEventListener("close", () => this.#pending && dialog.showModal());
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.#box.addEventListener("input", () => this.#showError(""));
  }

  /**
   * Returns a ticket for one socket or renewal; empty if none is needed. Asks the user for a credential if needed.
   * Passed to `connect`.
   */
  ticket = async () => {
    this.required ??= await isSignInRequired();
    if (!this.required) return "";
    const credential = getCredential();
    if (this.#pending || !credential) return this.#askUser();
    const { ticket, status } = await fetchTicket(credential);
    if (status !== 401) return ticket;
    setCredential(null);
    return this.#askUser(EXPIRED);
  };

  /** Returns whether another user has used this tab before, and remembers this one. @param {string} user */
  isOtherUser(user) {
    let before = this.#user;
    try {
      before ??= sessionStorage.getItem(USER);
      sessionStorage.setItem(USER, user);
    } catch {
      // Storage is disabled: nothing of another user outlives a reload.
    }
    this.#user = user;
    return before !== null && before !== user;
  }

  signOut() {
    setCredential(null);
    this.resetPage();
  }

  /** Deletes all drafts, unsent prompts, settings and permissions, and reloads the page with no conversation open, for another user. */
  resetPage() {
    clearDrafts();
    clearOutbox();
    forgetPermissions();
    forgetSettings();
    try {
      sessionStorage.removeItem(USER);
    } catch {
      // Storage is disabled.
    }
    addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // Back may show this page again
    location.replace(location.pathname + location.search);
  }

  /** Shows the dialog. Resolves with a ticket. Rejects the pending call, if any: its socket has timed out. */
  async #askUser(intro) {
    if (intro) this.#intro.textContent = intro;
    this.#pending?.reject(new TurnwireError({ code: "superseded", message: "Another connection attempt is waiting for the sign-in.", retryable: true }));
    this.#pending = Promise.withResolvers();
    if (!this.#dialog.open) {
      this.#dialog.showModal();
      this.#box.focus();
    }
    return this.#pending.promise;
  }

  async #submit() {
    const credential = parseCredential(this.#box.value);
    if (!credential) {
      this.#showError(this.#box.value.trim() ? INVALID : EMPTY);
      return;
    }
    this.#button.disabled = true;
    try {
      const { status, ticket } = await fetchTicket(credential);
      if (status === 401) this.#showError(REFUSED);
      else this.#finish(credential, ticket);
    } catch (error) {
      this.#showError(error.message);
    } finally {
      this.#button.disabled = false;
    }
  }

  #finish(credential, ticket) {
    setCredential(credential);
    this.#box.value = "";
    const { resolve } = this.#pending;
    this.#pending = null;
    this.#dialog.close();
    resolve(ticket);
    this.#onSignedIn();
  }

  #showError(text) {
    this.#error.textContent = text;
    this.#error.hidden = text === "";
    this.#box.setAttribute("aria-invalid", String(text !== ""));
    if (text) this.#box.select();
  }
}

/**
 * Returns whether the page has to sign the user in. It doesn't have to if authentication is off, or if a proxy signs
 * users in and adds a credential to each request.
 * @throws {TurnwireError} if the gateway can't be reached
 */
async function isSignInRequired() {
  // The gateway writes it into the page, which saves a request.
  const auth = document.documentElement.dataset.auth ?? (await fetchAuth());
  if (auth === "none" || getCredential() !== null) return auth !== "none";
  return (await checked(requestTicket(null))).status === 401;
}

async function fetchAuth() {
  const response = await checked(fetchFromGateway("v1"));
  const { auth = "none" } = await response.json().catch(() => ({}));
  return auth;
}

/** Returns a response, unless it is from a proxy whose gateway is restarting. @param {Promise<Response>} answer */
async function checked(answer) {
  const response = await answer;
  if (response.status >= 500) throw unreached();
  return response;
}

/**
 * Exchanges a credential for a ticket.
 * @returns {Promise<{status: number, ticket?: string}>} status 401: the credential is invalid
 * @throws {TurnwireError} if the gateway can't be reached or returns another error; its message can be shown to the user
 */
async function fetchTicket(credential) {
  const response = await requestTicket(credential);
  if (response.status === 401) return { status: 401 };
  const body = await response.json().catch(() => ({}));
  if (response.ok && body.ticket) return { status: response.status, ticket: body.ticket };
  throw unreached(body.error);
}

function requestTicket(credential) {
  return fetchFromGateway("v1/tickets", { method: "POST", headers: authorizationHeader(credential) });
}

async function fetchFromGateway(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw unreached();
  }
}

function unreached(error) {
  return new TurnwireError({ code: "unreached", message: UNREACHABLE, retryable: true, ...error });
}
