package ordersystem

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const defaultSendTimeout = 30 * time.Second

// Command is a request that changes an order: CreateOrderRequest, PayOrderRequest and so on.
type Command interface {
	proto.Message
	GetRequestId() string
}

// SendOption is an option of [Send].
type SendOption func(*sendSettings)

type sendSettings struct {
	limitsAttempts bool
	attempts       int
	callOptions    []grpc.CallOption
}

// WithAttempts sets the maximum number of replies of the service, at least 1. Without it only time limits them. A connection that cannot be
// opened or that breaks does not count.
func WithAttempts(attempts int) SendOption {
	return func(s *sendSettings) { s.limitsAttempts, s.attempts = true, attempts }
}

// WithCallOptions gives options of gRPC to every attempt, such as [grpc.PerRPCCredentials].
func WithCallOptions(options ...grpc.CallOption) SendOption {
	return func(s *sendSettings) { s.callOptions = append(s.callOptions, options...) }
}

// Send sends a command and retries it until it is answered: Send(ctx, orders.PayOrder, &ordersv1.PayOrderRequest{...}).
//
// A command without a request id gets one, in place, so that it takes effect once however often it is sent; the same message sent again,
// after a DEADLINE_EXCEEDED for example, gets the first reply. Errors for which a retry may help ([OrderError.IsRetryable]) are retried,
// never earlier than the service requests, until the deadline of ctx, or for 30 s without one; no attempt starts later. Headers of ctx go
// with every attempt.
//
// The error is the [*OrderError] of the last attempt, or that of a context that ended while waiting.
func Send[C Command, Reply any](
	ctx context.Context,
	method func(context.Context, C, ...grpc.CallOption) (Reply, error),
	command C,
	options ...SendOption,
) (Reply, error) {
	var none Reply
	var settings sendSettings
	for _, option := range options {
		option(&settings)
	}
	if settings.limitsAttempts && settings.attempts < 1 {
		return none, errors.New("ordersystem: attempts must be at least 1")
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultSendTimeout)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	fillInRequestID(command)
	var pauses waits
	for {
		reply, err := method(ctx, command, settings.callOptions...)
		if err == nil {
			return reply, nil
		}
		facts := OrderErrorOf(err)
		if !facts.isOfConnection() {
			settings.attempts--
		}
		wait := pauses.after(facts)
		if (settings.limitsAttempts && settings.attempts == 0) || !facts.IsRetryable() || time.Until(deadline) <= wait {
			return none, facts
		}
		if err := sleep(ctx, wait); err != nil {
			return none, err
		}
	}
}

// fillInRequestID works by reflection, since generated messages have getters only.
func fillInRequestID(command Command) {
	if command.GetRequestId() != "" {
		return
	}
	message := command.ProtoReflect()
	field := message.Descriptor().Fields().ByName("request_id")
	message.Set(field, protoreflect.ValueOfString(uuid.NewString()))
}
