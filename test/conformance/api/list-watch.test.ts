/** Lists, their pages and revisions, and watches. */
import { configMap, deployment, deployments, maps } from "./objects.ts";
import { type Api, type Scenario, suite } from "./suite.ts";

const table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
const partialList = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

/** Some ConfigMaps, and the revision of the last. */
async function some(api: Api, ...names: string[]): Promise<number> {
  let revision = 0;
  for (const name of names) {
    const labels = { letter: name, odd: String(names.indexOf(name) % 2 === 1) };
    const { body } = await api.ask("POST", maps, configMap(name, {}, { labels }));
    revision = Number(body.metadata.resourceVersion);
  }
  return revision;
}

const scenarios: Scenario[] = [
  [
    "a list is sorted by name, and of a namespace or of all",
    async (api) => {
      await some(api, "b", "a", "c");
      await api.get(maps);
      await api.get("/api/v1/configmaps?fieldSelector=metadata.namespace%3D{ns}");
      await api.get("/api/v1/namespaces?fieldSelector=metadata.name%3D{ns}");
      await api.get("/apis/apps/v1/deployments?fieldSelector=metadata.namespace%3D{ns}");
    },
  ],
  [
    "resourceVersion and resourceVersionMatch are allowed in these pairs only",
    async (api) => {
      const first = await some(api, "a");
      const last = await some(api, "b");
      api.mask(new RegExp(`\\b(${last + 1000000}|current: \\d+)`, "g"));
      api.mask(new RegExp(`\\b${first}\\b`, "g"), "FIRST");
      api.mask(new RegExp(`\\b${last}\\b`, "g"), "LAST");
      for (const revision of ["", "0", `${first}`, `${last}`, "word", "-1", "1.5"]) {
        for (const match of ["", "Exact", "NotOlderThan", "Sideways"]) {
          for (const limit of ["", "&limit=1"]) {
            await api.get(`${maps}?resourceVersion=${revision}&resourceVersionMatch=${match}${limit}`);
          }
        }
      }
      await api.get(`${maps}?resourceVersion=${last + 1000000}`);
      await api.get(`${maps}?resourceVersion=${last + 1000000}&resourceVersionMatch=Exact`);
      await api.get(`${maps}/a?resourceVersion=${last + 1000000}`);
      await api.get(`${maps}/a?resourceVersion=word`);
      await api.get(`${maps}/a?resourceVersion=0`);
      await api.get(`${maps}?sendInitialEvents=true`);
      await api.get(`${maps}?sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=0`);
      await api.get(`${maps}?limit=word`);
      await api.get(`${maps}?limit=-1`);
      await api.get(`${maps}?timeoutSeconds=word`);
      await api.get(`${maps}?limit=`);
      await api.get(`${maps}?watch=false`);
      await api.get(`${maps}?watch=0`);
    },
  ],
  [
    "pages are of one state, and say what is left",
    async (api) => {
      await some(api, "a", "b", "c", "d", "e");
      const first = await api.get(`${maps}?limit=2`);
      const token = encodeURIComponent(first.body.metadata.continue);
      api.mask(new RegExp(token.slice(0, 20)), "TOKEN");
      await api.ask("DELETE", `${maps}/c`);
      await api.ask(
        "PATCH",
        `${maps}/d`,
        { data: { changed: "yes" } },
        { "content-type": "application/merge-patch+json" },
      );
      await some(api, "cc", "f");
      const page = async (token: string, more = "") => {
        const { code, body } = await api.ask("GET", `${maps}?limit=2&continue=${token}${more}`);
        api.note("a page", body, code);
        return encodeURIComponent(body.metadata?.continue ?? "");
      };
      const second = await page(token);
      await page(second);
      await page(token, "&resourceVersion=0");
      await page(token, "&resourceVersion=7");
      await page(token, "&resourceVersionMatch=Exact");
      await page(Buffer.from("nonsense").toString("base64url"));
      await page(Buffer.from('{"v":"meta.k8s.io/v1","rv":5,"start":"../other"}').toString("base64url"));
      await api.get(`${maps}?limit=1&labelSelector=odd%3Dtrue`);
      await api.get(`${maps}?limit=9`);
    },
  ],
  [
    "selectors choose by labels and fields",
    async (api) => {
      await some(api, "a", "b", "c", "d");
      for (const selector of [
        "letter=a",
        "letter==a",
        "letter!=a",
        "letter in (a,c)",
        "letter notin (a,c)",
        "letter",
        "!letter",
        "letter in (a,b),odd=true",
        "none=",
        "none!=x",
        "letter in ()",
        "letter notin ()",
        "letter in (a,)",
      ]) {
        const { body } = await api.ask("GET", `${maps}?labelSelector=${encodeURIComponent(selector)}`);
        api.note(
          selector,
          body.items.map((item: { metadata: { name: string } }) => item.metadata.name),
        );
      }
      for (const selector of [
        "metadata.name=a",
        "metadata.name!=a",
        "metadata.name=a,metadata.name=b",
        "metadata.namespace={ns}",
        "metadata.namespace!={ns}",
        "metadata.name==a",
        "metadata.name=",
        "",
      ]) {
        const { body } = await api.ask(
          "GET",
          `${maps}?fieldSelector=${encodeURIComponent(selector).replaceAll("%7Bns%7D", "{ns}")}`,
        );
        api.note(
          selector,
          body.items.map((item: { metadata: { name: string } }) => item.metadata.name),
        );
      }
    },
  ],
  [
    "a watch from now shows what is there and then what changes",
    async (api) => {
      await some(api, "a", "b");
      const watch = await api.watch(`${maps}?watch=1`);
      await watch.take(2);
      await api.post(maps, configMap("c"));
      await api.patch(`${maps}/c`, { data: { x: "1" } });
      await api.patch(`${maps}/c`, { data: { x: "1" } });
      await api.delete(`${maps}/c`);
      await watch.take(3);
    },
  ],
  [
    "a watch from a revision shows what came after it",
    async (api) => {
      const first = await some(api, "a");
      await some(api, "b");
      await api.ask("DELETE", `${maps}/a`);
      api.mask(new RegExp(`=${first}\\b`), "=FIRST");
      const watch = await api.watch(`${maps}?watch=true&resourceVersion=${first}`);
      await watch.take(2);
      const other = await api.watch(`${maps}?watch=true&resourceVersion=0`);
      await other.take(1);
    },
  ],
  [
    "objects come into view of a selector and leave it",
    async (api) => {
      const first = await some(api, "a");
      api.mask(new RegExp(`=${first}\\b`), "=FIRST");
      const watch = await api.watch(`${maps}?watch=1&labelSelector=colour%3Dred&resourceVersion=${first}`);
      const paint = (colour: string | null) =>
        api.ask(
          "PATCH",
          `${maps}/a`,
          { metadata: { labels: { colour } } },
          { "content-type": "application/merge-patch+json" },
        );
      await paint("blue");
      await paint("red");
      await api.ask(
        "PATCH",
        `${maps}/a`,
        { data: { x: "1" } },
        { "content-type": "application/merge-patch+json" },
      );
      await paint("blue");
      await api.ask(
        "PATCH",
        `${maps}/a`,
        { data: { x: "2" } },
        { "content-type": "application/merge-patch+json" },
      );
      await paint("red");
      await api.ask("DELETE", `${maps}/a`);
      await watch.take(5);
      const named = await api.watch(
        `${maps}?watch=1&fieldSelector=metadata.name%3Db&resourceVersion=${first}`,
      );
      await some(api, "b", "c");
      await api.ask("DELETE", `${maps}/c`);
      await api.ask("DELETE", `${maps}/b`);
      await named.take(2);
    },
  ],
  [
    "a field selector on a field that changes turns changes into coming and going",
    async (api) => {
      const pod = { apiVersion: "v1", kind: "Namespace", metadata: { name: "{ns}-x" } };
      const { body } = await api.ask("POST", "/api/v1/namespaces", pod);
      const from = body.metadata.resourceVersion;
      api.mask(new RegExp(`=${from}\\b`), "=FROM");
      const watch = await api.watch(
        `/api/v1/namespaces?watch=1&fieldSelector=status.phase%3DActive,metadata.name%3D{ns}-x&resourceVersion=${from}`,
      );
      await api.ask("DELETE", "/api/v1/namespaces/{ns}-x");
      await watch.take(1);
    },
  ],
  [
    "a watch ends when its time is up",
    async (api) => {
      await some(api, "a");
      const watch = await api.watch(`${maps}?watch=1&timeoutSeconds=1`);
      await watch.rest();
    },
  ],
  [
    "watches that make no sense are refused",
    async (api) => {
      const revision = await some(api, "a");
      api.mask(/\b\d{7,}\b(?!-)/g);
      api.mask(/current: \d+/g);
      for (const query of [
        "resourceVersionMatch=NotOlderThan",
        "resourceVersionMatch=Exact&resourceVersion=1",
        "sendInitialEvents=true",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
        "sendInitialEvents=false",
        "sendInitialEvents=word",
        "resourceVersion=word",
        `resourceVersion=${revision + 1000000}&timeoutSeconds=1`,
        "fieldSelector=spec.x%3D1",
        "labelSelector=a%20b",
        "timeoutSeconds=word",
        "limit=word",
      ]) {
        await api.say("GET", `${maps}?watch=1&${query}`);
      }
      await api.say("GET", `${maps}/a?watch=1`);
      await api.say("GET", `${maps}/none?watch=1`);
    },
  ],
  [
    "lists, objects and watches as Tables",
    async (api) => {
      const first = await some(api, "a", "b");
      api.mask(new RegExp(`=${first}\\b`), "=FIRST");
      api.mask(/^\d+[smh]$/, "AGE");
      await api.get(maps, table);
      await api.get(`${maps}/a`, table);
      await api.get(`${maps}?includeObject=None`, table);
      await api.get(`${maps}?includeObject=Object`, table);
      await api.get(`${maps}?includeObject=Some`, table);
      await api.get(`${maps}/none`, table);
      await api.get(deployments, table);
      const watch = await api.watch(`${maps}?watch=1&resourceVersion=${first}`, table);
      await some(api, "c");
      await api.ask("DELETE", `${maps}/c`);
      await watch.take(2);
    },
  ],
  [
    "only the metadata of lists, objects, watches and patches",
    async (api) => {
      const first = await some(api, "a", "b");
      api.mask(new RegExp(`=${first}\\b`), "=FIRST");
      await api.get(maps, partialList);
      await api.get(maps, partial);
      await api.get(`${maps}/a`, partial);
      await api.get(`${maps}/a`, partialList);
      await api.get(`${maps}/none`, partial);
      await api.say(
        "PATCH",
        `${maps}/a`,
        { data: { x: "1" } },
        { "content-type": "application/merge-patch+json", accept: partial },
      );
      await api.say("POST", maps, configMap("d"), { accept: partial });
      await api.say("DELETE", `${maps}/d`, undefined, { accept: partial });
      const watch = await api.watch(`${maps}?watch=1&resourceVersion=${first}`, partial);
      await watch.take(3);
    },
  ],
  [
    "a collection is deleted by selector, and watches see each go",
    async (api) => {
      const first = await some(api, "a", "b", "c", "d");
      api.mask(new RegExp(`=${first}\\b`), "=FIRST");
      await api.ask(
        "PATCH",
        `${maps}/d`,
        { metadata: { finalizers: ["example.com/x"] } },
        { "content-type": "application/merge-patch+json" },
      );
      const watch = await api.watch(`${maps}?watch=1&resourceVersion=${first}&labelSelector=odd%3Dtrue`);
      await api.delete(`${maps}?labelSelector=odd%3Dtrue`);
      await api.get(maps);
      const seen = await readAll(watch.take(3));
      api.steps.pop();
      api.note("seen", seen.map((event) => [event.type, event.object.metadata.name]).sort());
      await api.ask(
        "PATCH",
        `${maps}/d`,
        { metadata: { finalizers: null } },
        { "content-type": "application/merge-patch+json" },
      );
      await api.delete(`${maps}?dryRun=All`);
      await api.delete(`${maps}?fieldSelector=metadata.name%3Da&propagationPolicy=Foreground`);
      await api.get(maps);
    },
  ],
  [
    "watches of one kind see nothing of another, and all namespaces see all",
    async (api) => {
      const first = await some(api, "a");
      api.mask(new RegExp(`=${first}\\b`), "=FIRST");
      const all = await api.watch(
        `/api/v1/configmaps?watch=1&resourceVersion=${first}&fieldSelector=metadata.namespace%3D{ns}`,
      );
      await api.ask("POST", deployments, deployment("d"));
      await some(api, "b");
      await all.take(1);
    },
  ],
];

async function readAll(
  events: Promise<unknown[]>,
): Promise<{ type: string; object: { kind: string; metadata: { name: string } } }[]> {
  return (await events) as { type: string; object: { kind: string; metadata: { name: string } } }[];
}

suite("lists and watches", import.meta.filename, scenarios);
