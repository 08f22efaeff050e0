/**
 * One suite for two API servers. A scenario is a sentence and a series of requests; every answer is compared with
 * the one that a real kube-apiserver 1.36.3 gave, which is recorded beside the test (`*.generated.json`).
 *
 *   npm test -- test/conformance/api                               the embedded server
 *   WEFT_CONFORMANCE_KUBECONFIG=… npm test -- test/conformance/api   a real one as well
 *   WEFT_CONFORMANCE_RECORD=1 WEFT_CONFORMANCE_KUBECONFIG=… …      records the real one's answers anew
 *
 * The real server stands alone (no controllers), with RBAC and `--service-cluster-ip-range=10.96.0.0/16`; the
 * kubeconfig's current context may do everything there.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { after, describe, test } from "node:test";
import { loadKubeconfig, type Transport, transportFor } from "../../../src/kube/index.ts";
import { type ApiServer, createApiServer } from "../../../src/lab/apiserver/index.ts";
import { realWorld } from "../../../src/world/index.ts";
import { newKeys } from "./keys.ts";

export type { Loose } from "./normal.ts";

import { differences, type Loose, Normalizer } from "./normal.ts";

const kubeconfig = process.env.WEFT_CONFORMANCE_KUBECONFIG;
const recording = process.env.WEFT_CONFORMANCE_RECORD !== undefined;

export interface Answer {
  code: number;
  headers: Record<string, string>;
  /** The body as JSON, or as text where it is none. */
  body: Loose;
}

/** What was asked and what was said, made comparable. */
type Step = [ask: string, code: number, said: Loose, warnings?: string];

export interface Server {
  name: string;
  transport: Transport;
  close(): Promise<void>;
}

export async function embedded(): Promise<Server> {
  const server: ApiServer = await createApiServer({
    world: realWorld(),
    cluster: "embedded",
    storage: { kind: "memory" },
    serviceRange: "10.96.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
    serviceAccount: newKeys(),
  });
  const transport = server.as({ name: "admin", groups: ["system:masters"] });
  return { name: "the embedded API server", transport, close: () => server.close() };
}

export async function real(file: string): Promise<Server> {
  const transport = transportFor(loadKubeconfig(file).credentials());
  return { name: "a real kube-apiserver", transport, close: async () => transport.close() };
}

/** The servers to ask: the embedded one always (but not to record), a real one when its kubeconfig is named. */
export function serversToAsk(): (() => Promise<Server>)[] {
  const asked: (() => Promise<Server>)[] = recording ? [] : [embedded];
  if (kubeconfig) asked.push(() => real(kubeconfig));
  return asked;
}

export type PatchType = "merge" | "json" | "strategic" | "apply";
const patchTypes: Record<PatchType, string> = {
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
  strategic: "application/strategic-merge-patch+json",
  apply: "application/apply-patch+yaml",
};

/** A stream of watch events. */
export interface Watch {
  /** The next events, and nothing else. */
  take(count: number): Promise<Loose[]>;
  /** All events until the server ends the stream. */
  rest(): Promise<Loose[]>;
  stop(): Promise<void>;
}

/** Asks one server for one scenario; `{ns}` in paths and bodies is a namespace of its own. */
export class Api {
  readonly namespace: string;
  readonly steps: Step[] = [];
  readonly #transport: Transport;
  readonly #normal: Normalizer;
  readonly #open: Watch[] = [];

  constructor(transport: Transport, namespace: string) {
    this.#transport = transport;
    this.namespace = namespace;
    this.#normal = new Normalizer(namespace);
  }

  /** Every match in any answer becomes `by`. */
  mask(pattern: RegExp, by = "…"): void {
    this.#normal.mask(pattern, by);
  }

