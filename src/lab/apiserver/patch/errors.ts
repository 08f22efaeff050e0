/** A patch that cannot be applied. `code` is the HTTP status that an API server answers with. */
export class PatchError extends Error {
  readonly code: 400 | 409 | 413 | 422 | 500;

  constructor(code: 400 | 409 | 413 | 422 | 500, message: string) {
    super(message);
    this.name = "PatchError";
    this.code = code;
  }
}
