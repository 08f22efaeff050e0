/** `--proxy`, the same for `weft install`, `weft up` and the control plane. */
import { Option } from "commander";

export function proxyOption(): Option {
  return new Option(
    "--proxy <implementation>",
    "what runs in sidecars and gateways unless a pod says otherwise",
  ).choices(["embedded", "envoy"]);
}
