/** Asks the user before tool calls run on this page: approve, refuse, or always allow a tool. Loaded with the first call. */

import { el } from "../shared/dom.js";
import { allowAlways, isKnownTool } from "./tool_permissions.js";

/** More calls than this get no row of their own: the buttons for all of them decide. */
const ROWS_MAX = 30;
const ARGUMENTS_CHARS = 80;

/**
 * Creates the question about the calls of one answer.
 * @param {{name: string, arguments: string}[]} calls
 * @param {(refused: Set<number>) => void} run is called once all calls are decided, with the indexes of those that were
 *   refused
 * @returns {HTMLElement}
 */
export function createToolApproval(calls, run) {
  /** Whether each call was refused, by its index. @type {Map<number, boolean>} */
  const refused = new Map();
  const rows = calls.slice(0, ROWS_MAX).map((call, index) => createRow(call, index));
  const decide = (indexes, isRefused) => {
    const hadFocus = node.contains(document.activeElement);
    for (const index of indexes) {
      if (refused.has(index)) continue;
      refused.set(index, isRefused);
      rows[index]?.close(isRefused);
    }
    if (refused.size === calls.length) {
      all.remove();
      run(new Set([...refused].filter(([, value]) => value).map(([index]) => index)));
    } else if (hadFocus) {
      (rows.find((_, index) => !refused.has(index))?.node ?? all).querySelector("button").focus();
    }
  };

  function createRow(call, index) {
    const button = (testid, text, label, onclick) =>
      el("button", { type: "button", class: testid === "approve" ? "button-primary" : "button-secondary", "data-testid": testid, "aria-label": `${label} ${call.name}`, text, onclick });
    const buttons = el("span", { class: "approval-buttons" }, button("approve", "Approve", "Approve", () => decide([index], false)), button("refuse", "Refuse", "Refuse", () => decide([index], true)));
    if (isKnownTool(call.name)) {
      buttons.append(button("always", "Always", "Always allow", () => {
        allowAlways(call.name);
        decide(every().filter((at) => calls[at].name === call.name), false);
      }));
    }
    const args = call.arguments.length > ARGUMENTS_CHARS ? `${call.arguments.slice(0, ARGUMENTS_CHARS)}…` : call.arguments;
    const row = el("li", { class: "approval-row", "data-testid": "tool-approval-row" }, el("span", { class: "approval-call" }, el("code", { text: call.name.slice(0, ARGUMENTS_CHARS) }), el("code", { class: "approval-arguments", text: args === "{}" ? "" : args })), buttons);
    return { node: row, close: (isRefused) => buttons.replaceChildren(el("span", { class: "approval-decision", text: isRefused ? "Refused" : "Approved" })) };
  }

  const every = () => [...calls.keys()];
  const all = el("p", { class: "approval-buttons" }, el("button", { type: "button", class: "button-primary", "data-testid": "approve-all", text: `Approve all ${calls.length}`, onclick: () => decide(every(), false) }),
    el("button", { type: "button", class: "button-secondary", "data-testid": "refuse-all", text: "Refuse all", onclick: () => decide(every(), true) }));
  all.hidden = calls.length < 2;
  const text = calls.length === 1 ? "The model asks to run this tool on this page." : `The model asks to run ${calls.length} tools on this page.`;
  const more = calls.length > ROWS_MAX ? [el("p", { text: `${calls.length - ROWS_MAX} more calls are not listed.` })] : [];
  const node = el("div", { class: "approval", role: "group", "aria-label": "Tool calls that wait for you", "data-testid": "tool-approval" }, el("p", { text }),
    el("ul", {}, ...rows.map((row) => row.node)), ...more, all);
  return node;
}