  /** A request that is not part of what is compared. */
  async ask(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const asked = path.replaceAll("{ns}", this.namespace);
    const bytes =
      body === undefined
        ? undefined
        : body instanceof Uint8Array
          ? body
          : (typeof body === "string" ? body : JSON.stringify(body)).replaceAll("{ns}", this.namespace);
    const abort = new AbortController();
    const response = await this.#transport({
      method: method as "GET",
      path: asked,
      signal: abort.signal,
      headers: {
        "user-agent": "conformance/1",
        ...(bytes !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(bytes !== undefined && { body: bytes }),
    });
    const chunks: Uint8Array[] = [];
    const read = async () => {
      for await (const chunk of response.body) chunks.push(chunk);
    };
    try {
      await within(5_000, read(), `${method} ${asked}`);
    } catch (error) {
      // A watch that was to be refused, and was not.
      abort.abort();
      if (!asked.includes("watch=")) throw error;
    }
    const said = Buffer.concat(chunks).toString();
    let parsed: unknown = said;
    try {
      parsed = JSON.parse(said);
    } catch {
      // Health, YAML and the like are text.
    }
    return { code: response.status, headers: response.headers, body: parsed };
  }

  /** A request whose answer is compared; `seen` takes from the body what matters where all of it would be too much. */
  async say(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    seen: (body: Loose) => Loose = (whole) => whole,
  ): Promise<Answer> {
    const answer = await this.ask(method, path, body, headers);
    this.note(`${method} ${path}`, seen(answer.body), answer.code, ownWarnings(answer.headers.warning));
    return answer;
  }

  get(path: string, accept?: string): Promise<Answer> {
    return this.say("GET", path, undefined, accept ? { accept } : {});
  }
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer> {
    return this.say("POST", path, body, headers);
  }
  put(path: string, body: unknown): Promise<Answer> {
    return this.say("PUT", path, body);
  }
  patch(path: string, body: unknown, type: PatchType = "merge"): Promise<Answer> {
    return this.say("PATCH", path, body, { "content-type": patchTypes[type] });
  }
  apply(path: string, body: unknown, manager: string, more = ""): Promise<Answer> {
    return this.patch(`${path}?fieldManager=${manager}${more}`, body, "apply");
  }
  delete(path: string, body?: unknown): Promise<Answer> {
    return this.say("DELETE", path, body);
  }

  /** Adds something that was seen to what is compared. */
  note(ask: string, said: Loose, code = 0, warnings?: string): void {
    const step: Step = [this.#normal.text(ask), code, this.#normal.answer(said)];
    if (warnings) step.push(this.#normal.text(warnings));
    this.steps.push(step);
  }

  /** A watch, or the refusal of one (which is compared). */
  async watch(path: string, accept?: string): Promise<Watch> {
    const abort = new AbortController();
    const response = await this.#transport({
      method: "GET",
      path: path.replaceAll("{ns}", this.namespace),
      headers: { "user-agent": "conformance/1", ...(accept && { accept }) },
      signal: abort.signal,
    });
    const events = lines(response.body);
    const note = (seen: Loose[]) => this.note(`WATCH ${path}`, seen, response.status);
    const take = async (count: number) => {
      const seen: Loose[] = [];
      while (seen.length < count) {
        const next = await within(10_000, events.next(), `${path}: ${seen.length} of ${count} events`);
        if (next.done) break;
        seen.push(next.value);
      }
      note(seen);
      return seen;
    };
    const stop = async () => {
      abort.abort();
      await events.return?.(undefined).catch(() => {});
    };
    const watch: Watch = {
      take,
      async rest() {
        const seen: Loose[] = [];
        for await (const event of events) seen.push(event);
        note(seen);
        return seen;
      },
      stop,
    };
    this.#open.push(watch);
    return watch;
  }

  async end(): Promise<void> {
    for (const watch of this.#open) await watch.stop();
  }
}

async function* lines(body: AsyncIterable<Uint8Array>): AsyncGenerator<Loose> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of body) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop()!;
    for (const part of parts) yield JSON.parse(part);
  }
  if (rest.trim() !== "") yield JSON.parse(rest);
}

