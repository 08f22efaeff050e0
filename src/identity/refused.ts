/** Why a signing request is refused: the sentence is for whoever sent it. */
export class RequestRefused extends Error {}
