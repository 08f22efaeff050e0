/** Running the machine's programs: `ip`, `mount`, `nsenter` and small shell scripts. */
import { spawn } from "node:child_process";

/** Runs a program to its end and gives its standard output. Rejects with what it wrote to standard error. */
export type Run = (command: readonly string[], input?: string) => Promise<string>;

/** A program ended with an exit code other than 0, or could not be started at all. */
export class CommandError extends Error {
  readonly command: readonly string[];
  /** Exit code, or undefined when the program did not start or was killed. */
  readonly code: number | undefined;
  readonly stderr: string;

  constructor(command: readonly string[], code: number | undefined, stderr: string) {
    super(`${command.slice(0, 3).join(" ")}: ${stderr.trim() || `exit code ${code}`}`);
    this.name = "CommandError";
    this.command = command;
    this.code = code;
    this.stderr = stderr;
  }
}

/** Where the programs are that a lab needs, whatever PATH the user has (`sbin` is missing in some). */
export const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Runs on this machine, in the namespaces of this process. */
export const run: Run = (command, input) =>
  new Promise((resolve, reject) => {
    const child = spawn(command[0]!, command.slice(1), {
      stdio: ["pipe", "pipe", "pipe"],
      env: { PATH: systemPath, LC_ALL: "C" },
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", (error) => reject(new CommandError(command, undefined, error.message)));
    child.on("close", (code) => {
      if (code === 0) resolve(Buffer.concat(stdout).toString());
      else reject(new CommandError(command, code ?? undefined, Buffer.concat(stderr).toString()));
    });
    child.stdin.on("error", () => {}); // A program may end without reading its input.
    child.stdin.end(input ?? "");
  });

/** The word as /bin/sh reads it back unchanged. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
