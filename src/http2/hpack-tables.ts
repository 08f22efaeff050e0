/** What both ends of header compression know beforehand. Source: RFC 7541, 4.1, 6.5.2 of RFC 9113, Appendix A. */

/** A header block that cannot be decoded. The connection ends with COMPRESSION_ERROR (RFC 9113, 4.3). */
export class HpackError extends Error {}

/** Bytes of a dynamic table before anybody has said otherwise (RFC 9113, 6.5.2). */
export const defaultTableSize = 4096;
/** What a field counts in a table beside the bytes of its name and value (RFC 7541, 4.1). */
export const fieldOverhead = 32;

/** RFC 7541, Appendix A, from index 1 on: names, some with a value. */
const fields =
  `:authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|
:status=204|:status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|
accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|
content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|cookie|
date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|
link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|
strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate`
    .replaceAll("\n", "")
    .split("|")
    .map((field) => field.split("="));

/** By index; there is no index 0. */
export const staticNames: readonly string[] = ["", ...fields.map(([name]) => name!)];
export const staticValues: readonly string[] = ["", ...fields.map(([, value]) => value ?? "")];
/** The first index of the dynamic table. */
export const firstDynamic = staticNames.length;
