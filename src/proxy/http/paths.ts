/** Paths in one form, so that routes and access rules cannot be gone round (Envoy's PathNormalizer, on Chromium's URLs). */

/** What is written as it is by the URL library; all else below 0x7f is percent-encoded. */
const escaped = /["<>^`{|}]/g;
const needsWork = /[\\%"<>^`{|}]|\/\.|\/\//;

/**
 * Dot segments resolved, back-slashes turned, unreserved characters decoded, slashes merged where that is wanted.
 * Undefined: the path is refused. An object: the client is sent to another.
 */
export function normalizePath(
  path: string,
  wanted: {
    normalizePath: boolean;
    mergeSlashes: boolean;
    escapedSlashes: "keep" | "reject" | "redirect" | "forward";
  },
): string | { redirect: string } | undefined {
  if (!needsWork.test(path)) return path;
  const question = path.indexOf("?");
  let plain = question < 0 ? path : path.slice(0, question);
  const query = question < 0 ? "" : path.slice(question);
  let redirect = false;
  if (wanted.escapedSlashes !== "keep" && /%2f|%5c/i.test(plain)) {
    if (wanted.escapedSlashes === "reject") return undefined;
    plain = plain.replace(/%2f|%5c/gi, (code) => (code.toLowerCase() === "%2f" ? "/" : "\\"));
    redirect = wanted.escapedSlashes === "redirect";
  }
  if (wanted.normalizePath) {
    const canonical = canonicalize(plain);
    if (canonical === undefined) return undefined;
    plain = canonical;
  }
  if (wanted.mergeSlashes) plain = plain.replace(/\/{2,}/g, "/");
  const result = plain + query;
  return redirect ? { redirect: result } : result;
}

function canonicalize(path: string): string | undefined {
  let bad = false;
  const text = path
    .replace(/\\/g, "/")
    .replace(/%([0-9a-fA-F]{2})/g, (all, hex: string) => {
      const code = Number.parseInt(hex, 16);
      if (code === 0) bad = true;
      const character = String.fromCharCode(code);
      return /[A-Za-z0-9\-._~]/.test(character) ? character : all;
    })
    .replace(escaped, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
  if (bad) return undefined;
  const result: string[] = [];
  const segments = text.slice(1).split("/");
  for (const [i, segment] of segments.entries()) {
    const last = i === segments.length - 1;
    if (segment === ".") {
      if (last) result.push("");
    } else if (segment === "..") {
      result.pop();
      if (last) result.push("");
    } else result.push(segment);
  }
  return `/${result.join("/")}`;
}
