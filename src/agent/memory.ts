/**
 * Memory that nobody uses goes back to the machine. What V8 takes for compiling, and TLS for handshakes, is freed in
 * pieces between others, which glibc keeps: a third of a sidecar, for good. malloc_trim(3) gives back whole free pages,
 * in a millisecond. Where libc has no such function, nothing is done.
 */
import { sleep, type World } from "../world/index.ts";

/** ms between two looks. */
const interval = 10_000;

/** Goes on until the signal. */
export async function giveBackMemory(world: World, signal: AbortSignal): Promise<void> {
  const { default: koffi } = await import("koffi");
  let trim: (keep: number) => number;
  try {
    trim = koffi.load("libc.so.6").func("int malloc_trim(size_t pad)");
  } catch {
    return;
  }
  for (;;) {
    await sleep(world, interval, signal);
    trim(0);
  }
}
