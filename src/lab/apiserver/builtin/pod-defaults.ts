/** Defaults of pods and of templates for pods (kubernetes `pkg/apis/core/v1/defaults.go`). */
import { isObject, type JsonObject } from "../schema/index.ts";
import { at, ensure, fill, fillZero, record, records, text } from "./values.ts";

export function defaultPodTemplate(template: unknown): void {
  if (isObject(template)) defaultPodSpec(ensure(template, "spec"), false);
}

/** `isPod`: some defaults are for pods alone, so that templates stay as they were written. */
export function defaultPodSpec(spec: JsonObject, isPod: boolean): void {
  fillZero(spec, "dnsPolicy", "ClusterFirst");
  fillZero(spec, "restartPolicy", "Always");
  fill(spec, "securityContext", {});
  fill(spec, "terminationGracePeriodSeconds", 30);
  fillZero(spec, "schedulerName", "default-scheduler");
  // `serviceAccount` is the older name of the same field; an API server writes both.
  const account = text(spec.serviceAccountName) || text(spec.serviceAccount);
  if (account !== "") {
    fillZero(spec, "serviceAccountName", account);
    if (spec.serviceAccount !== spec.serviceAccountName) spec.serviceAccount = spec.serviceAccountName;
  }
  for (const volume of records(spec.volumes)) defaultVolume(volume);
  const containers = [...records(spec.initContainers), ...records(spec.containers)];
  for (const container of [...containers, ...records(spec.ephemeralContainers)]) defaultContainer(container);
  if (!isPod) return;
  fill(spec, "enableServiceLinks", true);
  for (const container of containers) {
    const limits = at(container, "resources", "limits");
    if (limits) fillAll(ensure(record(container.resources), "requests"), limits);
    if (spec.hostNetwork !== true) continue;
    for (const port of records(container.ports)) fillZero(port, "hostPort", port.containerPort);
  }
}

function fillAll(into: JsonObject, from: JsonObject): void {
  for (const [name, value] of Object.entries(from)) fill(into, name, value);
}

function defaultContainer(container: JsonObject): void {
  fillZero(
    container,
    "imagePullPolicy",
    tagOf(text(container.image)) === "latest" ? "Always" : "IfNotPresent",
  );
  fillZero(container, "terminationMessagePath", "/dev/termination-log");
  fillZero(container, "terminationMessagePolicy", "File");
  for (const port of records(container.ports)) fillZero(port, "protocol", "TCP");
  for (const variable of records(container.env)) {
    const from = at(variable, "valueFrom", "fieldRef");
    if (from) fillZero(from, "apiVersion", "v1");
  }
  for (const name of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    const probe = container[name];
    if (!isObject(probe)) continue;
    fillZero(probe, "timeoutSeconds", 1);
    fillZero(probe, "periodSeconds", 10);
    fillZero(probe, "successThreshold", 1);
    fillZero(probe, "failureThreshold", 3);
    defaultHttpGet(probe.httpGet);
    if (isObject(probe.grpc)) fill(probe.grpc, "service", "");
  }
  for (const name of ["postStart", "preStop"]) defaultHttpGet(at(container, "lifecycle", name)?.httpGet);
}

function defaultHttpGet(action: unknown): void {
  if (!isObject(action)) return;
  fillZero(action, "path", "/");
  fillZero(action, "scheme", "HTTP");
}

const modes = ["secret", "configMap", "downwardAPI", "projected"];

function defaultVolume(volume: JsonObject): void {
  if (!Object.entries(volume).some(([name, source]) => name !== "name" && isObject(source)))
    volume.emptyDir = {};
  for (const name of modes) {
    const source = volume[name];
    if (isObject(source)) fill(source, "defaultMode", 0o644);
  }
  for (const item of records(record(volume.downwardAPI).items)) defaultFieldRef(item);
  for (const source of records(record(volume.projected).sources)) {
    const token = source.serviceAccountToken;
    if (isObject(token)) fill(token, "expirationSeconds", 3600);
    for (const item of records(record(source.downwardAPI).items)) defaultFieldRef(item);
  }
  if (isObject(volume.hostPath)) fill(volume.hostPath, "type", "");
  const claim = at(volume, "ephemeral", "volumeClaimTemplate", "spec");
  if (claim) fill(claim, "volumeMode", "Filesystem");
}

function defaultFieldRef(item: JsonObject): void {
  if (isObject(item.fieldRef)) fillZero(item.fieldRef, "apiVersion", "v1");
}

/** The tag of an image's name: `latest` when it names neither tag nor digest, nothing when only a digest. */
export function tagOf(image: string): string {
  const [name = "", digest] = image.split("@");
  const tag = /:([^:/]+)$/.exec(name)?.[1];
  return tag ?? (digest === undefined ? "latest" : "");
}