/** What the embedded server says about itself is nothing that another says too. */
function ownWarnings(header: string | undefined): string | undefined {
  const kept = header?.split(/, (?=299 )/).filter((warning) => !warning.endsWith('by this API server"'));
  return kept?.length ? kept.join(", ") : undefined;
}

export async function within<T>(milliseconds: number, promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export type Scenario = [sentence: string, run: (api: Api) => Promise<void>];

/** Runs a file's scenarios on every server, and compares with (or makes) the recording beside the file. */
export function suite(area: string, file: string, scenarios: readonly Scenario[]): void {
  const recordFile = join(import.meta.dirname, `${basename(file, ".test.ts")}.generated.json`);
  const record: Record<string, Step[]> = existsSync(recordFile)
    ? (JSON.parse(readFileSync(recordFile, "utf8")) as Record<string, Step[]>)
    : {};
  for (const connect of serversToAsk()) {
    const connected = connect();
    describe(`${area}, ${connect === embedded ? "embedded" : "kube-apiserver"}`, () => {
      after(async () => (await connected).close());
      scenarios.forEach(([sentence, run], index) => {
        test(sentence, async () => {
          const { transport } = await connected;
          const api = new Api(transport, `conf-${process.pid}-${index}`);
          const made = await api.ask("POST", "/api/v1/namespaces", { metadata: { name: api.namespace } });
          assert.equal(made.code, 201, JSON.stringify(made.body));
          try {
            await run(api);
          } finally {
            await api.end();
            await api.ask("DELETE", `/api/v1/namespaces/${api.namespace}`);
          }
          if (recording) record[sentence] = api.steps;
          else compare(record[sentence], api.steps);
        });
      });
      if (recording) after(() => writeFileSync(recordFile, written(record, scenarios)));
    });
  }
}

function compare(expected: Step[] | undefined, steps: Step[]): void {
  assert.ok(expected, "this scenario has no recording yet: WEFT_CONFORMANCE_RECORD=1 makes it");
  const found = stepDifferences(expected, steps);
  if (found.length > 0) assert.fail(`answers differ from kube-apiserver's:\n${found.join("\n")}`);
}

/** Where two series of answers differ, in lines. */
export function stepDifferences(expected: readonly Step[], steps: readonly Step[]): string[] {
  const found = steps.flatMap((step, index) => {
    // A recording went through JSON, where undefined is absent.
    const [ask, ...answer] = plain(step);
    const [asked, ...recorded] = expected[index] ? plain(expected[index]) : ["(nothing)"];
    const lines = ask === asked ? differing(recorded, answer) : [`expected the request ${asked}`];
    return lines.length === 0 ? [] : [`${index + 1}. ${ask}`, ...lines.map((line) => `     ${line}`)];
  });
  if (steps.length !== expected.length) found.push(`${steps.length} steps, recorded are ${expected.length}`);
  return found;
}

const plain = (step: Step) => JSON.parse(JSON.stringify(step)) as Step;

/** Answers that have nothing in common are shown whole, others where they differ. */
function differing(expected: Loose[], answer: Loose[]): string[] {
  const [code, said] = expected;
  if (answer[0] === code && answer[1]?.kind === said?.kind) return differences(expected, answer);
  const brief = ([code, said, warnings]: Loose[]) => JSON.stringify([code, said?.message ?? said, warnings]);
  return [`expected ${brief(expected)}`, `got ${brief(answer)}`];
}

/** A line per step: readable in a diff. Only what the file still has. */
function written(record: Record<string, Step[]>, scenarios: readonly Scenario[]): string {
  const parts = scenarios.flatMap(([sentence]) =>
    record[sentence]
      ? [
          `${JSON.stringify(sentence)}: [\n${record[sentence].map((step) => JSON.stringify(step)).join(",\n")}\n]`,
        ]
      : [],
  );
  return `{\n${parts.join(",\n")}\n}\n`;
}
