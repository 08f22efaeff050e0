/** Whether the control plane may do what it does, as the API server's own authorizer says. */
import { type PolicyRule, systemNamespace } from "../../api/index.ts";
import type { KubeClient } from "../../kube/index.ts";
import { clusterRules, controlPlane, systemRules } from "../manifests.ts";
import { meshRules } from "../mesh-rules.ts";

/** Questions that are asked at one time. */
const concurrency = 8;

interface Question {
  group: string;
  resource: string;
  subresource?: string;
  verb: string;
  namespace?: string;
  name?: string;
}

/** What of all that it needs the ServiceAccount may not do: `verb resource.group`. */
export async function missingRights(client: KubeClient): Promise<string[]> {
  const questions = [
    ...[...clusterRules, ...meshRules].flatMap((rule) => ask(rule)),
    ...systemRules.flatMap((rule) => ask(rule, systemNamespace)),
  ];
  const missing: string[] = [];
  const next = questions.values();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (const question of next) {
        if (await mayControlPlane(client, question)) continue;
        const { verb, resource, subresource, group, namespace } = question;
        const what = `${resource}${subresource ? `/${subresource}` : ""}${group && `.${group}`}`;
        missing.push(`${verb} ${what}${namespace ? ` in ${namespace}` : ""}`);
      }
    }),
  );
  return missing.sort();
}

function ask(rule: PolicyRule, namespace?: string): Question[] {
  const { apiGroups = [], resources = [], verbs, resourceNames: names = [undefined] } = rule;
  return apiGroups.flatMap((group) =>
    resources.flatMap((named) => {
      const [resource = "", subresource] = named.split("/");
      return verbs.flatMap((verb) =>
        names.map((name) => ({
          group,
          resource,
          verb,
          ...(subresource && { subresource }),
          ...(namespace && { namespace }),
          ...(name && { name }),
        })),
      );
    }),
  );
}

async function mayControlPlane(client: KubeClient, resourceAttributes: Question): Promise<boolean> {
  const answer = await client.json<{ status?: { allowed?: boolean } }>(
    "POST",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    {
      body: {
        apiVersion: "authorization.k8s.io/v1",
        kind: "SubjectAccessReview",
        spec: {
          user: `system:serviceaccount:${systemNamespace}:${controlPlane}`,
          groups: [
            "system:serviceaccounts",
            `system:serviceaccounts:${systemNamespace}`,
            "system:authenticated",
          ],
          resourceAttributes,
        },
      },
    },
  );
  return answer.status?.allowed === true;
}
