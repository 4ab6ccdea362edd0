// Made from clients/service_config.json. A module, so that browsers need no bundler that knows JSON.
export const SERVICE_CONFIG = {
  "methodConfig": [
    {
      "name": [
        {"service": "catga.orders.v1.OrderQueryService"},
        {"service": "catga.system.v1.SystemService", "method": "GetServerInfo"},
        {"service": "catga.system.v1.SystemService", "method": "GetCluster"},
        {"service": "catga.ids.v1.IdService", "method": "GenerateId"},
        {"service": "catga.ids.v1.IdService", "method": "GenerateIds"},
        {"service": "catga.ids.v1.IdService", "method": "ParseId"},
        {"service": "grpc.health.v1.Health", "method": "Check"}
      ],
      "retryPolicy": {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"]
      }
    }
  ],
  "retryThrottling": {
    "maxTokens": 100,
    "tokenRatio": 0.1
  }
} as const;
