/** Images of the lab: names that stand for programs on this machine. */
export { bundleImage, nativePackages, type PodBundle, podBundle } from "./bundle.ts";
export { envoyVersion, findEnvoy, requireEnvoy } from "./envoy.ts";
export {
  type AddedImage,
  commandOf,
  type Image,
  type Images,
  type ImagesOptions,
  InvalidImageName,
  imagePath,
  openImages,
  readAdded,
  UnknownImage,
} from "./images.ts";
export { formatImageName, type ImageName, parseImageName, repositoryOf } from "./names.ts";
