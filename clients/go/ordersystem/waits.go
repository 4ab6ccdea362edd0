package ordersystem

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/status"
)

const (
	firstWait = 100 * time.Millisecond
	// Short, so that a service that is back after an outage is used again soon.
	longestWait = 2 * time.Second
)

// waits grow from 0.1 s to 2 s, spread at random so that clients do not come back all at once.
type waits struct {
	// Zero: firstWait.
	next time.Duration
}

// reset begins again with the shortest: something has worked.
func (w *waits) reset() { w.next = 0 }

// after says how long to wait after an error: never less than the service asks for.
func (w *waits) after(err *OrderError) time.Duration {
	grown := max(w.next, firstWait)
	w.next = min(grown*2, longestWait)
	wait := between(0.5, 1, grown)
	if err.RetryDelay != nil {
		wait = max(wait, between(1, 1.2, *err.RetryDelay))
	}
	return wait
}

func between(low, high float64, d time.Duration) time.Duration {
	return time.Duration((low + (high-low)*rand.Float64()) * float64(d))
}

// sleep waits, or says as gRPC would that the context has ended.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return OrderErrorOf(status.FromContextError(ctx.Err()).Err())
	}
}
