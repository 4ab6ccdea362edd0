package ordersystem

import (
	_ "embed"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// ServiceConfig is the gRPC service config of every connection, as JSON: queries are retried when the service is UNAVAILABLE,
// commands are not. Commands are retried by [Send], which knows that they have a request id.
//
//go:embed service_config.json
var ServiceConfig string

// Connect opens a connection to address (host:port). Close it after use.
//
// Without options it speaks plain text; give grpc.WithTransportCredentials for TLS. The options are applied after those of the client, and
// override them. As with [grpc.NewClient] nothing is sent before the first call, and an error here is one of the arguments.
func Connect(address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	all := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("ordersystem-client-go/" + Version),
		grpc.WithDefaultServiceConfig(ServiceConfig),
		// A service config found by the resolver would take the place of this one, and might retry commands.
		grpc.WithDisableServiceConfig(),
		// After a restart the service may be back within a second; gRPC's default maximum backoff is two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestWait},
			MinConnectTimeout: 20 * time.Second,
		}),
		// Detects a dead peer even while nothing is being sent, as on a followed stream.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
	}
	return grpc.NewClient(address, append(all, options...)...)
}
