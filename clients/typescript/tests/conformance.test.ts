/** The scenarios that every client runs, over gRPC. */

import { connect } from "ordersystem-client/node";
import { testScenarios } from "./conformance.js";

testScenarios(
  (address, token) => {
    const transport = connect(address, undefined, { token });
    return { transport, close: () => transport.close() };
  },
  () => true,
);
