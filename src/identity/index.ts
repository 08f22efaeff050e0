/** Trust domains, the certificate authority, and workload certificates: both ends. */
export {};
