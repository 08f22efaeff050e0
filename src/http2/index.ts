export { Connection, type ConnectionEvents, type ConnectionOptions } from "./connection.ts";
export { ConnectionError, errorCode } from "./frames.ts";
export { type ClosedBy, Stream, type StreamEvents } from "./stream.ts";
