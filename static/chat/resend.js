/** Sends the prompts again that an earlier page kept. Loaded if there are any. */

import { textOf } from "./message_tree.js";
import { dropPrompt } from "./outbox.js";

const PARTIAL = "This prompt wasn't sent before the page was reloaded. Add its files again, then send it.";
const DELETED = "This prompt wasn't sent before its conversation was deleted. Send it to start a new one.";

/**
 * Shows the kept prompts at once, and starts those that the gateway doesn't have, in their order. One that isn't whole, or
 * whose conversation was deleted, isn't sent: its text is given back.
 * @param {import("./outbox.js").KeptPrompt[]} prompts oldest first
 * @param {import("../turnwire.js").Connection} connection
 * @param {(prompt: KeptPrompt) => ConversationModel} open returns the conversation, which may still be loading
 * @param {(id: string) => void} show shows the conversation that was created for a prompt without one
 * @param {(id: string | null, text: string, why: string) => void} giveBack gets the text that isn't sent, the id of its
 *   conversation, and a sentence about it
 */
export async function resend(prompts, connection, open, show, giveBack) {
  const placed = prompts.map((prompt) => {
    const conversation = open(prompt);
    return { prompt, conversation, place: conversation.placeKept(prompt) };
  });
  for (const { prompt, conversation, place } of placed) {
    await conversation.loaded;
    const known = await find(connection, prompt.turn);
    if (!known && !conversation.notFound && !prompt.isPartial) {
      conversation.startPlaced(place);
      continue;
    }
    conversation.removePlaced(place);
    dropPrompt(prompt.turn);
    if (!known) giveBack(conversation.id, textOf(prompt.parts), conversation.notFound ? DELETED : PARTIAL);
    else if (!prompt.conversation) show(known.conversation);
  }
}

async function find(connection, turn) {
  try {
    return await connection.getTurn(turn);
  } catch {
    return null; // a repeated start of an accepted turn starts nothing (law 6)
  }
}
