/** The lab's kubelet: pods of one node as processes on this machine. */

export { type Node, type NodeOptions, startNode } from "./kubelet.ts";
export { packageMount, programsMount } from "./machine.ts";
export { kubeletPort } from "./node-status.ts";
