/**
 * Writes the Helm chart `deploy/helm/weft` from the manifests that `weft install` applies: one source for both.
 *
 *   node scripts/helm.ts            writes the chart
 *   node scripts/helm.ts --check    fails when the chart is not what the manifests make
 *
 * Where the chart has a value, the manifest is made with a word that YAML leaves alone, and that word is replaced
 * by the template's expression.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { definitions, type KubeObject, systemNamespace } from "../src/api/index.ts";
import { defaultImage, type Manifest, manifests, ownGroup } from "../src/install/index.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
/** Where the chart lives in the repository. */
export const chartFolder = join(root, "deploy/helm/weft");

const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };

const header = "# Written by scripts/helm.ts from what 'weft install' applies. Do not edit.\n";

/** Stands for a template's expression in a manifest; what YAML makes of it is found again. */
const hole = (expression: string) => `HOLE<${expression}>`;
const fill = (text: string) =>
  text.replace(/(["']?)HOLE<(.*?)>\1/g, (_, _quote, expression: string) => `{{ ${expression} }}`);

const guard = `{{- if ne .Release.Namespace "${systemNamespace}" }}
{{- fail "Weft lives in the namespace ${systemNamespace}: helm install ... --namespace ${systemNamespace} --create-namespace" }}
{{- end }}
`;

/** The chart's files by path. */
export function chart(): Map<string, string> {
  const all = manifests({ name: hole(".Values.clusterName | quote"), image: hole(".Values.image | quote") });
  const files = new Map<string, string>();
  const is = (manifest: Manifest, kind: string) => manifest.object.kind === kind;
  const ours = (manifest: Manifest) =>
    is(manifest, "CustomResourceDefinition") && manifest.object.metadata.name.endsWith(`.${ownGroup}`);

  files.set(
    "Chart.yaml",
    header +
      stringify({
        apiVersion: "v2",
        name: "weft",
        description: "Services that run in several Kubernetes clusters look like one: Weft's control plane.",
        type: "application",
        version,
        appVersion: version,
        kubeVersion: ">=1.28.0-0",
        keywords: ["multicluster", "service-mesh", "mcs"],
      }),
  );
  files.set("values.yaml", values);
  files.set("values.schema.json", `${JSON.stringify(schema, undefined, 2)}\n`);
  // Definitions that others install as well: Helm makes those that are not there, and never touches them again.
  for (const { object } of all.filter((m) => is(m, "CustomResourceDefinition") && !ours(m))) {
    files.set(`crds/${object.metadata.name}.yaml`, header + stringify(object));
  }
  files.set("templates/definitions.yaml", header + documents(all.filter(ours)));
  const access = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
  files.set(
    "templates/access.yaml",
    header + documents(all.filter(({ object }) => access.includes(object.kind))),
  );
  files.set("templates/dns.yaml", header + documents(all.filter((m) => is(m, "Service"))));
  const property = all.filter((m) => is(m, "ClusterProperty"));
  files.set(
    "templates/clusterproperty.yaml",
    `${header}{{- if .Values.clusterName }}\n${documents(property)}{{- end }}\n`,
  );
  files.set(
    "templates/deployment.yaml",
    header + guard + deployment(all.find((m) => is(m, "Deployment"))!.object),
  );
  files.set("templates/NOTES.txt", notes);
  return files;
}

function documents(of: readonly Manifest[]): string {
  return fill(of.map(({ object }) => stringify(object, { lineWidth: 0 })).join("---\n"));
}

/** Replicas are a number and the lease an argument: both are put in after YAML was made. */
function deployment(object: KubeObject): string {
  const text = fill(stringify(object, { lineWidth: 0 }));
  const spread = stringify([
    {
      maxSkew: 1,
      topologyKey: "kubernetes.io/hostname",
      whenUnsatisfiable: "ScheduleAnyway",
      labelSelector: { matchLabels: { app: "weft" } },
    },
  ]);
  return text
    .replace("value: embedded\n", "value: {{ .Values.proxy }}\n")
    .replace("  replicas: 1\n", "  replicas: {{ .Values.replicas }}\n")
    .replace(
      /^( +)serviceAccountName: .*\n/m,
      (line, indent: string) =>
        `${line}${indent}{{- if gt (int .Values.replicas) 1 }}\n${indent}topologySpreadConstraints:\n${indented(spread, `${indent}  `)}${indent}{{- end }}\n`,
    )
    .replace(
      /^( +)imagePullPolicy: .*\n/m,
      (line, indent: string) =>
        `${line}${indent}{{- if ne (int .Values.leaseDuration) 30 }}\n${indent}args:\n${indent}  - --lease-duration={{ .Values.leaseDuration }}\n${indent}{{- end }}\n`,
    )
    .replace(
      /^( +)resources:\n(?:\1 +.*\n)+/m,
      (_, indent: string) =>
        `${indent}resources: {{- toYaml .Values.resources | nindent ${indent.length + 2} }}\n`,
    );
}

function indented(text: string, indent: string): string {
  return text.replace(/^(?=.)/gm, indent);
}

const values = `${header}
# The cluster's name in the clusterset. Needed once, unless the cluster has a ClusterProperty
# cluster.clusterset.k8s.io already.
clusterName: ""

image: ${defaultImage}

# Control planes: one leads and writes, all of them answer DNS.
replicas: 1

# Seconds that peers wait for a sign of life before they withdraw this cluster's endpoints.
leaseDuration: 30

# What runs in sidecars and gateways unless a pod says otherwise: embedded or envoy.
proxy: embedded

resources:
  requests:
    cpu: 50m
    memory: 96Mi
`;

const schema = {
  $schema: "http://json-schema.org/draft-07/schema#",
  type: "object",
  additionalProperties: false,
  properties: {
    clusterName: {
      type: "string",
      pattern: "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?)?$",
    },
    image: { type: "string", minLength: 1 },
    replicas: { type: "integer", minimum: 1 },
    leaseDuration: { type: "integer", minimum: 3, maximum: 3600 },
    proxy: { enum: ["embedded", "envoy"] },
    resources: { type: "object" },
    global: { type: "object" },
  },
};

const notes = `Weft's control plane is being started in ${systemNamespace}.

{{ if .Release.IsUpgrade }}DNS and peers stay as they are.
{{- else }}Two things remain:

  1. Tell this cluster's DNS where clusterset.local is answered:
       weft install --dns-only --context CONTEXT [--patch-coredns]
  2. Join clusters:
       weft join CONTEXT CONTEXT
{{- end }}

'weft check --context CONTEXT' says what is missing.
{{- if not .Values.clusterName }}

No clusterName was given: the control plane waits until the cluster has one,
a ClusterProperty called cluster.clusterset.k8s.io.
{{- end }}
`;

/** What is in the repository and differs, by path. */
export function drift(): string[] {
  return [...chart()].flatMap(([path, text]) => {
    try {
      return readFileSync(join(chartFolder, path), "utf8") === text ? [] : [path];
    } catch {
      return [path];
    }
  });
}

if (import.meta.main) {
  if (process.argv.includes("--check")) {
    const differing = drift();
    for (const path of differing)
      console.error(`${join("deploy/helm/weft", path)} is not what the manifests make`);
    if (differing.length > 0) {
      console.error("  fix: node scripts/helm.ts");
      process.exitCode = 1;
    }
  } else {
    rmSync(chartFolder, { recursive: true, force: true });
    for (const [path, text] of chart()) {
      mkdirSync(dirname(join(chartFolder, path)), { recursive: true });
      writeFileSync(join(chartFolder, path), text);
    }
    console.log(
      `wrote ${chart().size} files, ${definitions().length} definitions among them, to ${chartFolder}`,
    );
  }
}
