/** kubectl as a person uses it: one line in, what it prints out, in one namespace of a running lab. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Lab, type Result, run } from "../../support/lab.ts";

/** A kubectl program and what the tests call it. */
export interface Program {
  name: string;
  path: string;
}

/** The machine's kubectl, and a second one of another version where `WEFT_KUBECTL_136` says where it is. */
export function programs(): Program[] {
  const other = process.env.WEFT_KUBECTL_136;
  const found = [{ name: "kubectl", path: "kubectl" }];
  if (other && existsSync(other)) found.push({ name: "kubectl-1.36", path: other });
  else console.log("kubectl 1.36 is not tested: WEFT_KUBECTL_136 does not name one");
  return found;
}

export interface Kubectl {
  readonly namespace: string;
  readonly env: NodeJS.ProcessEnv;
  /** The words that begin every command: program, context and namespace. */
  readonly words: string[];
  /** Runs one line; words with blanks stand in 'quotes'. */
  run(line: string, input?: string): Promise<Result>;
  /** Expects success and gives what was printed, on both streams, without the last line feed. */
  ok(line: string, input?: string): Promise<string>;
  /** Expects success and these words: exactly a text, or somewhere a pattern. */
  says(line: string, expected: string | RegExp, input?: string): Promise<void>;
  /** Expects a failure that says so, with an exit code of 1 unless another is given. */
  refuses(line: string, expected: RegExp, input?: string, code?: number): Promise<void>;
}

/** `namespace` is made when it is not there. */
export async function kubectlIn(lab: Lab, program: Program, namespace: string): Promise<Kubectl> {
  // A home of its own, so that what it remembers of the server is no other kubectl's.
  const env = { ...lab.env, HOME: join(lab.home, program.name) };
  const words = [program.path, "--context", "weft-c1", "-n", namespace];
  const kubectl: Kubectl = {
    namespace,
    env,
    words,
    run: (line, input) => run(words[0]!, [...words.slice(1), ...split(line)], env, input, 60_000),
    async ok(line, input) {
      const { status, stdout, stderr } = await kubectl.run(line, input);
      assert.equal(status, 0, `kubectl ${line}\n${stdout}${stderr}`);
      return `${stdout}${stderr}`.trimEnd();
    },
    async says(line, expected, input) {
      const said = await kubectl.ok(line, input);
      if (typeof expected === "string") assert.equal(said, expected);
      else assert.match(said, expected);
    },
    async refuses(line, expected, input, code = 1) {
      const { status, stdout, stderr } = await kubectl.run(line, input);
      assert.match(`${stdout}${stderr}`, expected);
      assert.equal(status, code, `kubectl ${line}`);
    },
  };
  await kubectl.run(`create namespace ${namespace}`);
  return kubectl;
}

function split(line: string): string[] {
  return [...line.matchAll(/(?<!\S)'([^']*)'(?!\S)|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}
