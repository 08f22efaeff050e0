/**
 * Node's flags for programs that do little most of the time: half of what it sets aside for itself. A heap that may
 * become as large as a machine's memory allows is collected when it is four times what lived in it, one of 1 GB much
 * sooner.
 */
export const leanNode = ["--max-semi-space-size=2", "--max-old-space-size=1000", "--v8-pool-size=1"];
