/** Maps errors of broken connections to the code of gRPC. */

import { Code, ConnectError, type Interceptor, type StreamResponse } from "@connectrpc/connect";

/**
 * Gives errors of a broken connection the code `Unavailable`, as every gRPC library does. The transports of Connect use `Aborted`,
 * `Canceled`, `Internal` or `Unknown` for them, depending on how and when it breaks.
 *
 * @param isClosed whether the client itself has closed the connection
 */
export function brokenIsUnavailable(isClosed: () => boolean): Interceptor {
  return (next) => async (request) => {
    const seen = (error: unknown) =>
      request.signal.aborted || isClosed() || !isBrokenConnection(error) ? error : unavailable(error);
    try {
      const reply = await next(request);
      return reply.stream ? { ...reply, message: watched(reply, seen) } : reply;
    } catch (error) {
      throw seen(error);
    }
  };
}

async function* watched(reply: StreamResponse, seen: (error: unknown) => unknown): StreamResponse["message"] {
  try {
    yield* reply.message;
  } catch (error) {
    throw seen(error);
  }
}

/** Whether the connection failed, not the service or the transferred data. */
function isBrokenConnection(error: unknown): boolean {
  const { code, metadata, cause, rawMessage } = ConnectError.from(error);
  if (metadata.has("grpc-status")) {
    return false;
  }
  if (code === Code.Aborted || code === Code.Canceled) {
    // The caller has not ended the call, so the peer is gone.
    return true;
  }
  const isCutShort = /missing (status|trailer)/.test(rawMessage);
  const isOfNetwork =
    cause instanceof TypeError || (cause instanceof Error && "code" in cause && typeof cause.code === "string");
  return (code === Code.Internal || code === Code.Unknown) && (isCutShort || isOfNetwork);
}

function unavailable(error: unknown): ConnectError {
  const { rawMessage, metadata } = ConnectError.from(error);
  return new ConnectError(rawMessage, Code.Unavailable, metadata, undefined, error);
}
