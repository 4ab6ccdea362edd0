// Asks a server for its health the way the gRPC probe of Kubernetes does: in the clear, connection and call together within
// the timeout, under the agent's own name; anything but SERVING is a failure.
//
// usage: kubelet HOST:PORT SERVICE TIMEOUT
//
// Prints one line; the exit code is 0 for success and 1 for failure.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func main() {
	timeout, err := time.ParseDuration(os.Args[3])
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	answer, ok := probe(os.Args[1], os.Args[2], timeout)
	fmt.Println(answer)
	if !ok {
		os.Exit(1)
	}
}

func probe(address, service string, timeout time.Duration) (string, bool) {
	within, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	connection, err := grpc.NewClient(
		"passthrough:///"+address,
		grpc.WithUserAgent("kube-probe/1.34"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		return err.Error(), false
	}
	defer connection.Close()
	// Waits for the connection as long as the timeout lasts, trying again meanwhile.
	request := &health.HealthCheckRequest{Service: service}
	reply, err := health.NewHealthClient(connection).Check(within, request, grpc.WaitForReady(true))
	if err != nil {
		return status.Code(err).String(), false
	}
	return reply.Status.String(), reply.Status == health.HealthCheckResponse_SERVING
}
