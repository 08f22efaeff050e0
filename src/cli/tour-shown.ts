/** What the tours have in common: what they are given, how they wait, and how they show what they do. */
import { sleep, type World } from "../world/index.ts";

export interface TourOptions {
  /** Starts the lab's clusters and resolves when they are ready; says what it does through `line`. */
  up(clusters: string[], line: (text: string) => void, signal: AbortSignal): Promise<void>;
  /** Context of a cluster in the kubeconfig. */
  context(cluster: string): string;
  kubeconfig?: string | undefined;
  signal: AbortSignal;
  /** Where the tour is shown. */
  print(text: string): void;
}

/** Asks until there is an answer. */
export async function until<T>(
  world: World,
  signal: AbortSignal,
  ask: () => Promise<T | undefined>,
): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await sleep(world, 50, signal);
  }
}

/** What the user sees: steps with a number, commands after a `$`, output as it is, times at the end. */
export class Shown {
  readonly #world: World;
  readonly #print: (text: string) => void;
  readonly #times: { title: string; seconds: number }[] = [];

  constructor(world: World, print: (text: string) => void) {
    this.#world = world;
    this.#print = print;
  }

  async step(title: string, run: () => Promise<void>): Promise<void> {
    const start = this.#world.monotonic();
    this.#print(`\n# ${this.#times.length + 1}. ${title}\n`);
    await run();
    this.#times.push({ title, seconds: (this.#world.monotonic() - start) / 1000 });
  }

  command(text: string): void {
    this.#print(`$ ${text}\n`);
  }

  output(text: string): void {
    this.#print(text);
  }

  /** The time that each step took. */
  end(): void {
    const width = Math.max(...this.#times.map(({ title }) => title.length));
    this.#print("\n# What took how long\n");
    for (const { title, seconds } of this.#times) {
      this.#print(`${title.padEnd(width)}  ${seconds.toFixed(1).padStart(5)} s\n`);
    }
  }
}
