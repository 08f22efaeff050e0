/** Which fields a message may have. Source: RFC 9113, 8.2, 8.3. */

/** A message that is not well-formed: its stream ends with PROTOCOL_ERROR. */
export class Malformed extends Error {}

const token = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const badCharacter = /[\0\r\n]/;
const space = 32;
const tab = 9;
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
/** Pseudo-headers, a bit each. */
const METHOD = 1;
const SCHEME = 2;
const AUTHORITY = 4;
const PATH = 8;
const STATUS = 16;

export type MessageKind = "request" | "response" | "trailers";

/**
 * Looks at the fields of a message (name, value, name, value …); answers with its `content-length`, -1 when it has none.
 * Throws Malformed. Of values only what the protocol forbids is refused (NUL, CR, LF, space around): readers may want more.
 */
export function checkFields(fields: readonly string[], kind: MessageKind): number {
  let length = -1;
  /** Of the pseudo-headers: which there are, and which of them say something. */
  let seen = 0;
  let said = 0;
  let others = false;
  let method = "";
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!;
    const value = fields[i + 1]!;
    if (isBad(value)) throw new Malformed(`the value of ${name}`);
    if (name.charCodeAt(0) === colon) {
      const bit = pseudoHeader(name);
      if (seen & bit || others) throw new Malformed(`${name} twice, or after other fields`);
      seen |= bit;
      if (value !== "") said |= bit;
      if (bit === METHOD) method = value;
      continue;
    }
    others = true;
    if (name === "content-length") {
      if (!digits.test(value) || (length >= 0 && Number(value) !== length)) throw new Malformed(name);
      length = Number(value);
    } else if (!known.has(name)) checkName(name);
    if (name === "te" && value.toLowerCase() !== "trailers") throw new Malformed("te other than trailers");
  }
  if (kind === "request") checkRequest(method, seen, said);
  else if (kind === "response") checkResponse(fields, seen);
  else if (seen !== 0) throw new Malformed("pseudo-headers in trailers");
  return length;
}

const colon = 58;

function isBad(value: string): boolean {
  if (value === "") return false;
  const first = value.charCodeAt(0);
  const last = value.charCodeAt(value.length - 1);
  if (first === space || first === tab || last === space || last === tab) return true;
  return badCharacter.test(value);
}

function pseudoHeader(name: string): number {
  switch (name) {
    case ":method":
      return METHOD;
    case ":scheme":
      return SCHEME;
    case ":authority":
      return AUTHORITY;
    case ":path":
      return PATH;
    case ":status":
      return STATUS;
    default:
      throw new Malformed(`${name}, which there is not`);
  }
}

function checkName(name: string): void {
  if (!token.test(name)) throw new Malformed("the name of a field");
  if (ofConnection.has(name)) throw new Malformed(`${name} has no place in HTTP/2`);
  if (known.size < mostKnown) known.add(name);
}

function checkRequest(method: string, seen: number, said: number): void {
  if (seen & STATUS) throw new Malformed(":status in a request");
  if (method === "") throw new Malformed("no :method");
  if (method === "CONNECT") {
    if (seen & (SCHEME | PATH) || (said & AUTHORITY) === 0)
      throw new Malformed("CONNECT takes :authority alone");
  } else if ((said & SCHEME) === 0 || (said & PATH) === 0) throw new Malformed("no :scheme or no :path");
}

function checkResponse(fields: readonly string[], seen: number): void {
  if (seen !== STATUS || !/^[1-9]\d\d$/.test(fields[1]!))
    throw new Malformed("a response is to have :status, and that alone");
}
