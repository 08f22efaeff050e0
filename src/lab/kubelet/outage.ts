import { WeftError } from "../../api/index.ts";

/** Whether an error only says that the API server could not be reached: it is tried again, and nobody is to blame. */
export function isOutage(error: unknown): boolean {
  return error instanceof WeftError && error.code === "API_UNREACHABLE";
}
