/** A page whose query has the gateway's address and the transport. It shows the answer, and what it was sent over. */

import { connect } from "turnwire";

const query = new URLSearchParams(location.search);
const connection = connect({ url: query.get("url"), transport: query.get("transport") ?? "auto" });
const turn = connection.start({ input: "Speak", params: { demo: { text: "One two three.", rate: 100 } } });
const { text } = await turn;
if (query.has("pause")) await connection.pauseReading(50);
document.querySelector("#answer").textContent = `${text} ${connection.transport}`;
