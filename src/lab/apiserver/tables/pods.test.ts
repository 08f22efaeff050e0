import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Cell } from "./index.ts";
import { ago, type Loose, row } from "./testing.ts";

describe("the states of a pod", () => {
  const waiting = (reason: string, restartCount = 0) => ({
    name: "a",
    ready: false,
    restartCount,
    state: { waiting: { reason } },
  });
  const terminated = (exitCode: number, reason?: string, signal?: number) => ({
    name: "a",
    ready: false,
    restartCount: 0,
    state: { terminated: { exitCode, reason, signal } },
  });
  const running = { name: "a", ready: true, restartCount: 0, state: { running: {} } };
  const ready = [{ type: "Ready", status: "True" }];
  const two = [{ name: "a" }, { name: "b" }];

  const cases: [string, Loose, Record<string, Cell>][] = [
    ["not yet scheduled", { status: { phase: "Pending" } }, { STATUS: "Pending", READY: "0/1" }],
    [
      "held by a scheduling gate",
      {
        status: {
          phase: "Pending",
          conditions: [{ type: "PodScheduled", status: "False", reason: "SchedulingGated" }],
        },
      },
      { STATUS: "SchedulingGated" },
    ],
    ...["ContainerCreating", "ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"].map(
      (reason): [string, Loose, Record<string, Cell>] => [
        `waiting: ${reason}`,
        { status: { phase: "Pending", containerStatuses: [waiting(reason)] } },
        { STATUS: reason, READY: "0/1" },
      ],
    ),
    [
      "crashing",
      {
        status: {
          phase: "Running",
          containerStatuses: [
            {
              ...waiting("CrashLoopBackOff", 3),
              lastState: { terminated: { exitCode: 1, finishedAt: ago(5) } },
            },
          ],
        },
      },
      { STATUS: "CrashLoopBackOff", RESTARTS: "3 (5s ago)", READY: "0/1" },
    ],
    [
      "of two restarts the later one is told",
      {
        spec: { containers: two },
        status: {
          phase: "Running",
          containerStatuses: [
            { ...running, restartCount: 1, lastState: { terminated: { finishedAt: ago(90) } } },
            { ...running, restartCount: 2, lastState: { terminated: { finishedAt: ago(30) } } },
          ],
        },
      },
      { STATUS: "Running", RESTARTS: "3 (30s ago)", READY: "2/2" },
    ],
    [
      "done",
      { status: { phase: "Succeeded", containerStatuses: [terminated(0, "Completed")] } },
      { STATUS: "Completed", READY: "0/1" },
    ],
    [
      "failed",
      { status: { phase: "Failed", containerStatuses: [terminated(1, "Error")] } },
      { STATUS: "Error" },
    ],
    [
      "ended without a reason, by exit code",
      { status: { phase: "Failed", containerStatuses: [terminated(3)] } },
      { STATUS: "ExitCode:3" },
    ],
    [
      "ended without a reason, by signal",
      { status: { phase: "Failed", containerStatuses: [terminated(137, undefined, 9)] } },
      { STATUS: "Signal:9" },
    ],
    [
      "one of two done, the other ready",
      {
        spec: { containers: two },
        status: {
          phase: "Running",
          conditions: ready,
          containerStatuses: [terminated(0, "Completed"), running],
        },
      },
      { STATUS: "Running", READY: "1/2" },
    ],
    [
      "one of two done, the other running in a pod that is not ready",
      {
        spec: { containers: two },
        status: { phase: "Running", containerStatuses: [terminated(0, "Completed"), running] },
      },
      { STATUS: "NotReady", READY: "1/2" },
    ],
    [
      "one of two done, the other failed",
      {
        spec: { containers: two },
        status: {
          phase: "Failed",
          containerStatuses: [terminated(0, "Completed"), terminated(2, "Error")],
        },
      },
      { STATUS: "Error" },
    ],
    ["evicted", { status: { phase: "Failed", reason: "Evicted" } }, { STATUS: "Evicted" }],
    [
      "being deleted",
      {
        metadata: { deletionTimestamp: ago(1) },
        status: { phase: "Running", containerStatuses: [running] },
      },
      { STATUS: "Terminating", READY: "1/1" },
    ],
    [
      "being deleted when already done",
      {
        metadata: { deletionTimestamp: ago(1) },
        status: { phase: "Succeeded", containerStatuses: [terminated(0, "Completed")] },
      },
      { STATUS: "Completed" },
    ],
    [
      "on a lost node",
      { metadata: { deletionTimestamp: ago(1) }, status: { phase: "Running", reason: "NodeLost" } },
      { STATUS: "Unknown" },
    ],
    [
      "the first of two init containers running",
      {
        spec: { containers: [{ name: "a" }], initContainers: two },
        status: {
          phase: "Pending",
          initContainerStatuses: [
            { name: "a", state: { running: {} } },
            { name: "b", state: { waiting: { reason: "PodInitializing" } } },
          ],
          containerStatuses: [waiting("PodInitializing")],
        },
      },
      { STATUS: "Init:0/2" },
    ],
    [
      "the second of two init containers running",
      {
        spec: { containers: [{ name: "a" }], initContainers: two },
        status: {
          phase: "Pending",
          initContainerStatuses: [
            { name: "a", state: { terminated: { exitCode: 0 } } },
            { name: "b", state: { running: {} } },
          ],
        },
      },
      { STATUS: "Init:1/2" },
    ],
    [
      "a failed init container",
      {
        spec: { containers: [{ name: "a" }], initContainers: two },
        status: { phase: "Pending", initContainerStatuses: [terminated(1, "Error")] },
      },
      { STATUS: "Init:Error" },
    ],
    [
      "a failed init container without a reason",
      {
        spec: { containers: [{ name: "a" }], initContainers: two },
        status: { phase: "Pending", initContainerStatuses: [terminated(4)] },
      },
      { STATUS: "Init:ExitCode:4" },
    ],
    [
      "an init container in back-off",
      {
        spec: { containers: [{ name: "a" }], initContainers: two },
        status: { phase: "Pending", initContainerStatuses: [waiting("CrashLoopBackOff", 2)] },
      },
      { STATUS: "Init:CrashLoopBackOff", RESTARTS: "2" },
    ],
    [
      "a sidecar counts as a container",
      {
        spec: { containers: [{ name: "a" }], initContainers: [{ name: "proxy", restartPolicy: "Always" }] },
        status: {
          phase: "Running",
          conditions: [{ type: "Initialized", status: "True" }],
          initContainerStatuses: [
            { name: "proxy", started: true, ready: true, restartCount: 1, state: { running: {} } },
          ],
          containerStatuses: [running],
        },
      },
      { STATUS: "Running", READY: "2/2", RESTARTS: "1" },
    ],
    [
      "readiness gates",
      {
        spec: {
          containers: [{ name: "a" }],
          readinessGates: [{ conditionType: "x" }, { conditionType: "y" }],
        },
        status: {
          phase: "Running",
          conditions: [{ type: "x", status: "True" }],
          containerStatuses: [running],
        },
      },
      { "READINESS GATES": "1/2" },
    ],
    ["as it was created", {}, { STATUS: "", IP: "<none>", NODE: "<none>" }],
  ];
  for (const [state, object, expected] of cases) {
    test(state, () => {
      const shown = row("", "Pod", { spec: { containers: [{ name: "a" }] }, ...object });
      for (const [column, value] of Object.entries(expected)) assert.equal(shown[column], value, column);
    });
  }
});
