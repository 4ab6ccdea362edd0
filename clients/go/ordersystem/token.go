package ordersystem

import (
	"context"
	"os"
	"strings"

	"google.golang.org/grpc"
)

// TokenSource returns the token for one attempt of a call; an empty one sends none. It may be called by several goroutines at once.
type TokenSource func(context.Context) (string, error)

// WithToken is an option of [Connect]: each attempt of each call has the token that source returns then, so that a token that is renewed is
// used at once. An error of source ends the call with UNAUTHENTICATED. Without TLS the token is sent in plain text.
func WithToken(source TokenSource) grpc.DialOption {
	return grpc.WithPerRPCCredentials(bearer{source})
}

// TokenFile reads the token from a file for each attempt. Replace the file by renaming another one to its name, so that no call reads half of it.
func TokenFile(path string) TokenSource {
	return func(context.Context) (string, error) {
		token, err := os.ReadFile(path)
		return strings.TrimSpace(string(token)), err
	}
}

type bearer struct{ source TokenSource }

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.source(ctx)
	if err != nil || token == "" {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is false for a service on the same machine, and behind a proxy that speaks TLS.
func (b bearer) RequireTransportSecurity() bool { return false }
