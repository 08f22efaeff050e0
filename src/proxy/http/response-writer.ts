import type { Headers } from "./headers.ts";

/** The side of a connection (or HTTP/2 stream) that a response is written to. */
export interface ResponseWriter {
  readonly protocol: "HTTP/1.0" | "HTTP/1.1" | "HTTP/2";
  /** Bytes of the request so far that are not its body: heads, trailers and framing. */
  readonly received: number;
  /** Bytes of the response so far, all of them; `whole`: with its end, which is yet to be written. */
  sent(whole: boolean): number;
  /** `upgrade`: the connection is another protocol's from here on. */
  head(status: number, headers: Headers, end: boolean, upgrade: string | undefined): void;
  informational(status: number, headers: Headers): void;
  /** False: it is full, wait for the drain. */
  data(chunk: Buffer): boolean;
  end(trailers: Headers | undefined): void;
  /** Cuts the response short. */
  reset(): void;
  pauseRequest(): void;
  resumeRequest(): void;
  /** After this response nothing more is read from the connection. */
  closeAfter(): void;
}
