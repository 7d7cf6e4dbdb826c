/** Tokens of users, for gateways with JWT auth. */

export const SECRET = "a secret of the tests, long enough to be accepted";

/** Returns a JWT for a user. It expires after `seconds`, at the next whole second. */
export async function signed(user, seconds) {
  const part = (value) => base64url(new TextEncoder().encode(JSON.stringify(value)));
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp: Math.ceil(Date.now() / 1000) + seconds })}`;
  const bytes = new TextEncoder().encode(SECRET);
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return `${text}.${base64url(new Uint8Array(await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(text))))}`;
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
