/** What must be right with the meshes of a cluster: what their control planes and member rolls say of themselves. */
import {
  type MaistraCondition,
  nameOf,
  serviceMeshControlPlanes,
  serviceMeshMemberRolls,
} from "../../api/index.ts";
import type { KubeClient } from "../../kube/index.ts";
import { type Check, check, failed, ok, warning } from "./result.ts";

/** One check for each control plane and roll; none where the cluster has no such kinds. */
export async function checkMeshes(client: KubeClient, context: string): Promise<Check[]> {
  const [controlPlanes, rolls] = await Promise.all([
    client.list(serviceMeshControlPlanes),
    client.list(serviceMeshMemberRolls),
  ]);
  const kubectl = (what: string) => `kubectl --context ${context} ${what}`;
  return Promise.all([
    ...controlPlanes.items.map(({ metadata, status }) =>
      check(context, `the mesh ${nameOf({ metadata })} is ready`, () => {
        const { namespace = "", name } = metadata;
        const find = (type: string) => status?.conditions?.find((condition) => condition.type === type);
        const bad = [find("Reconciled"), find("Ready")].find((condition) => condition?.status === "False");
        if (bad) return failed(says(bad), kubectl(`-n ${namespace} describe smcp ${name}`));
        if (!find("Ready")) {
          const log = `-n weft-system logs deployment/weft`;
          return failed("nobody has looked at it: no control plane leads, or it is too old", kubectl(log));
        }
        const idle = [find("InvalidFields"), find("NotServedYet")].find((condition) => condition);
        const count = `${status?.annotations?.readyComponentCount ?? "all"} components ready`;
        return idle
          ? warning(`${count}; ${says(idle)}`, "mend these fields or leave them out (docs/mesh.md)")
          : ok(count);
      }),
    ),
    ...rolls.items.map(({ metadata, status }) =>
      check(context, `the mesh in ${metadata.namespace} has its members`, () => {
        const ready = status?.conditions?.find(({ type }) => type === "Ready");
        const describe = kubectl(`-n ${metadata.namespace} describe smmr ${metadata.name}`);
        if (ready?.status === "True") return ok(`${status?.annotations?.configuredMemberCount ?? "all"}`);
        return warning(ready ? says(ready) : "nobody has looked at its member roll", describe);
      }),
    ),
  ]);
}

function says({ message, reason }: MaistraCondition): string {
  return message ?? reason ?? "it does not say why";
}
