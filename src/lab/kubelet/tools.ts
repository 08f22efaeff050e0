/** Where the machine's own programs are, which containers are made with; the container's PATH may be another. */
import { existsSync } from "node:fs";
import { systemPath } from "../network/index.ts";

const found = new Map<string, string>();

/** The absolute path of a program; its bare name where it is not found, for the error that follows. */
export function tool(name: string): string {
  let path = found.get(name);
  if (path === undefined) {
    path = systemPath
      .split(":")
      .map((dir) => `${dir}/${name}`)
      .find((candidate) => existsSync(candidate));
    if (path !== undefined) found.set(name, path);
  }
  return path ?? name;
}
