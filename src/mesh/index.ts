/** ServiceMeshControlPlane and member roll: what a mesh consists of in its cluster, and its status. */
export {};
