/**
 * The developer tabs of the drawer. A tab's code is loaded when it is first opened. The integrity check is also loaded
 * if another browser tab asks for it. Once loaded, it stays in use.
 */

import { el } from "../shared/dom.js";

const CHANNEL = "turnwire.peer-check";

/**
 * What the developer tabs need from the page.
 * @typedef {object} PageContext
 * @property {import("../chat/conversation_model.js").ConversationModel} conversation the one that is shown
 * @property {(id: string) => void} open shows another conversation
 */

export class Workbench {
  #connection;
  #page;
  #panels = { wire: el("section", { class: "wire-panel", "data-testid": "wire" }), break: el("section", { class: "break-panel", "data-testid": "break" }) };
  #channel = new BroadcastChannel(CHANNEL);
  #shownTab = null;
  #wireView = null;
  #breakItPanel = null;
  #peerCheck = null;

  /**
   * @param {{add: (name: string, title: string, panel: HTMLElement) => void}} drawer
   * @param {HTMLElement} root the drawer's element; its `tabchange` event names the tab that is shown
   * @param {import("../turnwire.js").Connection} connection
   * @param {PageContext} page
   */
  constructor(drawer, root, connection, page) {
    this.#connection = connection;
    this.#page = page;
    root.addEventListener("tabchange", ({ detail }) => void this.#show(detail));
    drawer.add("wire", "Wire", this.#panels.wire);
    drawer.add("break", "Break it", this.#panels.break);
    // Another browser tab may ask this one to be the second device.
    this.#channel.addEventListener("message", async ({ data }) => {
      if (data.join && data.join === this.#page.conversation.id) (await this.#loadPeerCheck()).join(data.join);
    });
  }

  /** Checks the running turns of a conversation, if the checks are in use. */
  track(conversation) {
    if (this.#peerCheck) for (const { turn } of conversation.running.values()) this.#peerCheck.integrity.track(turn);
  }

  async #show(name) {
    this.#shownTab = name;
    if (name === "wire" && !this.#wireView) {
      const { WireView } = await import("./wire_view.js");
      this.#wireView ??= new WireView(this.#panels.wire, this.#connection);
    } else if (name === "break" && !this.#breakItPanel) {
      const [{ BreakItPanel }, peerCheck] = await Promise.all([import("./break_it.js"), this.#loadPeerCheck()]);
      this.#breakItPanel ??= new BreakItPanel(this.#panels.break, this.#connection, this.#page, peerCheck);
    }
    if (this.#shownTab === "wire") this.#wireView?.open();
    else this.#wireView?.close();
  }

  async #loadPeerCheck() {
    const { PeerCheck } = await import("./peer_check.js");
    this.#peerCheck ??= new PeerCheck(this.#channel, this.#connection);
    return this.#peerCheck;
  }
}
