/** What pods have of the machine, and what they must not have. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { insideNamespaces } from "../network/testing.ts";
import type { Harness } from "./testing/harness.ts";
import { idle, running, shell } from "./testing/pods.ts";

if (insideNamespaces(import.meta.filename)) {
  const { startHarness } = await import("./testing/harness.ts");

  let h: Harness;
  const secretDir = join(homedir(), ".weft-kubelet-test");

  before(async () => {
    h = await startHarness();
    await h.startKubelet();
  });
  after(async () => {
    rmSync(secretDir, { recursive: true, force: true });
    await h.close();
  });

  describe("the machine", () => {
    test("cannot be written to, and its user's files are not seen", async () => {
      mkdirSync(secretDir, { recursive: true });
      writeFileSync(join(secretDir, "config"), "secret");
      const { metadata } = await h.create({
        containers: [
          shell(idle, {
            securityContext: { privileged: true, capabilities: { add: ["SYS_ADMIN", "NET_ADMIN"] } },
          }),
        ],
      });
      await h.until(metadata.name, running);
      const { output } = await h.sh(
        metadata.name,
        `
        for f in /usr/x /opt/x /weft/x /.machine/etc/x /etc/passwd /dev/x /proc/sys/kernel/core_pattern /proc/sys/net/ipv4/ip_forward; do
          (echo x >> $f) 2>/dev/null && echo WROTE $f
        done
        mount -o remount,rw /usr 2>/dev/null && echo REMOUNTED
        umount /.machine/etc/shadow 2>/dev/null && echo UNCOVERED
        unshare --user --map-root-user --mount sh -c 'mount -o remount,bind,rw /usr' 2>/dev/null && echo REMOUNTED
        cat /etc/shadow /.machine/etc/shadow 2>/dev/null | grep : && echo SHADOW
        [ -e ${secretDir} ] && echo HOME
        [ -e ${h.stateDir} ] && echo STATE
        ls /home/* /root/* 2>/dev/null
        cat /proc/1/environ | tr '\\0' '\\n' | grep -c WEFT_TEST
        ls /proc | grep -c '^[0-9]'
        echo end`,
      );
      assert.match(output, /^0\n\d\d?\nend\n$/);
    });

    test("lends its programs, but not its devices and processes", async () => {
      const { metadata } = await h.create({ containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const { output } = await h.sh(
        metadata.name,
        "ls /dev; /weft/node_modules/.bin/node -p 1+1; id -u; cat /proc/1/comm",
      );
      assert.match(
        output,
        /^fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntermination-log\ntty\nurandom\nzero\n2\n0\nsh\n$/,
      );
    });

    test("is read-only for pods, its own directories as well, which all pods of a node share", async () => {
      const { metadata } = await h.create({ containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const places = "/weft-programs /weft /usr /dev /.machine/etc /sys /proc/sys";
      const { output } = await h.sh(
        metadata.name,
        `for d in ${places}; do touch $d/x 2>/dev/null && echo wrote $d; done; ls -d /weft-programs; echo over`,
      );
      assert.equal(output, "/weft-programs\nover\n");
    });

    test("has what a pod wants to write: /tmp, /var, /run, /root, /etc and places of its own", async () => {
      const { metadata } = await h.create({ containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const { output, code } = await h.sh(
        metadata.name,
        "set -e; for d in /tmp /var/log /var/lib /run /root /etc /new/dir /dev/shm; do mkdir -p $d; touch $d/x; done; echo fine",
      );
      assert.deepEqual([output, code], ["fine\n", 0]);
    });
  });
}
