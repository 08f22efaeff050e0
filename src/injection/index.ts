/** The sidecar webhook: a pod becomes the same pod with a proxy and redirection. */
export {};
