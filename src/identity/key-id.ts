/** A certificate's subject key identifier (RFC 5280, 4.2.1.2), which Node does not tell. */

/** In hex; undefined where there is none. `der` is a certificate that Node has read, so it is well formed. */
export function keyIdOf(der: Buffer): string | undefined {
  const [certificate] = elements(der);
  const [tbs] = elements(certificate!.contents);
  // TBSCertificate's extensions are its element [3].
  const extensions = elements(tbs!.contents).find(({ tag }) => tag === 0xa3);
  const [list] = extensions ? elements(extensions.contents) : [];
  for (const extension of list ? elements(list.contents) : []) {
    const [id, ...rest] = elements(extension.contents);
    if (id?.contents.toString("hex") !== subjectKeyIdentifier) continue;
    // The last element (critical may stand before it) wraps an OCTET STRING.
    const [value] = elements(rest.at(-1)!.contents);
    return value?.contents.toString("hex");
  }
  return undefined;
}

/** OID 2.5.29.14. */
const subjectKeyIdentifier = "551d0e";

interface Element {
  tag: number;
  contents: Buffer;
}

/** The elements that follow each other in DER (X.690, 8.1). */
function elements(der: Buffer): Element[] {
  const found: Element[] = [];
  for (let at = 0; at + 2 <= der.length; ) {
    const tag = der[at]!;
    let length = der[at + 1]!;
    let start = at + 2;
    if (length >= 0x80) {
      const bytes = length & 0x7f;
      length = der.readUIntBE(start, bytes);
      start += bytes;
    }
    found.push({ tag, contents: der.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}
