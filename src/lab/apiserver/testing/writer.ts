/** A process for the kill test: writes to a store in a file and says what was acknowledged, until it is killed. */
import { writeSync } from "node:fs";
import { realWorld } from "../../../world/index.ts";
import { admin, clientOf, configMap, testServer } from "./harness.ts";

const [file, round] = process.argv.slice(2);
const cluster = await testServer({ storage: { kind: "sqlite", file: file! }, world: realWorld() });
const client = clientOf(cluster.server, admin);
for (let i = 0; ; i++) {
  const name = `r${round}-${i}`;
  const { code } = await client.post("/api/v1/namespaces/default/configmaps", configMap(name));
  if (code === 201) writeSync(1, `${name}\n`);
}
