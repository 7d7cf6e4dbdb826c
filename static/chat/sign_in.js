/** Signing in, where the gateway wants to know who asks: a key or token is traded for a ticket at each opening of the socket. */

import { TurnwireError } from "../turnwire.js";
import { authorization, credential, keepCredential, pasted } from "./credential.js";
import { forgetDrafts } from "./drafts.js";

const REFUSED = "This key or token isn't accepted here. It may be mistyped, revoked or past its end: check it, or ask for a new one.";
const NO_KEY = "This can't be a key or token: they have no spaces and no special letters. Copy it once more, whole.";
const UNREACHED = "The gateway can't be reached. Check the network, then try again.";
const ENDED = "Your sign-in has ended or was revoked. Sign in again to go on; nothing on this page is lost.";

export class SignIn {
  #dialog;
  #box;
  #why;
  #wrong;
  #button;
  #asking = null;
  #onSigned;

  /**
   * @param {HTMLDialogElement} dialog
   * @param {() => void} onSigned called after somebody signed in
   */
  constructor(dialog, onSigned) {
    this.#onSigned = onSigned;
    this.#dialog = dialog;
    this.#box = dialog.querySelector("input");
    this.#why = dialog.querySelector(".sign-in-why");
    this.#wrong = dialog.querySelector(".sign-in-wrong");
    this.#button = dialog.querySelector("button");
    dialog.addEventListener("cancel", (event) => event.preventDefault()); // behind it is nothing that would work
    dialog.addEventListener("close", () => this.#asking && dialog.showModal());
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.#box.addEventListener("input", () => this.#say(""));
  }

  /** Whether the gateway asks who comes; where it can't say now, the socket will. */
  static async wanted() {
    try {
      const { auth } = await (await fetch("v1")).json();
      return auth !== "none";
    } catch {
      return false;
    }
  }

  /** A ticket for one opening or renewal; a person is asked for a credential where none counts. Given to `connect`. */
  ticket = async () => {
    const value = credential();
    if (this.#asking || !value) return this.#ask();
    const { ticket, status } = await trade(value);
    if (status !== 401) return ticket;
    keepCredential(null);
    return this.#ask(ENDED);
  };

  signOut() {
    keepCredential(null);
    this.begin();
  }

  /** An empty page, for whoever is signed in now. */
  begin() {
    forgetDrafts();
    location.replace(location.pathname + location.search);
  }

  /** Resolves with a ticket once somebody signed in. An opening gives up after a while and another asks: that one counts. */
  async #ask(why) {
    if (why) this.#why.textContent = why;
    this.#asking?.reject(new TurnwireError({ code: "superseded", message: "Another opening waits for the sign-in.", retryable: true }));
    this.#asking = Promise.withResolvers();
    if (!this.#dialog.open) {
      this.#dialog.showModal();
      this.#box.focus();
    }
    return this.#asking.promise;
  }

  async #submit() {
    const value = pasted(this.#box.value);
    if (!value) {
      this.#say(this.#box.value.trim() ? NO_KEY : "Paste a key or token first.");
      return;
    }
    this.#button.disabled = true;
    try {
      const { status, ticket } = await trade(value);
      if (status === 401) this.#say(REFUSED);
      else this.#done(value, ticket);
    } catch (error) {
      this.#say(error.message);
    } finally {
      this.#button.disabled = false;
    }
  }

  #done(value, ticket) {
    keepCredential(value);
    this.#box.value = "";
    const { resolve } = this.#asking;
    this.#asking = null;
    this.#dialog.close();
    resolve(ticket);
    this.#onSigned();
  }

  #say(text) {
    this.#wrong.textContent = text;
    this.#wrong.hidden = text === "";
    this.#box.setAttribute("aria-invalid", String(text !== ""));
    if (text) this.#box.select();
  }
}

/**
 * @param {string} value a credential
 * @returns {Promise<{status: number, ticket?: string}>} status 401: it doesn't count
 * @throws {TurnwireError} it can't be known now; its message is for people
 */
async function trade(value) {
  let answer;
  try {
    answer = await fetch("v1/tickets", { method: "POST", headers: authorization(value) });
  } catch {
    throw new TurnwireError({ code: "unreached", message: UNREACHED, retryable: true });
  }
  if (answer.status === 401) return { status: 401 };
  const said = await answer.json().catch(() => ({}));
  if (answer.ok && said.ticket) return { status: answer.status, ticket: said.ticket };
  throw new TurnwireError({ code: "unreached", message: UNREACHED, retryable: true, ...said.error });
}
