package ordersystem_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

// failure is an error to answer with.
type failure struct {
	code    codes.Code
	details []proto.Message
	// In place of the details, if not empty.
	raw string
}

func fail(code codes.Code, details ...proto.Message) failure {
	return failure{code: code, details: details}
}

func (f failure) status() *statuspb.Status {
	status := &statuspb.Status{Code: int32(f.code), Message: "as scripted"}
	for _, detail := range f.details {
		packed, err := anypb.New(detail)
		if err != nil {
			panic(err)
		}
		status.Details = append(status.Details, packed)
	}
	return status
}

func info(reason string) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: reason, Domain: "ordersystem", Metadata: map[string]string{"order_id": "1"}}
}

func retryInfo(delay time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
}

// unavailable is the error of a broken connection: the service itself always gives a reason.
var unavailable = fail(codes.Unavailable)

var (
	shuttingDown = fail(codes.Unavailable, info("SHUTTING_DOWN"))
	overloaded   = fail(codes.ResourceExhausted, info("OVERLOADED"), retryInfo(300*time.Millisecond))
)

// fake is a server in this process that follows the script of a test: every call takes the next answer of the script, a message, a failure,
// or for a stream a list of both. A stream whose list has no failure stays open until the client ends it, or ends with OK where the list
// has an end.
type fake struct {
	ordersv1.UnimplementedOrderCommandServiceServer
	ordersv1.UnimplementedOrderQueryServiceServer
	ordersv1.UnimplementedOrderHistoryServiceServer

	address string
	mutex   sync.Mutex
	script  []any
	// The requests, with their times.
	requests []proto.Message
	times    []time.Time
	// The time limit of each unary call.
	allowed []time.Duration
	// The headers of each call.
	headers []metadata.MD
}

// end ends a stream with OK.
type end struct{}

func serve(t *testing.T, script ...any) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{address: listener.Addr().String(), script: script}
	server := grpc.NewServer()
	ordersv1.RegisterOrderCommandServiceServer(server, f)
	ordersv1.RegisterOrderQueryServiceServer(server, f)
	ordersv1.RegisterOrderHistoryServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return f
}

// connect opens a connection to an address that ends with the test.
func connect(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	connection, err := ordersystem.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func (f *fake) orders(t *testing.T) ordersv1.OrderCommandServiceClient {
	return ordersv1.NewOrderCommandServiceClient(connect(t, f.address))
}

func (f *fake) queries(t *testing.T) ordersv1.OrderQueryServiceClient {
	return ordersv1.NewOrderQueryServiceClient(connect(t, f.address))
}

func (f *fake) history(t *testing.T) ordersv1.OrderHistoryServiceClient {
	return ordersv1.NewOrderHistoryServiceClient(connect(t, f.address))
}

// asked returns how often the server has been called.
func (f *fake) asked() int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return len(f.requests)
}

func (f *fake) next(ctx context.Context, request proto.Message) any {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	headers, _ := metadata.FromIncomingContext(ctx)
	f.headers = append(f.headers, headers)
	f.requests = append(f.requests, request)
	f.times = append(f.times, time.Now())
	if len(f.script) == 0 {
		return fail(codes.OutOfRange)
	}
	answer := f.script[0]
	f.script = f.script[1:]
	return answer
}

func (f failure) answer(setTrailer func(metadata.MD)) error {
	if f.raw != "" {
		setTrailer(metadata.Pairs("grpc-status-details-bin", f.raw))
	}
	return status.ErrorProto(f.status())
}

func unary[Reply any](ctx context.Context, f *fake, request proto.Message) (*Reply, error) {
	answer := f.next(ctx, request)
	deadline, _ := ctx.Deadline()
	f.allowed = append(f.allowed, time.Until(deadline))
	switch answer := answer.(type) {
	case failure:
		return nil, answer.answer(func(trailer metadata.MD) { _ = grpc.SetTrailer(ctx, trailer) })
	default:
		return answer.(*Reply), nil
	}
}

func stream[Reply any](f *fake, request proto.Message, stream grpc.ServerStreamingServer[Reply]) error {
	answers, ok := f.next(stream.Context(), request).([]any)
	if !ok {
		return status.Error(codes.OutOfRange, "the script has ended")
	}
	for _, answer := range answers {
		switch answer := answer.(type) {
		case failure:
			return answer.answer(stream.SetTrailer)
		case end:
			return nil
		default:
			if err := stream.Send(answer.(*Reply)); err != nil {
				return err
			}
		}
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func (f *fake) CreateOrder(ctx context.Context, r *ordersv1.CreateOrderRequest) (*ordersv1.CreateOrderResponse, error) {
	return unary[ordersv1.CreateOrderResponse](ctx, f, r)
}

func (f *fake) PayOrder(ctx context.Context, r *ordersv1.PayOrderRequest) (*ordersv1.PayOrderResponse, error) {
	return unary[ordersv1.PayOrderResponse](ctx, f, r)
}

func (f *fake) GetOrder(ctx context.Context, r *ordersv1.GetOrderRequest) (*ordersv1.GetOrderResponse, error) {
	return unary[ordersv1.GetOrderResponse](ctx, f, r)
}

func (f *fake) ListOrders(ctx context.Context, r *ordersv1.ListOrdersRequest) (*ordersv1.ListOrdersResponse, error) {
	return unary[ordersv1.ListOrdersResponse](ctx, f, r)
}

func (f *fake) StreamEvents(r *ordersv1.StreamEventsRequest, s grpc.ServerStreamingServer[ordersv1.StreamEventsResponse]) error {
	return stream(f, r, s)
}

func (f *fake) StreamOrderHistory(r *ordersv1.StreamOrderHistoryRequest, s grpc.ServerStreamingServer[ordersv1.StreamOrderHistoryResponse]) error {
	return stream(f, r, s)
}
