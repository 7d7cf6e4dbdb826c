/** Every case. */

import "./codec_cases.js";
import "./conversation_cases.js";
import "./credential_cases.js";
import "./law_cases.js";
import "./reconnect_cases.js";
import "./restart_cases.js";
import "./stop_cases.js";
import "./stream_cases.js";

export { cases, outcome } from "./harness.js";
