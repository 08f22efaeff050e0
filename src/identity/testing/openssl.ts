/** An authority made by openssl, as people do who plug one in: a root, and an intermediate that signs. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

let made = 0;

export interface OpensslCa {
  /** Those of the Secret `cacerts`. */
  entries: Record<string, string>;
  directory: string;
}

/**
 * `now` (ms) is when it begins to be valid; for ten years. `sibling`: another intermediate of that one's root.
 */
export function opensslCa(below: string, kind: "rsa" | "ec", now: number, sibling?: OpensslCa): OpensslCa {
  const directory = sibling?.directory ?? mkdtempSync(join(below, "ca-"));
  const openssl = (...args: string[]) =>
    void execFileSync("openssl", args, { cwd: directory, stdio: ["ignore", "ignore", "pipe"] });
  const key = kind === "rsa" ? ["rsa:2048"] : ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
  const make = (file: string, name: string) =>
    openssl(
      ...["req", "-new", "-newkey", ...key, "-nodes", "-subj", `/O=Example/CN=${name} ${++made}`],
      ...["-keyout", `${file}.key`, "-out", `${file}.csr`],
    );
  const date = (time: number) => `${new Date(time).toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
  const valid = ["-startdate", date(now - 3600_000), "-enddate", date(now + 3650 * 24 * 3600_000)];
  const sign = (file: string, extensions: string, ...by: string[]) =>
    openssl(
      ...["ca", "-config", "ca.cnf", "-batch", "-notext", ...valid, "-extensions", extensions],
      ...["-keyfile", "root.key", "-in", `${file}.csr`, "-out", `${file}.pem`, ...by],
    );
  if (!sibling) {
    writeFileSync(join(directory, "ca.cnf"), configuration);
    writeFileSync(join(directory, "index.txt"), "");
    make("root", "root");
    sign("root", "root", "-selfsign");
  }
  make("ca", "signer");
  sign("ca", "signs", "-cert", "root.pem");
  const read = (file: string) => readFileSync(join(directory, file), "utf8");
  const entries = {
    "ca-cert.pem": read("ca.pem"),
    "ca-key.pem": read("ca.key"),
    "cert-chain.pem": read("ca.pem") + read("root.pem"),
    "root-cert.pem": read("root.pem"),
  };
  return { entries, directory };
}

const configuration = `[ca]
default_ca=us
[us]
new_certs_dir=.
database=index.txt
rand_serial=yes
default_md=sha256
policy=any
unique_subject=no
[any]
organizationName=optional
commonName=supplied
[signs]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
[root]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
`;
