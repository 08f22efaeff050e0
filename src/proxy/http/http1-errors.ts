/** Why a message in HTTP/1.1 is refused; `details` are Envoy's words for it in %RESPONSE_CODE_DETAILS%. */
export interface ParseError {
  /** What a server answers to it. */
  status: 400 | 426 | 431 | 501;
  details: string;
}

export const bad: ParseError = { status: 400, details: "http1.codec_error" };
export const badCharacters: ParseError = { status: 400, details: "http1.invalid_characters" };
export const bothLengths: ParseError = {
  status: 400,
  details: "http1.content_length_and_chunked_not_allowed",
};
export const badCoding: ParseError = { status: 501, details: "http1.invalid_transfer_encoding" };
export const tooLarge: ParseError = { status: 431, details: "http1.headers_too_large" };
export const tooMany: ParseError = { status: 431, details: "http1.too_many_headers" };
export const oldVersion: ParseError = { status: 426, details: "low_version" };
export const badUrl: ParseError = { status: 400, details: "http1.invalid_url" };
export const twoHosts: ParseError = { status: 400, details: "http1.multiple_hosts" };
