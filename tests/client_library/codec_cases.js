import { codecs } from "../../static/turnwire.js";
import { CODECS, equal, live, ok, refused, sampleText, test } from "./harness.js";

const { msgpack } = codecs;
const INTEGERS = [0, 1, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];
const VALUES = {
  integers: [...INTEGERS, ...INTEGERS.map((value) => -value), -32, -33, -129, -32769, -(2 ** 31), -(2 ** 31) - 1],
  floats: [0.5, -1.25, 1e300, 5e-324, 0.1],
  texts: ["", "a", "x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256), sampleText(20), "\ufeffmark", "\u0000"],
  lists: [[], [[]], Array.from({ length: 15 }, (_, i) => i), Array.from({ length: 16 }, (_, i) => i), [null, true, false]],
  maps: [{}, Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`key ${i}`, i]))],
};
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

test("MessagePack is encoded as its specification says", async () => {
  const known = [
    [null, "c0"], [false, "c2"], [true, "c3"], [7, "07"], [-1, "ff"], [-33, "d0 df"], [200, "cc c8"], [1000, "cd 03 e8"],
    [2 ** 40, "cf 00 00 01 00 00 00 00 00"], [0.5, "cb 3f e0 00 00 00 00 00 00"], ["hé", "a3 68 c3 a9"],
    [{ compact: true, schema: 0, gone: undefined }, "82 a7 63 6f 6d 70 61 63 74 c3 a6 73 63 68 65 6d 61 00"], [[1, [2]], "92 01 91 02"],
  ];
  for (const [value, bytes] of known) equal(hex(msgpack.encode(value)), bytes);
  for (const value of Object.values(VALUES)) equal(msgpack.decode(msgpack.encode(value)), value);
  const long = ["x".repeat(70_000), Array.from({ length: 70_000 }, () => 1)];
  for (const value of long) equal(msgpack.decode(msgpack.encode(value)).length, value.length);
});

test("MessagePack types outside the protocol are refused, and no prototype is set", async () => {
  const refuses = (bytes) => {
    try {
      msgpack.decode(Uint8Array.from(bytes));
      return false;
    } catch {
      return true;
    }
  };
  ok(refuses([0xc4, 0x01, 0x00]), "bin");
  ok(refuses([0xd4, 0x01, 0x00]), "ext");
  ok(refuses([0xa5, 0x61]), "a truncated text");
  ok(refuses([0x01, 0x02]), "two values");
  ok(refuses([0x81, 0x01, 0x02]), "a key that isn't a text");
  ok(refuses([0xa2, 0xc3, 0x28]), "invalid UTF-8");
  const map = msgpack.decode(msgpack.encode(JSON.parse('{"__proto__":{"polluted":true}}')));
  ok(Object.hasOwn(map, "__proto__") && map.polluted === undefined && {}.polluted === undefined, "an own property");
});

test("both codecs transport the same values to the gateway and back", async (stage) => {
  for (const codec of CODECS) {
    const connection = stage.connect(await stage.shared(), { codec });
    await live(connection);
    const { id } = await connection.createConversation({ title: "codec", metadata: VALUES });
    for (const other of CODECS) {
      const reader = stage.connect(await stage.shared(), { codec: other });
      const { metadata } = await reader.conversation(id).get();
      equal(metadata, VALUES, `written in ${codec}, read in ${other}`);
    }
  }
});

test("the size of a JSON text is counted in UTF-8 bytes", async () => {
  for (const text of [...VALUES.texts, sampleText(300), "\ud800 alone"]) {
    const encoded = codecs.json.encode(text);
    equal(codecs.json.bytes(encoded), new TextEncoder().encode(encoded).length, encoded.slice(0, 40));
  }
});

test("an unknown codec is refused at once, and an unknown request type by the gateway", async (stage) => {
  const gateway = await stage.shared();
  let error;
  try {
    stage.connect(gateway, { codec: "xml" });
  } catch (thrown) {
    error = thrown;
  }
  ok(error instanceof TypeError && /json/.test(error.message), String(error));
  await refused(stage.connect(gateway).request("no.such.type"), "invalid_frame");
});

test("an unpaired surrogate in a text becomes U+FFFD in both codecs, and the turn completes", async (stage) => {
  const text = "cut \ud83d in two, whole 😀, and spelled \\ud83d";
  for (const codec of CODECS) {
    const connection = stage.connect(await stage.shared(), { codec });
    const turn = connection.start({ model: "demo", input: text, params: { demo: { rate: 0, text: "Read." } } });
    equal((await turn).text, "Read.");
    equal(turn.inputText, "cut \ufffd in two, whole 😀, and spelled \\ud83d", codec);
  }
});
