/** Three harmless tools that run on this page, to demonstrate a tool call from request to result. */

/** The result of a call that the user refused. */
export const REFUSED = "The user refused this call.";
const DICE_MAX = 20;
const EXPRESSION = /^[\d\s.+\-*/()]{1,100}$/;

export const TOOLS = [
  {
    name: "clock",
    description: "Returns the user's current local date and time.",
    parameters: { type: "object", properties: {} },
  },
  {
    name: "roll_dice",
    description: "Rolls dice and returns the results.",
    parameters: {
      type: "object",
      properties: { count: { type: "integer", minimum: 1, maximum: DICE_MAX }, sides: { type: "integer", minimum: 2, maximum: 1000 } },
    },
  },
  {
    name: "calculator",
    description: "Evaluates an arithmetic expression of numbers, + - * / and parentheses.",
    parameters: { type: "object", properties: { expression: { type: "string" } }, required: ["expression"] },
  },
];

const HANDLERS = new Map([
  ["clock", () => new Date().toString()],
  ["roll_dice", rollDice],
  ["calculator", ({ expression }) => String(evaluate(expression))],
]);

/**
 * Runs tool calls.
 * @param {{call: string, name: string, arguments: string}[]} calls
 * @param {Set<number>} [refused] the indexes of the calls that the user refused
 * @returns {object[]} a `tool_result` part for each
 */
export function runTools(calls, refused = new Set()) {
  return calls.map((call, index) => {
    if (refused.has(index)) return { kind: "tool_result", call: call.call, output: REFUSED, error: true };
    try {
      const handler = HANDLERS.get(call.name);
      if (!handler) throw new Error(`This page has no tool named ${call.name}.`);
      return { kind: "tool_result", call: call.call, output: handler(JSON.parse(call.arguments || "{}")) };
    } catch (error) {
      return { kind: "tool_result", call: call.call, output: error.message, error: true };
    }
  });
}

function rollDice({ count = 1, sides = 6 }) {
  const rolls = Array.from({ length: Math.min(DICE_MAX, count) }, () => 1 + Math.floor(Math.random() * sides));
  return rolls.join(", ");
}

/** Evaluates an expression by recursive descent: a model's output must never be evaluated as code. */
function evaluate(text) {
  if (!EXPRESSION.test(text ?? "")) throw new Error("The expression may only contain numbers, + - * / and parentheses.");
  const tokens = text.match(/[\d.]+|[-+*/()]/g) ?? [];
  const accept = (...expected) => expected.includes(tokens[0]) && tokens.shift();
  const sum = () => chain(product, { "+": (a, b) => a + b, "-": (a, b) => a - b });
  const product = () => chain(value, { "*": (a, b) => a * b, "/": (a, b) => a / b });
  const chain = (operand, operations) => {
    let total = operand();
    for (let sign = accept(...Object.keys(operations)); sign; sign = accept(...Object.keys(operations))) {
      total = operations[sign](total, operand());
    }
    return total;
  };
  const value = () => {
    if (accept("-")) return -value();
    if (accept("(")) {
      const inner = sum();
      if (!accept(")")) throw new Error("The expression is missing a closing parenthesis.");
      return inner;
    }
    const number = Number(tokens.shift());
    if (Number.isNaN(number)) throw new Error("The expression is missing a number.");
    return number;
  };
  const total = sum();
  if (tokens.length > 0) throw new Error("The expression is invalid.");
  return total;
}
