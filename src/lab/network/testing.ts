/**
 * Tests that need the lab's namespaces: the test file starts itself again inside of them. Works for root and for
 * ordinary users; nothing that such a test does reaches the machine's network or files.
 */
import { spawnSync } from "node:child_process";
import { test } from "node:test";

/**
 * False in the process that was started first; it has then run the whole file in fresh namespaces, and its exit
 * code is set. Where namespaces cannot be made, a test that fails says so.
 */
export function insideNamespaces(file: string): boolean {
  if (process.env.WEFT_TEST_NAMESPACES === "1") return true;
  // Ends with this process, whatever ends it.
  const unshare =
    "setpriv --pdeathsig KILL unshare --user --map-root-user --net --mount --pid --fork --mount-proc --kill-child".split(
      " ",
    );
  const probe = spawnSync(unshare[0]!, [...unshare.slice(1), "mount", "-t", "tmpfs", "none", "/mnt"]);
  if (probe.status !== 0) {
    const reason = probe.error?.message ?? probe.stderr.toString().trim();
    test(`this machine lets the user make namespaces (${file})`, {
      skip: `it does not: ${reason}`,
    }, () => {});
    return false;
  }
  // The runner's channel is standard output, which both processes share.
  const { status, signal } = spawnSync(
    unshare[0]!,
    [...unshare.slice(1), process.execPath, ...process.execArgv, file],
    { stdio: "inherit", env: { ...process.env, WEFT_TEST_NAMESPACES: "1" } },
  );
  process.exitCode = signal ? 1 : (status ?? 1);
  return false;
}
