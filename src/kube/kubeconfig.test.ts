import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { WeftError } from "../api/index.ts";
import {
  inClusterCredentials,
  kubeconfigFiles,
  loadKubeconfig,
  parseKubeconfig,
  tokenFromFile,
} from "./kubeconfig.ts";
import { kubeconfigText, kubeconfigToWrite, mergeContexts, removeContexts } from "./kubeconfig-write.ts";

const directory = mkdtempSync(join(tmpdir(), "weft-kubeconfig-"));
after(() => rmSync(directory, { recursive: true }));
let files = 0;
const file = (text?: string) => {
  const path = join(directory, `config-${++files}`);
  if (text !== undefined) writeFileSync(path, text);
  return path;
};

const pem = (what: string) => `-----BEGIN ${what}-----\nAAAA\n-----END ${what}-----\n`;
const b64 = (text: string) => Buffer.from(text).toString("base64");

const kubectls = `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: ${b64(pem("CERTIFICATE"))}
    server: https://10.0.0.1:6443
  name: prod
contexts:
- context:
    cluster: prod
    namespace: shop
    user: me
  name: prod
current-context: prod
kind: Config
preferences: {}
users:
- name: me
  user:
    token: secret
`;

describe("reading a kubeconfig", () => {
  test("finds contexts, the current one, and their credentials", () => {
    const config = parseKubeconfig(kubectls, "it");
    assert.equal(config.currentContext, "prod");
    assert.deepEqual(config.context(), { name: "prod", cluster: "prod", user: "me", namespace: "shop" });
    assert.deepEqual(config.credentials(), {
      server: "https://10.0.0.1:6443",
      ca: pem("CERTIFICATE"),
      token: "secret",
    });
  });

  test("reads files that entries name, relative to the kubeconfig", () => {
    writeFileSync(join(directory, "client.crt"), pem("CERTIFICATE"));
    writeFileSync(join(directory, "client.key"), pem("PRIVATE KEY"));
    writeFileSync(join(directory, "token"), "from a file\n");
    const path = file(`
clusters: [{name: c, cluster: {server: "https://c", insecure-skip-tls-verify: true, tls-server-name: other}}]
contexts: [{name: x, context: {cluster: c, user: u}}, {name: anonymous, context: {cluster: c}}]
users: [{name: u, user: {client-certificate: client.crt, client-key: client.key, tokenFile: token}}]
`);
    const { token, ...credentials } = loadKubeconfig(path).credentials("x");
    assert.deepEqual(credentials, {
      server: "https://c",
      insecure: true,
      tlsServerName: "other",
      cert: pem("CERTIFICATE"),
      key: pem("PRIVATE KEY"),
    });
    assert.equal((token as () => string)(), "from a file");
    assert.equal(loadKubeconfig(path).credentials("anonymous").token, undefined);
  });

  test("follows KUBECONFIG as kubectl does: a list, in which the first of a name counts", () => {
    const a = file(
      "current-context: x\ncontexts: [{name: x, context: {cluster: a}}]\nclusters: [{name: a, cluster: {server: 'https://a'}}]",
    );
    const b = file(
      "current-context: y\ncontexts: [{name: x, context: {cluster: b}}, {name: y, context: {cluster: a}}]",
    );
    const environment = { KUBECONFIG: `${join(directory, "none")}:${a}::${b}` };
    const config = loadKubeconfig(undefined, environment);
    assert.equal(config.currentContext, "x");
    assert.equal(config.context("x").cluster, "a");
    assert.equal(config.credentials("y").server, "https://a");
    assert.deepEqual(kubeconfigFiles(undefined, { HOME: "/home/me" }), ["/home/me/.kube/config"]);
    assert.deepEqual(loadKubeconfig(undefined, { HOME: join(directory, "nobody") }).contexts, []);
    assert.equal(kubeconfigToWrite(undefined, environment), a);
  });

  test("says what is wrong, and where", () => {
    const cases: [string, RegExp][] = [
      ["a: [", /it is not a valid kubeconfig: /],
      ["- 1", /not a mapping/],
      ["kind: Pod", /its kind is Pod/],
      ["clusters: 5", /clusters is not a list/],
      ["clusters: [{cluster: {}}]", /an entry of clusters has no name/],
      [
        "contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x",
        /names the cluster 'c', which is not there/,
      ],
      [
        "contexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://c'}}]\ncurrent-context: x",
        /names the user 'u', which is not there/,
      ],
      [
        "contexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'nowhere'}}]\ncurrent-context: x",
        /'nowhere' is no URL/,
      ],
      [
        "contexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://c', certificate-authority-data: '!'}}]\ncurrent-context: x",
        /certificate-authority-data is not PEM/,
      ],
      [
        "contexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://c'}}]\nusers: [{name: u, user: {exec: {command: aws}}}]\ncurrent-context: x",
        /signs in with a plugin \(exec\)/,
      ],
    ];
    for (const [text, reason] of cases) {
      assert.throws(
        () => parseKubeconfig(text, "it").credentials(),
        (error: WeftError) => {
          assert.equal(error.code, "KUBECONFIG_INVALID", text);
          assert.match(error.message, reason);
          return true;
        },
      );
    }
    assert.throws(() => parseKubeconfig(kubectls, "it").context("nope"), /no context 'nope'/);
    assert.throws(() => loadKubeconfig(join(directory, "none")), { code: "KUBECONFIG_INVALID" });
  });

  test("reads a token again when its file changes", () => {
    const path = file("one\n");
    const token = tokenFromFile(path);
    assert.equal(token(), "one");
    writeFileSync(path, "two\n");
    utimesSync(path, 1, 1);
    assert.equal(token(), "two");
    rmSync(path);
    assert.equal(token(), "two", "while the file is being swapped the last token is good");
  });

  test("finds a pod's own credentials", () => {
    const account = mkdtempSync(join(directory, "account-"));
    writeFileSync(join(account, "token"), "t");
    writeFileSync(join(account, "ca.crt"), pem("CERTIFICATE"));
    writeFileSync(join(account, "namespace"), "weft-system");
    const environment = { KUBERNETES_SERVICE_HOST: "10.11.0.1", KUBERNETES_SERVICE_PORT: "443" };
    const { server, namespace, token } = inClusterCredentials(environment, account);
    assert.equal(server, "https://10.11.0.1:443");
    assert.equal(namespace, "weft-system");
    assert.equal((token as () => string)(), "t");
    assert.throws(() => inClusterCredentials({}, account), { code: "KUBECONFIG_INVALID" });
  });
});

