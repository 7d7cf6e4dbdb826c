/** Three harmless tools that this page answers itself, so that a tool call can be seen from its question to its answer. */

const DICE_MAX = 20;
const SUM = /^[\d\s.+\-*/()]{1,100}$/;

export const TOOLS = [
  {
    name: "clock",
    description: "The present date and time where the user is.",
    parameters: { type: "object", properties: {} },
  },
  {
    name: "roll_dice",
    description: "Rolls dice and gives what they show.",
    parameters: {
      type: "object",
      properties: { count: { type: "integer", minimum: 1, maximum: DICE_MAX }, sides: { type: "integer", minimum: 2, maximum: 1000 } },
    },
  },
  {
    name: "calculator",
    description: "Works out a sum of numbers with + - * / and brackets.",
    parameters: { type: "object", properties: { sum: { type: "string" } }, required: ["sum"] },
  },
];

const ANSWERS = new Map([
  ["clock", () => new Date().toString()],
  ["roll_dice", rollDice],
  ["calculator", ({ sum }) => String(calculate(sum))],
]);

/**
 * Answers tool calls.
 * @param {{call: string, name: string, arguments: string}[]} calls
 * @returns {Promise<object[]>} a `tool_result` part for each
 */
export async function resultsOf(calls) {
  return calls.map((call) => {
    try {
      const answer = ANSWERS.get(call.name);
      if (!answer) throw new Error(`This page has no tool named ${call.name}.`);
      return { kind: "tool_result", call: call.call, output: answer(JSON.parse(call.arguments || "{}")) };
    } catch (error) {
      return { kind: "tool_result", call: call.call, output: error.message, error: true };
    }
  });
}

function rollDice({ count = 1, sides = 6 }) {
  const rolls = Array.from({ length: Math.min(DICE_MAX, count) }, () => 1 + Math.floor(Math.random() * sides));
  return rolls.join(", ");
}

/** A sum by recursive descent: nothing of a model's is ever evaluated as code. */
function calculate(text) {
  if (!SUM.test(text ?? "")) throw new Error("A sum has only numbers, + - * / and brackets.");
  const tokens = text.match(/\d+(?:\.\d+)?|[-+*/()]/g) ?? [];
  const take = (...wanted) => wanted.includes(tokens[0]) && tokens.shift();
  const sum = () => chain(product, { "+": (a, b) => a + b, "-": (a, b) => a - b });
  const product = () => chain(value, { "*": (a, b) => a * b, "/": (a, b) => a / b });
  const chain = (operand, operations) => {
    let total = operand();
    for (let sign = take(...Object.keys(operations)); sign; sign = take(...Object.keys(operations))) {
      total = operations[sign](total, operand());
    }
    return total;
  };
  const value = () => {
    if (take("-")) return -value();
    if (take("(")) {
      const inner = sum();
      if (!take(")")) throw new Error("A bracket isn't closed.");
      return inner;
    }
    const number = Number(tokens.shift());
    if (Number.isNaN(number)) throw new Error("A number is missing.");
    return number;
  };
  const total = sum();
  if (tokens.length > 0) throw new Error("This isn't a whole sum.");
  return total;
}
