/** Kinds of Kubernetes 1.36 that this server leaves out: their refusals name them. `docs/lab.md` lists them too. */

const unserved: Record<string, string[]> = {
  "": ["componentstatuses", "replicationcontrollers"],
  "admissionregistration.k8s.io": [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
  ],
  "apiregistration.k8s.io": ["apiservices"],
  autoscaling: ["horizontalpodautoscalers"],
  batch: ["cronjobs"],
  "certificates.k8s.io": ["certificatesigningrequests"],
  "flowcontrol.apiserver.k8s.io": ["flowschemas", "prioritylevelconfigurations"],
  "networking.k8s.io": ["ipaddresses", "servicecidrs"],
  "node.k8s.io": ["runtimeclasses"],
  "resource.k8s.io": ["deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"],
  "storage.k8s.io": [
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "volumeattachments",
    "volumeattributesclasses",
  ],
};

/** Whether Kubernetes has this kind, in some version, and this server does not. */
export function isUnserved(group: string, plural: string): boolean {
  return Object.hasOwn(unserved, group) && unserved[group]!.includes(plural);
}
