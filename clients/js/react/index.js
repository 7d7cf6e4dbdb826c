"use client";

/** Hooks for React: a turn, a conversation, and the connection that they share. */

export { TurnwireProvider, useConnection } from "./connection.js";
export { useConversation } from "./conversation.js";
export { useTurn } from "./turn.js";
