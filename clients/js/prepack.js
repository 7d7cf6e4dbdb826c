/** Copies the library, whose one source is the gateway's folder `static`, and the license into the package. */

import { cpSync, readdirSync, rmSync } from "node:fs";

const here = new URL("./", import.meta.url);
const source = new URL("../../static/", here);
const target = new URL("dist/", here);

rmSync(target, { recursive: true, force: true });
for (const name of ["turnwire.js", "turnwire.d.ts"]) cpSync(new URL(name, source), new URL(name, target));
for (const name of readdirSync(new URL("client/", source))) {
  if (name.endsWith(".js")) cpSync(new URL(`client/${name}`, source), new URL(`client/${name}`, target));
}
cpSync(new URL("../../LICENSE", here), new URL("LICENSE", here));
