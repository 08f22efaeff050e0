/** The embedded data plane: an xDS client that listens, routes, balances and secures. */
export {};
