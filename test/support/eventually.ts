/** How tests wait: on conditions. */

type Falsy = false | 0 | "" | null | undefined;

/**
 * Asks again until `attempt` neither throws nor gives a falsy value; then fails with the last error. `what` may be asked
 * when it is said: with what a log holds by then. Waits 10 ms at first, 100 ms later. Attempts that start programs take
 * a third of the time at most: what they wait for needs the processors too. `timeout` is in ms.
 */
export async function eventually<T>(
  what: string | (() => string),
  attempt: () => Promise<T> | T,
  timeout = 30_000,
): Promise<Exclude<T, Falsy>> {
  const end = performance.now() + timeout;
  let last: unknown = "it never came";
  for (let asked = 1; performance.now() < end; asked++) {
    const began = performance.now();
    try {
      const value = await attempt();
      if (value) return value as Exclude<T, Falsy>;
    } catch (error) {
      last = error;
    }
    const pause = Math.max(2 * (performance.now() - began), Math.min(10 * asked, 100));
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, 1_000)));
  }
  const said = typeof what === "string" ? what : what();
  throw new Error(`${said}: not within ${timeout} ms`, { cause: last });
}
