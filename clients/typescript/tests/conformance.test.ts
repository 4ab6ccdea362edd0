/** The scenarios that every client runs, over gRPC. */

import { connect } from "ordersystem-client/node";
import { testScenarios } from "./conformance.js";

testScenarios(
  (address) => {
    const transport = connect(address);
    return { transport, close: () => transport.close() };
  },
  () => true,
);
