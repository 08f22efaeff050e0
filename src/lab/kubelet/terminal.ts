/**
 * Terminals for containers. They are made inside of the container, by util-linux' `script`: a terminal from outside
 * has no name there, and belongs to a session that the container's processes cannot see.
 */
import type { ChildProcess } from "node:child_process";
import { readlink } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { quote } from "../network/index.ts";
import { childOf, execInContainer } from "./exec.ts";
import type { RunningContainer } from "./runtime.ts";
import { tool } from "./tools.ts";

/** The words that run a program on a new terminal, of that size when one is given. */
export function terminalWords(argv: readonly string[], size?: [columns: number, rows: number]): string[] {
  const setSize = size ? `${tool("stty")} columns ${size[0]} rows ${size[1]} 2>/dev/null; ` : "";
  const command = `${setSize}exec ${argv.map(quote).join(" ")}`;
  return [
    tool("script"),
    "--quiet",
    "--flush",
    "--return",
    "--echo=always",
    `--command=${command}`,
    "/dev/null",
  ];
}

/**
 * The words for a container's own program. `script` is not the first process itself: it would take the exit code of
 * an orphan for its child's.
 */
export function firstProcessOnTerminal(argv: readonly string[]): string[] {
  // A shell's background programs ignore Ctrl-C, and so would everything started from them.
  const words = [tool("env"), "--default-signal=INT,QUIT", ...terminalWords(argv)];
  const first = `exec 3<&0
${words.map(quote).join(" ")} <&3 &
child=$!
trap 'kill $child' TERM
until wait $child; code=$?; ! kill -0 $child 2>/dev/null; do :; done
exit $code`;
  return ["/bin/sh", "-c", first];
}

/** Sets the size of the terminal of a container's own program: the first one that was made there. */
export function resizeTerminal(instance: RunningContainer, columns: number, rows: number): Promise<void> {
  return setLastSize(instance, { columns, rows }, (size) => setSize(instance, "/dev/pts/0", size));
}

/** Sets the size of the terminal of a program that `spawnInContainer` started with `terminalWords`. */
export function resizeTerminalOf(
  instance: RunningContainer,
  child: ChildProcess,
  columns: number,
  rows: number,
): Promise<void> {
  return setLastSize(child, { columns, rows }, async (size) => {
    // nsenter → script → the program, whose standard input is the terminal.
    const script = child.pid === undefined ? undefined : await childOf(child.pid);
    const program = script === undefined ? undefined : await childOf(script);
    const terminal = await readlink(`/proc/${program}/fd/0`).catch(() => undefined);
    return terminal?.startsWith("/dev/pts/") ? setSize(instance, terminal, size) : false;
  });
}

interface Size {
  columns: number;
  rows: number;
}

/** The sizes that clients want last, by what has the terminal, while one is being set. */
const wanted = new WeakMap<object, Size>();
/** How often, and how many milliseconds apart, a terminal is looked for that is still being made. */
const attempts = 50;
const apart = 100;

/** Sizes come in quick succession, and the first before the terminal is there. One is set at a time; the last stays. */
async function setLastSize(owner: object, size: Size, set: (size: Size) => Promise<boolean>): Promise<void> {
  const busy = wanted.has(owner);
  wanted.set(owner, size);
  if (busy) return;
  for (let left = attempts; left > 0; left--) {
    const next = wanted.get(owner)!;
    const done = await set(next);
    if (wanted.get(owner) !== next) left = attempts;
    else if (done) break;
    else await sleep(apart);
  }
  wanted.delete(owner);
}

/** False when there is no such terminal (yet). A container that has just ended needs no size. */
async function setSize(
  instance: RunningContainer,
  terminal: string,
  { columns, rows }: Size,
): Promise<boolean> {
  const words = [tool("stty"), `--file=${terminal}`, "columns", String(columns), "rows", String(rows)];
  const { code } = await execInContainer(instance, words, 5_000).catch(() => ({ code: 0 }));
  return code === 0;
}
