package ordersystem

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"

	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
)

var errCancelled = errors.New("cancelled")

// HistoryMessage is a message of a followed history.
type HistoryMessage interface {
	*ordersv1.StreamEventsResponse | *ordersv1.StreamOrderHistoryResponse
	GetCursor() string
	GetCaughtUp() *ordersv1.CaughtUp
}

// FollowOption is an option of [FollowEvents] and [FollowOrder].
type FollowOption func(*followSettings)

type followSettings struct {
	// Zero: never.
	giveUpAfter time.Duration
}

// WithGiveUpAfter sets how long to try without a single message before the last error is returned. Without it: forever.
func WithGiveUpAfter(d time.Duration) FollowOption {
	return func(s *followSettings) { s.giveUpAfter = d }
}

// Follow is a stream that is reopened where it broke off: no message is lost or repeated.
//
// Read it in one goroutine; Cancel may be called from any. It holds a call open until it has ended: cancel it or its context after use.
// Headers of the context go with each opening of the stream. CaughtUp comes once, however often it is reopened. An error that a retry does
// not fix is returned as an [*OrderError].
type Follow[Message HistoryMessage] struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	open   func(context.Context) (receiver[Message], error)
	// Moves the place at which the stream is reopened past a message.
	note     func(Message)
	settings followSettings

	stream       receiver[Message]
	pauses       waits
	failingSince time.Time
	hasCaughtUp  bool
	cursor       string
	// The error that ended it.
	end error
}

type receiver[Message any] interface {
	Recv() (Message, error)
}

// FollowEvents gives the events of all orders, as StreamEvents with this request would, resumed by cursor whenever it breaks off.
// The request is not changed.
func FollowEvents(
	ctx context.Context,
	history ordersv1.OrderHistoryServiceClient,
	request *ordersv1.StreamEventsRequest,
	options ...FollowOption,
) *Follow[*ordersv1.StreamEventsResponse] {
	place := proto.CloneOf(request)
	open := func(ctx context.Context) (receiver[*ordersv1.StreamEventsResponse], error) {
		return history.StreamEvents(ctx, place)
	}
	note := func(message *ordersv1.StreamEventsResponse) {
		place.Start = ordersv1.StreamStart_STREAM_START_AFTER
		place.Cursor = message.GetCursor()
	}
	return newFollow(ctx, open, note, options)
}

// FollowOrder gives the history of one order, as StreamOrderHistory with this request would, resumed by revision. The request is not
// changed.
func FollowOrder(
	ctx context.Context,
	history ordersv1.OrderHistoryServiceClient,
	request *ordersv1.StreamOrderHistoryRequest,
	options ...FollowOption,
) *Follow[*ordersv1.StreamOrderHistoryResponse] {
	place := proto.CloneOf(request)
	open := func(ctx context.Context) (receiver[*ordersv1.StreamOrderHistoryResponse], error) {
		return history.StreamOrderHistory(ctx, place)
	}
	note := func(message *ordersv1.StreamOrderHistoryResponse) {
		if event := message.GetEvent(); event != nil {
			place.FromRevision = event.GetRevision() + 1
		}
	}
	return newFollow(ctx, open, note, options)
}

func newFollow[Message HistoryMessage](
	ctx context.Context,
	open func(context.Context) (receiver[Message], error),
	note func(Message),
	options []FollowOption,
) *Follow[Message] {
	ctx, cancel := context.WithCancelCause(ctx)
	f := &Follow[Message]{ctx: ctx, cancel: cancel, open: open, note: note}
	for _, option := range options {
		option(&f.settings)
	}
	return f
}

// Next waits for the next message. It returns [io.EOF] when the service has ended the stream or Cancel was called, and after an error
// the same error again.
func (f *Follow[Message]) Next() (Message, error) {
	for f.end == nil {
		message, err := f.receive()
		if err != nil {
			f.end = f.mend(err)
			continue
		}
		f.failingSince = time.Time{}
		f.pauses.reset()
		f.note(message)
		f.cursor = message.GetCursor()
		if message.GetCaughtUp() != nil {
			if f.hasCaughtUp {
				continue
			}
			f.hasCaughtUp = true
		}
		return message, nil
	}
	f.cancel(errCancelled)
	return nil, f.end
}

// All ranges over the messages. Only the last may come with an error, and is nil then. The loop may be left and resumed.
func (f *Follow[Message]) All() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			message, err := f.Next()
			if err == io.EOF || !yield(message, err) || err != nil {
				return
			}
		}
	}
}

// Cursor returns the cursor of the last message; keep it to resume from here later with STREAM_START_AFTER. Empty before the first.
func (f *Follow[Message]) Cursor() string { return f.cursor }

// Cancel ends the stream: Next then returns [io.EOF], also where it is waiting now.
func (f *Follow[Message]) Cancel() { f.cancel(errCancelled) }

func (f *Follow[Message]) isCancelled() bool { return context.Cause(f.ctx) == errCancelled }

func (f *Follow[Message]) receive() (Message, error) {
	if f.isCancelled() {
		return nil, io.EOF
	}
	if f.stream == nil {
		stream, err := f.open(f.ctx)
		if err != nil {
			return nil, err
		}
		f.stream = stream
	}
	return f.stream.Recv()
}

// mend waits before the stream is reopened; it returns the final error if that would not help.
func (f *Follow[Message]) mend(err error) error {
	f.stream = nil
	if err == io.EOF || f.isCancelled() {
		return io.EOF
	}
	facts := OrderErrorOf(err)
	if f.failingSince.IsZero() {
		f.failingSince = time.Now()
	}
	wait := f.pauses.after(facts)
	limit := f.settings.giveUpAfter
	if !facts.IsRetryable() || (limit > 0 && time.Since(f.failingSince)+wait > limit) {
		return facts
	}
	if err := sleep(f.ctx, wait); err != nil && f.isCancelled() {
		return io.EOF
	} else if err != nil {
		return err
	}
	return nil
}
