/** An authority made by openssl, as people do who plug one in: a root, and an intermediate that signs. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

let made = 0;

/** `now` (ms) is when it begins to be valid; for ten years. The entries are those of the Secret `cacerts`. */
export function opensslCa(
  below: string,
  kind: "rsa" | "ec",
  now: number,
): { entries: Record<string, string> } {
  const directory = mkdtempSync(join(below, "ca-"));
  const openssl = (...args: string[]) =>
    void execFileSync("openssl", args, { cwd: directory, stdio: ["ignore", "ignore", "pipe"] });
  const key = kind === "rsa" ? ["rsa:2048"] : ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
  const name = (of: string) => ["-subj", `/O=Example/CN=${of} ${++made}`];
  writeFileSync(
    join(directory, "ca.cnf"),
    `[ca]\ndefault_ca=us\n[us]\nnew_certs_dir=.\ndatabase=index.txt\nrand_serial=yes\ndefault_md=sha256\npolicy=any
unique_subject=no\n[any]\norganizationName=optional\ncommonName=supplied\n[signs]\nbasicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid
[root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n`,
  );
  writeFileSync(join(directory, "index.txt"), "");
  const date = (time: number) => `${new Date(time).toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
  const valid = ["-startdate", date(now - 3600_000), "-enddate", date(now + 3650 * 24 * 3600_000)];
  const common = ["-config", "ca.cnf", "-batch", "-notext", ...valid];
  openssl(
    "req",
    "-new",
    "-newkey",
    ...key,
    "-nodes",
    "-keyout",
    "root.key",
    "-out",
    "root.csr",
    ...name("root"),
  );
  openssl(
    "ca",
    ...common,
    "-selfsign",
    "-keyfile",
    "root.key",
    "-extensions",
    "root",
    "-in",
    "root.csr",
    "-out",
    "root.pem",
  );
  openssl(
    "req",
    "-new",
    "-newkey",
    ...key,
    "-nodes",
    "-keyout",
    "ca.key",
    "-out",
    "ca.csr",
    ...name("signer"),
  );
  openssl(
    "ca",
    ...common,
    "-cert",
    "root.pem",
    "-keyfile",
    "root.key",
    "-extensions",
    "signs",
    "-in",
    "ca.csr",
    "-out",
    "ca.pem",
  );
  const read = (file: string) => readFileSync(join(directory, file), "utf8");
  return {
    entries: {
      "ca-cert.pem": read("ca.pem"),
      "ca-key.pem": read("ca.key"),
      "cert-chain.pem": read("ca.pem") + read("root.pem"),
      "root-cert.pem": read("root.pem"),
    },
  };
}