const lab = (name: string) => ({
  name,
  credentials: {
    server: `https://127.0.0.1:1/${name}`,
    ca: pem("CERTIFICATE"),
    cert: pem("CERTIFICATE"),
    key: pem("PRIVATE KEY"),
  },
});

describe("writing a kubeconfig", () => {
  test("adds contexts, makes the first current, and takes them out without a trace", async () => {
    const path = file(kubectls);
    await mergeContexts(path, [lab("weft-c1"), lab("weft-c2")]);
    const config = loadKubeconfig(path);
    assert.equal(config.currentContext, "weft-c1");
    assert.deepEqual(
      config.contexts.map(({ name }) => name),
      ["prod", "weft-c1", "weft-c2"],
    );
    assert.deepEqual(config.credentials("weft-c2"), lab("weft-c2").credentials);
    assert.equal(config.credentials("prod").token, "secret");
    await removeContexts(path, ["weft-c1", "weft-c2"]);
    assert.equal(readFileSync(path, "utf8"), kubectls);
    assert.deepEqual(
      readdirSync(directory).filter((name) => name.startsWith(path.split("/").at(-1)!)),
      [path.split("/").at(-1)!],
    );
  });

  test("keeps comments, order and style of a file that people wrote", async () => {
    const text = `# mine
kind: Config
apiVersion: v1
clusters:
  # the good one
  - name: prod
    cluster: { server: "https://prod" } # keep
contexts:
  - name: prod
    context: { cluster: prod }
current-context: prod
`;
    const path = file(text);
    await mergeContexts(path, [lab("weft-c1")]);
    assert.match(readFileSync(path, "utf8"), /# the good one\n {2}- name: prod\n/);
    await removeContexts(path, ["weft-c1"]);
    assert.equal(readFileSync(path, "utf8").replace("users: []\n", ""), text);
  });

  test("leaves the current context alone when someone chose another meanwhile", async () => {
    const path = file(kubectls);
    await mergeContexts(path, [lab("weft-c1")]);
    writeFileSync(
      path,
      readFileSync(path, "utf8").replace("current-context: weft-c1", "current-context: other"),
    );
    await removeContexts(path, ["weft-c1"]);
    assert.equal(loadKubeconfig(path).currentContext, "other");
  });

  test("replaces contexts of the same name and still remembers what was current before", async () => {
    const path = file(kubectls);
    await mergeContexts(path, [lab("weft-c1")]);
    await mergeContexts(path, [lab("weft-c1"), lab("weft-c2")]);
    assert.equal(loadKubeconfig(path).contexts.length, 3);
    await removeContexts(path, ["weft-c1", "weft-c2"]);
    assert.equal(readFileSync(path, "utf8"), kubectls);
  });

  test("makes the file for its owner only where there was none, and deletes it again", async () => {
    const path = join(directory, "new", "config");
    await mergeContexts(path, [lab("weft-c1")]);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(loadKubeconfig(path).currentContext, "weft-c1");
    await removeContexts(path, ["weft-c1"]);
    assert.equal(existsSync(path), false);
    assert.equal(
      existsSync(join(directory, "new")),
      false,
      "the directory went too: it was made for the file",
    );
    await removeContexts(path, ["weft-c1"]);
  });

  test("keeps a file that Weft made when others have put something into it", async () => {
    const path = join(directory, "new", "config");
    await mergeContexts(path, [lab("weft-c1")]);
    await mergeContexts(path, [lab("theirs")]);
    await removeContexts(path, ["weft-c1"]);
    assert.deepEqual(
      loadKubeconfig(path).contexts.map(({ name }) => name),
      ["theirs"],
    );
  });

  test("follows a link and keeps the file's mode", async () => {
    const path = file(kubectls);
    chmodSync(path, 0o640);
    const link = join(directory, "link");
    symlinkSync(path, link);
    await mergeContexts(link, [lab("weft-c1")]);
    assert.ok(lstatSync(link).isSymbolicLink());
    assert.equal(statSync(path).mode & 0o777, 0o640);
    assert.equal(loadKubeconfig(path).contexts.length, 2);
  });

  test("changes nothing in a file that it cannot read", async () => {
    for (const text of ["a: [", "- 1\n"]) {
      const path = file(text);
      await assert.rejects(mergeContexts(path, [lab("weft-c1")]), { code: "KUBECONFIG_INVALID" });
      assert.equal(readFileSync(path, "utf8"), text);
      assert.equal(existsSync(`${path}.lock`), false);
    }
  });

  test("waits for another program's lock, and changes of many at once are all there", async () => {
    const path = file(kubectls);
    writeFileSync(`${path}.lock`, "");
    setTimeout(() => rmSync(`${path}.lock`), 120);
    await Promise.all(["a", "b", "c", "d"].map((name) => mergeContexts(path, [lab(name)])));
    assert.equal(loadKubeconfig(path).contexts.length, 5);
  });

  test("writes a kubeconfig of its own for a peer", () => {
    const text = kubeconfigText([lab("c1")]);
    assert.deepEqual(parseKubeconfig(text, "it").credentials(), lab("c1").credentials);
  });
});
