/** Where a pair of real clusters is: `~/.weft/real`, laid out as a lab's directory is. */
import { join } from "node:path";
import { LabState, weftHome } from "../../../src/lab/index.ts";

export const openState = () => new LabState(join(weftHome(), "real"));

/** All images, as an OCI image layout. */
export const imagesDir = (state: LabState) => join(state.dir, "images");

/** The directories of the control groups that everything of the pair is in, JSON. */
export const groupsFile = (state: LabState) => join(state.dir, "groups.json");
