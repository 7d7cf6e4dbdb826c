/** Sends the prompts again that an earlier page kept. Loaded if there are any. */

import { dropPrompt } from "./outbox.js";

/**
 * Shows the kept prompts at once, and starts those that the gateway doesn't have, in their order.
 * @param {import("./outbox.js").KeptPrompt[]} prompts oldest first
 * @param {import("../turnwire.js").Connection} connection
 * @param {(prompt: KeptPrompt) => ConversationModel} open returns the conversation, which may still be loading
 * @param {(id: string) => void} show shows the conversation that was created for a prompt without one
 */
export async function resend(prompts, connection, open, show) {
  const placed = prompts.map((prompt) => {
    const conversation = open(prompt);
    return { prompt, conversation, place: conversation.placeKept(prompt) };
  });
  for (const { prompt, conversation, place } of placed) {
    await conversation.loaded;
    const known = await find(connection, prompt.turn);
    if (known || conversation.notFound) {
      conversation.removePlaced(place);
      dropPrompt(prompt.turn);
      if (known && !prompt.conversation) show(known.conversation);
    } else {
      conversation.startPlaced(place);
    }
  }
}

async function find(connection, turn) {
  try {
    return await connection.getTurn(turn);
  } catch {
    return null; // a repeated start of an accepted turn starts nothing (law 6)
  }
}
