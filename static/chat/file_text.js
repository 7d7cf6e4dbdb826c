/** A text file in a prompt: a text part with its name and its content in a code block, so that every model can read it. */

const HEAD = /^`([^`\n]{1,200})`:\n`{3,}/;
const NAME_CHARS = 200;

/** Returns the part for a text file. @param {string} name @param {string} text */
export function toFileText(name, text) {
  const longest = (text.match(/`{3,}/g) ?? []).reduce((most, run) => Math.max(most, run.length), 2);
  const fence = "`".repeat(longest + 1);
  const shown = name.replace(/[`\n\r]/g, "").slice(-NAME_CHARS) || "file";
  const language = /\.(\w{1,12})$/.exec(shown)?.[1].toLowerCase() ?? "";
  return { kind: "text", text: `\`${shown}\`:\n${fence}${language}\n${text.endsWith("\n") ? text : `${text}\n`}${fence}` };
}

/** Returns the name of the text file that a part holds; null for any other part. */
export function fileTextName(part) {
  return part.kind === "text" ? (HEAD.exec(part.text)?.[1] ?? null) : null;
}
