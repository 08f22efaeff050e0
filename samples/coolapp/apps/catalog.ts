/**
 * The images of `catalog`: `catalog v1 from '6d6b478456-9vsm2': 1`, with the version that `--version` says, the pod's
 * name without that of its Deployment, and the number of requests that this pod has answered.
 */
import { hostname } from "node:os";
import { serve } from "./serve.ts";

const pod = hostname().replace(/^catalog-v\d+-/, "");
let requests = 0;

serve({ version: "v1" }, ({ version }) => {
  requests += 1;
  return { text: `catalog ${version} from '${pod}': ${requests}\n` };
});
