/** A mesh's discovery on one page: sources → traffic → xDS, certificates, webhook, conditions. */
export {};
