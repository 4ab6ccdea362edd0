package ordersystem

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/status"
)

const (
	firstWait = 100 * time.Millisecond
	// Short, so that a service is used again soon after an outage.
	longestWait = 2 * time.Second
)

// waits grow from 0.1 s to 2 s, with jitter so that clients do not all return at once.
type waits struct {
	// Zero: firstWait.
	next time.Duration
}

// reset returns to the shortest delay, after a success.
func (w *waits) reset() { w.next = 0 }

// after is the delay after an error: at least the one that the service requests.
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

// sleep waits, or returns gRPC's error for a context that has ended.
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
