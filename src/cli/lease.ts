/** `--lease-duration`, which `weft install` hands to the control plane. */
import { InvalidArgumentError, Option } from "commander";

/** Seconds after which a cluster that gives no sign of life is given up by its peers. */
export function leaseOption(): Option {
  return new Option(
    "--lease-duration <seconds>",
    "how long peers wait for a sign of life before they withdraw this cluster's endpoints (default: 30)",
  ).argParser((text) => {
    const seconds = Number(text);
    if (!Number.isInteger(seconds) || seconds < 3 || seconds > 3600) {
      throw new InvalidArgumentError("It is not a whole number from 3 to 3600.");
    }
    return seconds;
  });
}
