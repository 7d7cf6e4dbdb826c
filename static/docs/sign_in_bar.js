/** The field for the API key or token with which "Try it" sends its requests: the chat page's own sign-in. */

import { getCredential, parseCredential, setCredential } from "../shared/credential.js";
import { el } from "./dom.js";

/** Creates the bar. The credential is kept as on the chat page: in this tab, until it is closed or the user signs out. */
export function createSignInBar() {
  const input = Object.assign(el("input"), { type: "password", autocomplete: "off", placeholder: "tw_… or eyJ…", ariaLabel: "API key or token" });
  const button = Object.assign(el("button"), { type: "submit" });
  const text = el("span", "status");
  text.setAttribute("role", "status");
  const form = el("form", "sign-in-bar", text, input, button);
  const update = (note = "") => {
    const signedIn = getCredential() !== null;
    text.textContent = note || (signedIn ? "Signed in in this tab." : "Sign in to try requests:");
    input.hidden = signedIn;
    button.textContent = signedIn ? "Sign out" : "Sign in";
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const credential = getCredential() === null ? parseCredential(input.value) : null;
    const isWrong = getCredential() === null && !credential;
    if (!isWrong) setCredential(credential);
    input.value = "";
    update(isWrong ? "Paste a key or token first:" : "");
  });
  update();
  return form;
}
