/** Which fields a message may have. Source: RFC 9113, 8.2, 8.3. */

/** A message that is not well-formed: its stream ends with PROTOCOL_ERROR. */
export class Malformed extends Error {}

const token = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const badValue = /[\0\r\n]|^[ \t]|[ \t]$/;
const digits = /^\d{1,15}$/;
/** Names that were looked at already and are well; what strangers name must not fill it. */
const known = new Set<string>();
const mostKnown = 500;

const ofConnection = new Set([
  "connection",
  "proxy-connection",
  "keep-alive",
  "transfer-encoding",
  "upgrade",
]);
const ofRequest = new Set([":method", ":scheme", ":authority", ":path"]);

export type MessageKind = "request" | "response" | "trailers";

/**
 * Looks at the fields of a message (name, value, name, value …); answers with its `content-length`, -1 when it has none.
 * Throws Malformed. Of values only what the protocol forbids is refused (NUL, CR, LF, space around): readers may want more.
 */
export function checkFields(fields: readonly string[], kind: MessageKind): number {
  const pseudo = new Map<string, string>();
  let length = -1;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!;
    const value = fields[i + 1]!;
    if (badValue.test(value)) throw new Malformed(`the value of ${name}`);
    if (name.charCodeAt(0) === colon) {
      if (pseudo.size * 2 !== i || pseudo.has(name))
        throw new Malformed(`${name} twice, or after other fields`);
      pseudo.set(name, value);
    } else if (name === "content-length") {
      if (!digits.test(value) || (length >= 0 && Number(value) !== length)) throw new Malformed(name);
      length = Number(value);
    } else if (!known.has(name)) checkName(name);
    if (name === "te" && value.toLowerCase() !== "trailers") throw new Malformed("te other than trailers");
  }
  if (kind === "request") checkRequest(pseudo);
  else if (kind === "response") checkResponse(pseudo);
  else if (pseudo.size > 0) throw new Malformed("pseudo-headers in trailers");
  return length;
}

const colon = 58;

function checkName(name: string): void {
  if (!token.test(name)) throw new Malformed("the name of a field");
  if (ofConnection.has(name)) throw new Malformed(`${name} has no place in HTTP/2`);
  if (known.size < mostKnown) known.add(name);
}

function checkRequest(pseudo: ReadonlyMap<string, string>): void {
  for (const name of pseudo.keys()) if (!ofRequest.has(name)) throw new Malformed(`${name} in a request`);
  const missing = (name: string) => !pseudo.get(name);
  if (missing(":method")) throw new Malformed("no :method");
  if (pseudo.get(":method") === "CONNECT") {
    if (pseudo.has(":scheme") || pseudo.has(":path") || missing(":authority"))
      throw new Malformed("CONNECT takes :authority alone");
  } else if (missing(":scheme") || missing(":path")) throw new Malformed("no :scheme or no :path");
}

function checkResponse(pseudo: ReadonlyMap<string, string>): void {
  if (pseudo.size !== 1 || !/^[1-9]\d\d$/.test(pseudo.get(":status") ?? ""))
    throw new Malformed("a response is to have :status, and that alone");
}
