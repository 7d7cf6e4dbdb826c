/** The developer's tabs of the drawer. Their code is loaded when they are first opened, and rests while they are closed. */

import { el } from "../shared/dom.js";

const CHANNEL = "turnwire.proof";

export class Workbench {
  #connection;
  #page;
  #panels = { wire: el("section", { class: "wire-panel", "data-testid": "wire" }), break: el("section", { class: "break-panel", "data-testid": "break" }) };
  #channel = new BroadcastChannel(CHANNEL);
  #shown = null;
  #wire = null;
  #break = null;
  #witness = null;

  /**
   * @param {import("../chat/drawer.js").Drawer} drawer
   * @param {HTMLElement} root the drawer's; it tells which tab is shown
   * @param {import("../turnwire.js").Connection} connection
   * @param {{chat: import("../chat/conversation_model.js").Chat, open: (conversation: string) => void}} page what is shown, and showing another
   */
  constructor(drawer, root, connection, page) {
    this.#connection = connection;
    this.#page = page;
    root.addEventListener("shown", ({ detail }) => void this.#show(detail));
    drawer.add("wire", "Wire", this.#panels.wire);
    drawer.add("break", "Break it", this.#panels.break);
    // Another tab may ask this one to be the second device.
    this.#channel.addEventListener("message", async ({ data }) => {
      if (data.prove && data.prove === this.#page.chat.id) (await this.#proving()).answer(data.prove);
    });
  }

  /** A chat's turns changed: what is new is proven, if anything is. */
  saw(chat) {
    if (this.#witness) for (const { turn } of chat.live.values()) this.#witness.proof.follow(turn);
  }

  async #show(name) {
    this.#shown = name;
    if (name === "wire" && !this.#wire) {
      const { WireView } = await import("./wire_view.js");
      this.#wire ??= new WireView(this.#panels.wire, this.#connection);
    } else if (name === "break" && !this.#break) {
      const [{ BreakIt }, witness] = await Promise.all([import("./break_it.js"), this.#proving()]);
      this.#break ??= new BreakIt(this.#panels.break, this.#connection, this.#page, witness);
    }
    if (this.#shown === "wire") this.#wire?.open();
    else this.#wire?.close();
  }

  async #proving() {
    const { Witness } = await import("./peer_check.js");
    this.#witness ??= new Witness(this.#channel, this.#connection);
    return this.#witness;
  }
}
